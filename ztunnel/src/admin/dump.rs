//! Parts of the configuration dump in upstream's keys (`ztunnel.md` 11.4), which istioctl reads.
//! Owns those shapes only.

use std::time::SystemTime;

use ambit_tls::credential::CertificateInfo;
use ambit_tls::vault::{Shown as Seat, ShownState};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::board::PodShown;
use crate::config::{Config, Mode};
use crate::enrol::Shown;
use crate::ledger::{Admitted, Outbound};
use crate::outcome::chain;

pub(super) fn is_shared(config: &Config) -> bool {
    matches!(config.mode, Mode::Shared { .. })
}

pub(super) fn certificate(seat: &Seat) -> Value {
    let state = match &seat.state {
        ShownState::Initializing => "Initializing".into(),
        ShownState::Available => "Available".into(),
        ShownState::Unavailable(why) => format!("Unavailable: {}", chain(why.as_ref())),
    };
    json!({
        "identity": seat.identity.to_string(),
        "state": state,
        "certChain": seat.chain.iter().map(one).collect::<Vec<_>>(),
        "rootCerts": seat.roots.iter().map(one).collect::<Vec<_>>(),
    })
}

fn one(certificate: &CertificateInfo) -> Value {
    json!({
        "pem": STANDARD.encode(pem(&certificate.der)),
        "serialNumber": certificate.serial,
        "validFrom": time(certificate.validity.not_before),
        "expirationTime": time(certificate.validity.not_after),
    })
}

/// RFC 7468, 2: base64 in lines of 64.
fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default()
}

pub(super) fn version(config: &Config) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "gitRevision": "unknown",
        "rustVersion": env!("CARGO_PKG_RUST_VERSION"),
        "buildProfile": if cfg!(debug_assertions) { "debug" } else { "release" },
        "buildStatus": "unknown",
        "istioVersion": config.mesh_version.as_str(),
        "cryptoProvider": "tls-aws-lc",
    })
}

pub(super) fn config(config: &Config) -> Value {
    let Config { mode, node, network, cluster, traffic, drain, threads, ports, .. } = config;
    let duration = |d: std::time::Duration| json!({ "secs": d.as_secs(), "nanos": d.subsec_nanos() });
    let (link, reuse) = match mode {
        Mode::Shared { link, reuse_port } => (Some(link.display().to_string()), Some(*reuse_port)),
        Mode::Dedicated(_) => (None, None),
    };
    let workload = match mode {
        Mode::Dedicated(info) => Some(info_of(info)),
        Mode::Shared { .. } => None,
    };
    let any = if traffic.ipv6 { "[::]" } else { "0.0.0.0" };
    json!({
        "adminAddr": { "Localhost": [traffic.ipv6, ports.admin] },
        "statsAddr": { "SocketAddr": format!("{any}:{}", ports.stats) },
        "readinessAddr": { "SocketAddr": format!("{any}:{}", ports.readiness) },
        "inboundAddr": format!("{any}:15008"),
        "inboundPlaintextAddr": format!("{any}:15006"),
        "outboundAddr": format!("{any}:15001"),
        "illegalPorts": ambit_model::route::RESERVED_PORTS,
        "proxyMode": if workload.is_some() { "Dedicated" } else { "Shared" },
        "proxyWorkloadInformation": workload,
        "localNode": node.as_str(),
        "network": network.as_str(),
        "clusterId": cluster.as_str(),
        "clusterDomain": config.domain,
        "inpodUds": link,
        "inpodPortReuse": reuse,
        "ipv6Enabled": traffic.ipv6,
        "packetMark": traffic.mark,
        "requireOriginalSource": traffic.original_source,
        "localhostAppTunnel": traffic.localhost_app_tunnel,
        "enableEnhancedBaggage": traffic.baggage,
        "numWorkerThreads": threads,
        "selfTerminationDeadline": duration(*drain),
        "poolMaxStreamsPerConn": traffic.streams_per_tunnel,
        "poolUnusedReleaseTimeout": duration(traffic.tunnel_idle),
        "poolIdleTunnels": traffic.idle_tunnels,
        "socketConfig": {
            "keepaliveEnabled": traffic.keepalive.is_some(),
            "keepaliveTime": traffic.keepalive.map(|k| duration(k.idle)),
            "keepaliveInterval": traffic.keepalive.map(|k| duration(k.interval)),
            "keepaliveRetries": traffic.keepalive.map(|k| k.probes),
            "userTimeoutEnabled": traffic.user_timeout.is_some(),
        },
        "xdsOnDemand": false,
        "dnsProxy": config.names.is_some(),
        "proxy": traffic.carry,
        "fakeCa": false,
        "crlPath": config.terms.revoked.as_ref().map(|lists| lists.path().display().to_string()),
        "http2StreamWindowSize": traffic.windows.stream,
        "http2ConnectionWindowSize": traffic.windows.tunnel,
        "http2FrameSize": traffic.windows.frame,
    })
}

pub(super) fn pods(pods: &[PodShown]) -> Value {
    let mut all = Map::new();
    for pod in pods {
        let up = pod.state == Shown::Up;
        let mut shown = json!({ "state": if up { "Up" } else { "Pending" }, "info": info_of(&pod.info) });
        if let (Value::Object(keys), true) = (&mut shown, up) {
            keys.insert("connections".into(), connections(pod));
        }
        all.insert(pod.uid.clone(), shown);
    }
    Value::Object(all)
}

fn connections(pod: &PodShown) -> Value {
    let (mut inbound, mut outbound) = (Vec::new(), Vec::new());
    for page in &pod.pages {
        let (entered, noted) = page.dump();
        inbound.extend(entered.iter().map(came));
        outbound.extend(noted.iter().map(went));
    }
    json!({ "inbound": inbound, "outbound": outbound })
}

fn came(connection: &Admitted) -> Value {
    json!({
        "src": connection.from.to_string(),
        "originalDst": connection.host,
        "actualDst": connection.to.to_string(),
        "protocol": if connection.peer.is_some() { "HBONE" } else { "TCP" },
    })
}

fn went(connection: &Outbound) -> Value {
    json!({
        "src": connection.from.to_string(),
        "originalDst": connection.to.to_string(),
        "actualDst": connection.hop.to_string(),
        "protocol": connection.protocol,
    })
}

fn info_of(info: &ambit_wire::node_link::PodInfo) -> Value {
    json!({
        "name": info.name.as_str(),
        "namespace": info.namespace.as_str(),
        "serviceAccount": info.service_account.as_str(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_whole_seconds_of_utc() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_790_000_000);
        assert_eq!(time(at), "2026-09-21T14:13:20Z");
    }

    #[test]
    fn a_certificate_is_shown_as_pem_in_lines_of_64() {
        let text = pem(&[0; 100]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[1].len(), lines[2].len()), (5, 64, 64));
    }
}
