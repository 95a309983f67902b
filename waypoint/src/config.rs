//! Everything a waypoint can be told, read once from the environment. Owns which settings exist and what they mean
//! together; reading one is `process::config`'s, and those that all proxies have are `proxy`'s.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use ambit_hbone::Windows;
use ambit_model::address::NetworkAddress;
use ambit_model::name::{Identity, Label, ServiceAccount, ServiceKey};
use ambit_model::route::Waypoint;
use ambit_process::config::{Faults, Key, Source, duration, flag, number, text};
use ambit_process::observe::LogConfig;
use ambit_proxy::control::{Control, Us};
use ambit_proxy::place::{self, Place};
use ambit_proxy::ports::Ports;
use ambit_proxy::terms;
use ambit_tls::configs::control_plane::RootSource;
use ambit_tls::credential::Terms;
use ambit_wire::node_link::PodInfo;
use ipnet::IpNet;

use crate::keys::KeySettings;
use crate::room::memory;

/// All settings.
#[derive(Clone)]
pub struct Config {
    /// Whose waypoint we are: the host of the Gateway's service, and our own addresses.
    pub waypoint: Waypoint,
    /// Our pod.
    pub pod: PodInfo,
    /// As whom we speak.
    pub identity: Identity,
    /// Where we run.
    pub place: Place,
    /// Our own ports.
    pub ports: Ports,
    /// Where tunnels are taken; none: at all addresses.
    pub listen: Option<IpAddr>,
    /// Whether IPv6 is used at all.
    pub ipv6: bool,
    /// How peers must prove themselves.
    pub terms: Terms,
    /// Where the world and certificates come from.
    pub control: Control,
    /// How long new tunnels are still taken after a stop, for those who have not heard of it.
    pub grace: Duration,
    /// How long open requests may go on after that.
    pub drain: Duration,
    /// When keys of those who issue tokens are fetched.
    pub keys: KeySettings,
    /// Where hosts below wildcards of service entries may be, beside public addresses.
    pub outside: Vec<IpNet>,
    /// Who vouches for servers outside of the mesh, where nobody else was named.
    pub roots: RootSource,
    /// Traffic threads.
    pub threads: usize,
    /// How long a body may stand still; none: any time.
    pub idle: Option<Duration>,
    /// How long a client of a port that does not say what is spoken there may be silent and still be heard.
    pub silence: Duration,
    /// Whether applications are told who asks.
    pub tell_client: bool,
    /// Within what time connections are opened anew when a replica has come; zero: they stay.
    pub rebalance: Duration,
    /// Requests that may be under way at a time.
    pub requests: usize,
    /// What may be under way to us in tunnels.
    pub windows: Windows,
    /// The log.
    pub log: LogConfig,
    /// The mesh's version, shown in metrics.
    pub mesh_version: Label,
}

const GATEWAY: Key<Option<String>> =
    Key::new("GATEWAY_NAME", "the name of our Gateway", |t| text(t).map(Some), || None);
const SERVICE: Key<Option<String>> = Key::new(
    "GATEWAY_SERVICE",
    "the name of our Gateway's service; without a word, it is called as the Gateway",
    |t| text(t).map(Some),
    || None,
);
const ACCOUNT: Key<Option<String>> = Key::new(
    "SERVICE_ACCOUNT",
    "our service account; without a word, it is called as the service",
    |t| text(t).map(Some),
    || None,
);
const POD: Key<Option<String>> = Key::new("POD_NAME", "our pod's name", |t| text(t).map(Some), || None);
const NAMESPACE: Key<Option<String>> =
    Key::new("POD_NAMESPACE", "our pod's namespace, which is the Gateway's", |t| text(t).map(Some), || None);
const ADDRESS: Key<Option<IpAddr>> = Key::new(
    "INSTANCE_IP",
    "our pod's address",
    |t| t.parse().map(Some).map_err(|_| "write an IP address".into()),
    || None,
);
const LISTEN: Key<Option<IpAddr>> = Key::new(
    "LISTEN_ADDRESS",
    "the address where tunnels are taken; without a word, all",
    |t| t.parse().map(Some).map_err(|_| "write an IP address".into()),
    || None,
);
const DOMAIN: Key<String> =
    Key::new("TRUST_DOMAIN", "the trust domain of our identity", text, || "cluster.local".into());
