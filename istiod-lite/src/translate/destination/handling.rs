//! What the parts of a traffic policy mean to waypoints: pure. Owns defaults, and the words for what is not gone by.

use std::time::Duration;

use ambit_cluster::kinds::destination_rule::{
    ClientTls, ConnectionPool, ConsistentHash, H2Upgrade, HttpPool, LoadBalancer, LocalityLb,
    OutlierDetection, PortPolicy, ProxyProtocol, Simple, TcpPool, TrafficPolicy,
};
use ambit_cluster::kinds::duration::span;
use ambit_model::http_route::{Broken, RetryBudget};
use ambit_model::service::Scope;
use ambit_model::traffic::{
    Balance, Handling, HashBy, HashTable, Limits, Near, Origination, Outlier, Place, Proxied, Shares,
    Version, Wanted, Warmup,
};
use serde_json::Number;

use super::credential::Within;
use super::secured::Begun;
use super::tls::origination;

/// The points of a ring, and the slots of a table, of which nothing was said.
const RING: u32 = 1_024;
const TABLE: u32 = 65_537;

/// Labels by which endpoints are preferred, and what they say.
const LABELS: [(&str, Scope); 6] = [
    ("topology.kubernetes.io/region", Scope::Region),
    ("topology.kubernetes.io/zone", Scope::Zone),
    ("topology.istio.io/subzone", Scope::Subzone),
    ("kubernetes.io/hostname", Scope::Node),
    ("topology.istio.io/cluster", Scope::Cluster),
    ("topology.istio.io/network", Scope::Network),
];

/// The parts of a policy, of which each may be overlaid.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts<'a> {
    balancer: Option<&'a LoadBalancer>,
    pool: Option<&'a ConnectionPool>,
    outlier: Option<&'a OutlierDetection>,
    tls: Option<&'a ClientTls>,
    whole: Option<&'a TrafficPolicy>,
    /// What a policy of the Gateway API says of TLS, which goes before all that.
    begun: Option<&'a Begun>,
    /// Where secrets are looked for.
    within: Option<Within<'a>>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(policy: Option<&'a TrafficPolicy>) -> Self {
        Self {
            balancer: policy.and_then(|it| it.load_balancer.as_ref()),
            pool: policy.and_then(|it| it.connection_pool.as_ref()),
            outlier: policy.and_then(|it| it.outlier_detection.as_ref()),
            tls: policy.and_then(|it| it.tls.as_ref()),
            whole: policy,
            begun: None,
            within: None,
        }
    }

    pub(super) fn of_port(port: &'a PortPolicy) -> Self {
        Self {
            balancer: port.load_balancer.as_ref(),
            pool: port.connection_pool.as_ref(),
            outlier: port.outlier_detection.as_ref(),
            tls: port.tls.as_ref(),
            whole: None,
            begun: None,
            within: None,
        }
    }

    /// What was said of a port stands instead of everything that was said around it.
    pub(super) fn on(self, policy: Option<&'a TrafficPolicy>, port: u16) -> Self {
        let mut settings = policy.into_iter().flat_map(|it| &it.port_level_settings);
        let own = settings.find(|it| it.port.as_ref().is_some_and(|it| it.number.0 == port));
        own.map_or(self, |own| Self { whole: self.whole, within: self.within, ..Self::of_port(own) })
    }

    /// These go before others, part by part.
    pub(super) fn over(self, around: Self) -> Self {
        Self {
            balancer: self.balancer.or(around.balancer),
            pool: self.pool.or(around.pool),
            outlier: self.outlier.or(around.outlier),
            tls: self.tls.or(around.tls),
            whole: self.whole.or(around.whole),
            begun: self.begun.or(around.begun),
            within: self.within.or(around.within),
        }
    }

    /// With secrets of a namespace.
    pub(super) fn within(self, within: Within<'a>) -> Self {
        Self { within: Some(within), ..self }
    }

    /// With what a policy of the Gateway API says of TLS.
    pub(super) fn begun(self, begun: Option<&'a Begun>) -> Self {
        Self { begun, ..self }
    }
}

/// What they mean, and what of them is not gone by.
pub(super) fn handling(parts: Parts<'_>, notes: &mut Vec<String>) -> Handling {
    let (tls, closed) = begun(&parts, notes);
    let pool = parts.pool;
    if let Some(policy) = parts.whole {
        beside(policy, notes);
    }
    Handling {
        balance: parts.balancer.map(|it| balance(it, notes)).unwrap_or_default(),
        near: parts.balancer.map(|it| near(it, notes)).unwrap_or_default(),
        warmup: parts.balancer.and_then(warmup),
        limits: pool.map(|it| limits(it, notes)).unwrap_or_default(),
        outlier: parts.outlier.map(|it| outlier(it, notes)),
        probe: None,
        hedge_after: None,
        adaptive: None,
        retry_budget: parts.whole.and_then(|it| it.retry_budget.as_ref()).map(|it| RetryBudget {
            percent: it.percent.as_ref().map_or(20, |percent| thousandths(percent).div_ceil(1_000)),
            floor: it.min_retry_concurrency.unwrap_or(3),
        }),
        tls,
        proxied: parts.whole.and_then(|it| it.proxy_protocol.as_ref()).map(|it| proxied(it, notes)),
        closed,
    }
}