const IPV6: Key<bool> = Key::new("IPV6_ENABLED", "use IPv6", flag, || true);
const GRACE: Key<Duration> = Key::new(
    "DRAIN_GRACE",
    "how long a stopping waypoint takes new work from those who have not heard of it",
    duration,
    || Duration::from_secs(5),
);
const THREADS: Key<usize> =
    Key::new("WAYPOINT_THREADS", "traffic threads; 0 for one per core, up to 4", number, || 0);
const IDLE: Key<Duration> = Key::new(
    "STREAM_IDLE_TIMEOUT",
    "how long a request's or an answer's body may stand still; 0 for any time",
    duration,
    || Duration::from_secs(3600),
);
const SILENCE: Key<Duration> = Key::new(
    "PROTOCOL_DETECTION_TIMEOUT",
    "how long a client of a port that does not say what is spoken there is listened to; then it is carried as TCP",
    duration,
    || Duration::from_millis(200),
);
const TELL_CLIENT: Key<bool> = Key::new(
    "XFCC_INCLUDE_CLIENT_IDENTITY",
    "tell applications in x-forwarded-client-cert who asks",
    flag,
    || false,
);
const REQUESTS: Key<usize> = Key::new(
    "WAYPOINT_MAX_REQUESTS",
    "requests that may be under way at a time; 0 for as many as memory allows",
    number,
    || 0,
);
const REBALANCE: Key<Duration> = Key::new(
    "WAYPOINT_REBALANCE_WINDOW",
    "within what time clients are asked to open their connections anew when a replica has come; 0 to leave them",
    duration,
    || Duration::from_secs(60),
);
const OUTSIDE: Key<Vec<IpNet>> = Key::new(
    "DYNAMIC_DNS_RANGES",
    "where hosts below wildcards of service entries may be beside public addresses: ranges, with commas between",
    |t| {
        let range =
            |it: &str| it.trim().parse().map_err(|_| format!("write ranges like 10.0.0.0/8, not {it:?}"));
        t.split(',').filter(|it| !it.trim().is_empty()).map(range).collect()
    },
    Vec::new,
);
const ROOTS: Key<Option<String>> = Key::new(
    "TLS_ROOT_CA",
    "who vouches for servers outside of the mesh: a file with certificates; without a word, the system's",
    |t| text(t).map(Some),
    || None,
);
const MESH_VERSION: Key<String> =
    Key::new("ISTIO_META_ISTIO_VERSION", "shown in metrics", text, || "unknown".into());

/// More threads cost memory before they help.
const THREADS_MOST: usize = 4;
/// More threads than any machine is known to need.
const THREADS_EVER: usize = 256;

/// Streams of a tunnel are requests of many: one that stands still holds a quarter of a MiB, and a hundred of them
/// leave the others of their tunnel room.
const WINDOWS: Windows = Windows { stream: 256 * 1024, tunnel: 32 * 1024 * 1024, frame: 256 * 1024 };

impl Config {
    /// Reads everything.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn read(source: &dyn Source) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let f = &mut faults;
        let place = Place::read(source, f);
        let (pod, gateway, service) = gateway(source, f, &place.domain);
        let trust_domain = DOMAIN.read(source, f);
        let identity = Identity {
            trust_domain: name(f, DOMAIN.name, trust_domain).unwrap_or_default(),
            namespace: pod.namespace.clone(),
            service_account: pod.service_account.clone(),
        };
        let address = ADDRESS.read(source, f);
        let addresses =
            address.map(|ip| NetworkAddress::new(place.network.clone(), ip)).into_iter().collect();
        let terms = terms::read(source, f);
        let us = Us {
            kind: "waypoint",
            node: place.node.as_str(),
            cluster: &place.cluster,
            shared: false,
            terms: &terms,
        };
        let this = Self {
            waypoint: Waypoint { gateway, service, network: place.network.clone(), addresses },
            control: Control::read(source, f, &us),
            ports: Ports { admin: 15000, stats: 15020, readiness: 15021 },
            listen: LISTEN.read(source, f),
            ipv6: IPV6.read(source, f),
            grace: GRACE.read(source, f),
            drain: place::drain(source, f),
            keys: KeySettings::read(source, f),
            outside: OUTSIDE.read(source, f),
            roots: ROOTS.read(source, f).map_or(RootSource::System, |path| RootSource::File(path.into())),
            threads: threads(THREADS.read(source, f)),
            idle: Some(IDLE.read(source, f)).filter(|idle| !idle.is_zero()),
            silence: SILENCE.read(source, f),
            tell_client: TELL_CLIENT.read(source, f),
            rebalance: REBALANCE.read(source, f),
            requests: match REQUESTS.read(source, f) {
                0 => memory::requests(),
                given => given,
            },
            windows: WINDOWS,
            log: LogConfig::read(source, f, "ambit_waypoint::"),
            mesh_version: MESH_VERSION.read(source, f).into(),
            pod,
            identity,
            place,
            terms,
        };
        faults.into_result(this)
    }
}