/// Version 1 is meant where none is named.
fn proxied(given: &ProxyProtocol, notes: &mut Vec<String>) -> Proxied {
    match given.version.as_str() {
        "" | "V1" => Proxied::V1,
        "V2" => Proxied::V2,
        other => {
            notes.push(format!("proxyProtocol.version: {other:?} is none, read as V1; write V1 or V2"));
            Proxied::V1
        }
    }
}

/// How TLS is begun, or why nothing is sent: what must not go on otherwise than was asked for.
fn begun(parts: &Parts<'_>, notes: &mut Vec<String>) -> (Option<Origination>, Option<Broken>) {
    let said = match parts.begun {
        Some(Ok(tls)) => Ok(Some(tls.clone())),
        Some(Err(unfit)) => Err(unfit.text.clone().into()),
        None => origination(parts.tls, parts.within),
    };
    let why = match said {
        Err(why) => why,
        Ok(tls) => return (tls, None),
    };
    notes.push(format!("{why}, so nothing is sent"));
    (None, Some(Broken::because(&why)))
}

fn beside(policy: &TrafficPolicy, notes: &mut Vec<String>) {
    if policy.tunnel.is_some() {
        notes.push("tunnel: not gone by".into());
    }
    let interval = policy.retry_budget.as_ref().map_or("", |it| it.budget_interval.as_str());
    if !interval.is_empty() {
        notes.push("retryBudget.budgetInterval: requests count as long as they are under way".into());
    }
}

fn balance(given: &LoadBalancer, notes: &mut Vec<String>) -> Balance {
    if let Some(hash) = &given.consistent_hash
        && let Some(by) = hash_by(hash, notes)
    {
        let ring = hash.ring_hash.as_ref().and_then(|it| it.minimum_ring_size).or(hash.minimum_ring_size);
        let table = match &hash.maglev {
            Some(maglev) => HashTable::Maglev { size: maglev.table_size.unwrap_or(TABLE) },
            None => HashTable::Ring { least: ring.unwrap_or(RING) },
        };
        return Balance::Hash(by, table);
    }
    match given.simple {
        Some(Simple::Random) => Balance::Random,
        Some(Simple::RoundRobin) => Balance::RoundRobin,
        Some(Simple::Passthrough) => {
            notes.push(
                "loadBalancer.simple PASSTHROUGH: clients mean the service, not an endpoint, so one is chosen".into(),
            );
            Balance::LeastRequest
        }
        Some(Simple::Unspecified | Simple::LeastConn | Simple::LeastRequest) | None => Balance::LeastRequest,
    }
}

fn hash_by(hash: &ConsistentHash, notes: &mut Vec<String>) -> Option<HashBy> {
    if !hash.http_header_name.is_empty() {
        let header = hash.http_header_name.parse().ok();
        if header.is_none() {
            let why = "loadBalancer.consistentHash.httpHeaderName: no header's name, so nothing goes by it";
            notes.push(why.into());
        }
        return header.map(HashBy::Header);
    }
    if let Some(cookie) = &hash.http_cookie {
        if !cookie.attributes.is_empty() {
            notes.push("loadBalancer.consistentHash.httpCookie.attributes: not given to clients".into());
        }
        let (name, path) = (cookie.name.as_str().into(), cookie.path.as_str().into());
        return Some(HashBy::Cookie { name, path, ttl: cookie.ttl.as_deref().and_then(span) });
    }
    if hash.use_source_ip {
        return Some(HashBy::SourceIp);
    }
    let query = hash.http_query_parameter_name.as_str();
    (!query.is_empty()).then(|| HashBy::Query(query.into()))
}

fn near(given: &LoadBalancer, notes: &mut Vec<String>) -> Near {
    if let Some(zones) = &given.zone_aware_lb_setting {
        notes.push("loadBalancer.zoneAwareLbSetting: places are gone by, their sizes are not".into());
        let setting = LocalityLb {
            failover: zones.failover.clone(),
            failover_priority: zones.failover_priority.clone(),
            enabled: zones.enabled,
            ..LocalityLb::default()
        };
        return near_by("zoneAwareLbSetting", &setting, notes);
    }
    let setting = given.locality_lb_setting.as_ref();
    setting.map(|it| near_by("localityLbSetting", it, notes)).unwrap_or_default()
}