/// Who we are, and the service of our Gateway.
fn gateway(source: &dyn Source, f: &mut Faults, domain: &str) -> (PodInfo, Label, ServiceKey) {
    let given = GATEWAY.require(source, f).unwrap_or_else(|| "unknown".into());
    let namespace = NAMESPACE.require(source, f).unwrap_or_else(|| "default".into());
    let (service, named_by) = match SERVICE.read(source, f) {
        Some(service) => (service, SERVICE.name),
        None => (given.clone(), GATEWAY.name),
    };
    let account = ACCOUNT.read(source, f).unwrap_or_else(|| service.clone());
    let host = name(f, named_by, format!("{service}.{namespace}.svc.{domain}"));
    let namespace = name(f, NAMESPACE.name, namespace);
    let pod = PodInfo {
        name: POD.read(source, f).unwrap_or_default().into(),
        namespace: namespace.unwrap_or_else(fallback),
        service_account: name::<ServiceAccount>(f, ACCOUNT.name, account).unwrap_or_default(),
    };
    let key = ServiceKey { namespace: pod.namespace.clone(), hostname: host.unwrap_or_else(fallback) };
    (pod, given.into(), key)
}

/// Stands in until the faults are reported.
#[expect(clippy::expect_used, reason = "a word of letters is a name of any kind")]
fn fallback<T: std::str::FromStr<Err = ambit_model::name::NameError>>() -> T {
    "unknown".parse().expect("a word of letters")
}

fn name<T>(f: &mut Faults, key: &str, given: String) -> Option<T>
where
    T: std::str::FromStr<Err = ambit_model::name::NameError>,
{
    given.parse().map_err(|error: ambit_model::name::NameError| f.add(key, given, error.to_string())).ok()
}

fn threads(wanted: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_MOST);
    if wanted == 0 { cores() } else { wanted.min(THREADS_EVER) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, Faults> {
        Config::read(
            &pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<BTreeMap<String, String>>(),
        )
    }

    #[test]
    fn a_waypoint_is_who_its_gateway_is_unless_it_is_told_otherwise() {
        let given = [("GATEWAY_NAME", "way"), ("POD_NAMESPACE", "shop"), ("INSTANCE_IP", "10.0.0.9")];
        let config = read(&given).unwrap();
        assert_eq!(config.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/way");
        assert_eq!(config.waypoint.service.to_string(), "shop/way.shop.svc.cluster.local");
        assert_eq!((config.waypoint.name(), config.waypoint.addresses.len()), ("way", 1));
        let other = [("GATEWAY_SERVICE", "other")];
        let config = read(&[&given[..], &other[..]].concat()).unwrap();
        assert_eq!(config.waypoint.service.to_string(), "shop/other.shop.svc.cluster.local");
        assert_eq!((config.waypoint.name(), config.identity.service_account.as_str()), ("way", "other"));
        let more = [("SERVICE_ACCOUNT", "cart"), ("TRUST_DOMAIN", "td"), ("CLUSTER_DOMAIN", "k8s.example")];
        let config = read(&[&given[..], &more[..]].concat()).unwrap();
        assert_eq!(config.identity.to_string(), "spiffe://td/ns/shop/sa/cart");
        assert_eq!(config.waypoint.service.to_string(), "shop/way.shop.svc.k8s.example");
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_at_once() {
        let faults = read(&[("INSTANCE_IP", "here"), ("TRUST_DOMAIN", "a/b")]).err().unwrap();
        let names: Vec<_> = faults.all().iter().map(|fault| fault.name.as_str()).collect();
        assert_eq!(names, ["GATEWAY_NAME", "POD_NAMESPACE", "TRUST_DOMAIN", "INSTANCE_IP"]);
    }
}