fn near_by(field: &str, setting: &LocalityLb, notes: &mut Vec<String>) -> Near {
    if setting.enabled == Some(false) {
        return Near::Ignored;
    }
    if !setting.distribute.is_empty() {
        let place = |(place, share): (&String, &u32)| (Place::read(place), *share);
        let shares = setting
            .distribute
            .iter()
            .map(|it| Shares { from: Place::read(&it.from), to: it.to.iter().map(place).collect() });
        return Near::Shares(shares.collect());
    }
    if !setting.failover_priority.is_empty() {
        let mut read = |text: &String| {
            let (label, value) =
                text.split_once('=').map_or((text.as_str(), None), |(label, value)| (label, Some(value)));
            let found = LABELS.into_iter().find(|(name, _)| *name == label);
            if found.is_none() {
                notes.push(format!(
                    "loadBalancer.{field}.failoverPriority: {label} is not known of endpoints"
                ));
            }
            found.map(|(_, scope)| Wanted { scope, value: value.map(Into::into) })
        };
        return Near::Priority(setting.failover_priority.iter().filter_map(&mut read).collect());
    }
    if setting.failover.is_empty() {
        return Near::Unsaid;
    }
    let way = setting.failover.iter().map(|it| (it.from.as_str().into(), it.to.as_str().into()));
    Near::Failover(way.collect())
}

fn warmup(given: &LoadBalancer) -> Option<Warmup> {
    let duration = match &given.warmup {
        Some(warmup) => span(&warmup.duration),
        None => span(&given.warmup_duration_secs),
    };
    let number = |of: fn(&ambit_cluster::kinds::destination_rule::Warmup) -> Option<&Number>| {
        given.warmup.as_ref().and_then(of).map(thousandths)
    };
    Some(Warmup {
        duration: duration.filter(|it| !it.is_zero())?,
        least_percent: number(|it| it.minimum_percent.as_ref()).map_or(10, |it| it.div_ceil(1_000)),
        aggression: number(|it| it.aggression.as_ref()).unwrap_or(1_000),
    })
}

fn limits(given: &ConnectionPool, notes: &mut Vec<String>) -> Limits {
    let (no_tcp, no_http) = (TcpPool::default(), HttpPool::default());
    let tcp = given.tcp.as_ref().unwrap_or(&no_tcp);
    let http = given.http.as_ref().unwrap_or(&no_http);
    if tcp.tcp_keepalive.is_some() {
        notes.push("connectionPool.tcp.tcpKeepalive: not gone by".into());
    }
    if http.http2_keep_alive.is_some() {
        notes.push("connectionPool.http.http2KeepAlive: not gone by".into());
    }
    // What is not said is nothing in proto3: no limit.
    let count = |it: u32| (it > 0).then_some(it);
    let time = |text: &str| span(text).filter(|it| !it.is_zero());
    Limits {
        connections: count(tcp.max_connections),
        pending: count(http.max_pending_requests),
        requests: count(http.max_requests),
        retries: count(http.max_retries),
        per_connection: count(http.max_requests_per_connection),
        connect: time(&tcp.connect_timeout),
        idle: time(&http.idle_timeout),
        still: time(&tcp.idle_timeout),
        age: time(&tcp.max_connection_duration),
        streams: count(http.max_concurrent_streams),
        version: match http.h2_upgrade_policy {
            H2Upgrade::Upgrade => Version::Http2,
            H2Upgrade::DoNotUpgrade if !http.use_client_protocol => Version::Http1,
            H2Upgrade::DoNotUpgrade | H2Upgrade::Default => Version::OfPort,
        },
    }
}

fn outlier(given: &OutlierDetection, notes: &mut Vec<String>) -> Outlier {
    if !given.outlier_detection_http_error_codes.is_empty() {
        notes.push("outlierDetection.outlierDetectionHttpErrorCodes: 5xx count, others do not".into());
    }
    let usual = Outlier::default();
    let time = |text: &str, usual: Duration| span(text).filter(|it| !it.is_zero()).unwrap_or(usual);
    let split = given.split_external_local_origin_errors;
    Outlier {
        errors: given.consecutive_server_errors.unwrap_or(usual.errors),
        gateway_errors: given.consecutive_gateway_errors.or(given.consecutive_errors).unwrap_or(0),
        split: split.then(|| given.consecutive_local_origin_failures.unwrap_or(5)),
        interval: time(&given.interval, usual.interval),
        base: time(&given.base_ejection_time, usual.base),
        most_percent: given.max_ejection_percent.unwrap_or(usual.most_percent),
        panic_percent: given.min_health_percent.unwrap_or(usual.panic_percent),
    }
}

/// A number in thousandths, of those that are neither below nothing nor beyond a million.
fn thousandths(number: &Number) -> u32 {
    let value = number.as_f64().unwrap_or_default().clamp(0.0, 1e6) * 1_000.0;
    // Rounded, it has no fraction; as text it is read without a cast that could lose something.
    format!("{:.0}", value).parse().unwrap_or_default()
}
