//! Every setting of `ztunnel.md` 12.2: read with effect, or refused by name.

use std::collections::BTreeMap;

use ambit_tls::configs::Algorithms;

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Config, Faults> {
    let source: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    Config::read(&source)
}

#[test]
fn nothing_given_is_shared_mode_with_upstream_defaults() {
    let config = read(&[]).unwrap();
    let link = "/var/run/ztunnel/ztunnel.sock".into();
    assert_eq!(config.mode, Mode::Shared { link, reuse_port: true });
    assert_eq!(config.traffic.mark, Some(1337));
    assert_eq!(config.drain, Duration::from_secs(5));
    assert!((1..=4).contains(&config.threads));
}

#[test]
fn dedicated_mode_names_its_workload() {
    let config = read(&[("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "shop/web-1/web")]).unwrap();
    let Mode::Dedicated(info) = config.mode else { panic!("dedicated") };
    assert_eq!((info.name.as_str(), info.namespace.as_str()), ("web-1", "shop"));
    assert_eq!(config.traffic.mark, None);
}

#[test]
fn every_fault_is_named_at_once() {
    let faults = read(&[
        ("PROXY_MODE", "dedicated"),
        ("ZTUNNEL_WORKER_THREADS", "many"),
        ("IPV6_ENABLED", "1"),
        ("XDS_ADDRESS", "http://plain:15010"),
    ])
    .map(|_| ())
    .unwrap_err();
    let mut names: Vec<_> = faults.all().iter().map(|f| f.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["IPV6_ENABLED", "PROXY_WORKLOAD_INFO", "XDS_ADDRESS", "ZTUNNEL_WORKER_THREADS"]);
}

/// What is expected of one variable.
enum Row {
    /// This value is a fault that names the variable.
    Refused(&'static str),
    /// This value shows.
    Shows(&'static str, fn(&Config) -> bool),
    /// Read elsewhere, or by nobody, for this reason.
    Elsewhere(&'static str),
}
use Row::{Elsewhere, Refused, Shows};

fn names_at(config: &Config) -> Vec<String> {
    config.names.iter().flat_map(|names| &names.at).map(ToString::to_string).collect()
}

fn ca(config: &Config) -> &ambit_tls::issue::CaSettings {
    let Credentials::Ca(settings) = &config.control.credentials else { panic!("an authority") };
    settings
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The variables of the table, in its order; both a good value that shows and a bad one, where there are both.
const TABLE: &[(&str, &[Row])] = &[
    ("PROXY_MODE", &[Refused("both"), Refused("dedicated")]),
    ("PROXY_WORKLOAD_INFO", &[Elsewhere("dedicated_mode_names_its_workload")]),
    (
        "ENABLE_PROXY",
        &[Refused("no"), Shows("true", |c| c.traffic.carry), Shows("false", |c| !c.traffic.carry)],
    ),
    ("NODE_NAME", &[Shows("n1", |c| c.node.as_str() == "n1")]),
    ("NETWORK", &[Shows("west", |c| c.network.as_str() == "west")]),
    ("CLUSTER_ID", &[Shows("c9", |c| c.cluster.as_str() == "c9" && c.control.node.cluster == "c9")]),
    ("CLUSTER_DOMAIN", &[Shows("corp", |c| c.domain == "corp")]),
    ("XDS_ADDRESS", &[Refused("http://plain"), Shows("", |c| c.control.xds.is_none())]),
    ("CA_ADDRESS", &[Refused("http://plain"), Refused("")]),
    ("XDS_ROOT_CA", &[Shows("/roots-here", |c| format!("{:?}", c.control.xds).contains("/roots-here"))]),
    ("CA_ROOT_CA", &[Shows("/roots-here", |c| format!("{:?}", ca(c).control_plane).contains("/roots-here"))]),
    ("ALT_XDS_HOSTNAME", &[Refused("a b"), Shows("o", |c| format!("{:?}", c.control.xds).contains("\"o\""))]),
    (
        "ALT_CA_HOSTNAME",
        &[Refused("a b"), Shows("o", |c| format!("{:?}", ca(c).control_plane).contains("\"o\""))],
    ),
    (
        "AUTH_TOKEN",
        &[Shows("t", |c| matches!(&c.control.token, ambit_tls::issue::Token::Static(t) if t == "t"))],
    ),
    ("XDS_HEADER_X", &[Refused("\n"), Shows("1", |c| c.control.xds_headers == [("x".into(), "1".into())])]),
    ("XDS_HEADER_A B", &[Refused("1")]),
    ("CA_HEADER_X", &[Refused("\n"), Shows("1", |c| ca(c).headers == [("x".into(), "1".into())])]),
    ("SECRET_TTL", &[Refused("0"), Refused("soon"), Shows("1h", |c| ca(c).ttl == secs(3600))]),
    ("FAKE_CA", &[Refused("true"), Refused("1"), Shows("false", |_| true)]),
    (
        "LOCAL_XDS_PATH",
        &[Shows("/w", |c| matches!(&c.control.local, Some(LocalWorld::File(p)) if p == "/w"))],
    ),
    ("LOCAL_XDS", &[Shows("{}", |c| matches!(&c.control.local, Some(LocalWorld::Inline(t)) if t == "{}"))]),
    ("XDS_ON_DEMAND", &[Refused("true"), Refused("yes"), Shows("false", |_| true)]),
    (
        "PREFERED_SERVICE_NAMESPACE",
        &[
            Refused("a/b"),
            Shows("shop", |c| c.names.as_ref().and_then(|n| n.preferred.clone()) == "shop".parse().ok()),
        ],
    ),
    ("POOL_MAX_STREAMS_PER_CONNECTION", &[Refused("0"), Shows("7", |c| c.traffic.streams_per_tunnel == 7)]),
    ("POOL_UNUSED_RELEASE_TIMEOUT", &[Refused("x"), Shows("7s", |c| c.traffic.tunnel_idle == secs(7))]),
    ("POOL_IDLE_TUNNELS", &[Refused("x"), Shows("0", |c| c.traffic.idle_tunnels == 0)]),
    (
        "HTTP2_STREAM_WINDOW_SIZE",
        &[Refused("65534"), Refused("2147483648"), Shows("65535", |c| c.traffic.windows.stream == 65_535)],
    ),
    ("HTTP2_CONNECTION_WINDOW_SIZE", &[Refused("5"), Shows("99999", |c| c.traffic.windows.tunnel == 99_999)]),
    (
        "HTTP2_FRAME_SIZE",
        &[Refused("16383"), Refused("16777216"), Shows("16384", |c| c.traffic.windows.frame == 16_384)],
    ),
    ("KEEPALIVE_ENABLED", &[Refused("1"), Shows("false", |c| c.traffic.keepalive.is_none())]),
    (
        "KEEPALIVE_TIME",
        &[Refused("0"), Refused("10h"), Shows("9", |c| c.traffic.keepalive.unwrap().idle == secs(9))],
    ),
    ("KEEPALIVE_INTERVAL", &[Refused("0"), Shows("9", |c| c.traffic.keepalive.unwrap().interval == secs(9))]),
    (
        "KEEPALIVE_RETRIES",
        &[Refused("0"), Refused("128"), Shows("3", |c| c.traffic.keepalive.unwrap().probes == 3)],
    ),
    ("USER_TIMEOUT_ENABLED", &[Refused("1"), Shows("true", |c| c.traffic.user_timeout == Some(secs(1800)))]),
    ("PACKET_MARK", &[Refused("x"), Shows("9", |c| c.traffic.mark == Some(9))]),
    ("ENABLE_ORIG_SRC", &[Refused("x"), Shows("false", |c| c.traffic.original_source == Some(false))]),
    ("IPV6_ENABLED", &[Refused("x"), Shows("false", |c| !c.traffic.ipv6)]),
    (
        "INPOD_UDS",
        &[Refused(""), Shows("/s", |c| matches!(&c.mode, Mode::Shared { link, .. } if link == "/s"))],
    ),
    (
        "INPOD_PORT_REUSE",
        &[Refused("x"), Shows("false", |c| matches!(c.mode, Mode::Shared { reuse_port: false, .. }))],
    ),
    ("CONNECTION_TERMINATION_DEADLINE", &[Refused("x"), Shows("7s", |c| c.drain == secs(7))]),
    ("TERMINATION_GRACE_PERIOD_SECONDS", &[Refused("x"), Shows("30", |c| c.drain == secs(25))]),
    ("LOCALHOST_APP_TUNNEL", &[Refused("x"), Shows("false", |c| !c.traffic.localhost_app_tunnel)]),
    ("ENABLE_PLAINTEXT_VIA_WAYPOINT", &[Refused("yes"), Shows("true", |c| c.traffic.plaintext_via_waypoint)]),
    ("ENABLE_RESPONSE_BAGGAGE", &[Refused("x"), Shows("false", |c| !c.traffic.baggage)]),
    (
        "CRL_PATH",
        &[
            Refused("/"),
            Shows("/nowhere/yet", |c| c.terms.revoked.is_some() && ca(c).terms.revoked.is_some()),
        ],
    ),
    (
        "COMPLIANCE_POLICY",
        &[
            Refused("fips-140-2"),
            Refused("PQC"),
            Shows("pqc", |c| ca(c).terms.algorithms == Algorithms::PostQuantumOnly),
        ],
    ),
    (
        "TRUST_DOMAIN_ALIASES",
        &[
            Refused("old.example,a b"),
            Shows("old.example, older", |c| c.terms.aliases.len() == 2 && ca(c).terms.aliases.len() == 2),
        ],
    ),
    ("TLS12_ENABLED", &[Refused("1"), Shows("true", |c| ca(c).terms.algorithms == Algorithms::WithTls12)]),
    ("UNSTABLE_ENABLE_SOCKS5", &[Refused("true"), Refused("1"), Shows("false", |_| true)]),
    ("AUTHZ_POLICY_INFO_LOGGING", &[Refused("x"), Shows("true", |c| c.log_decisions)]),
    ("ZTUNNEL_WORKER_THREADS", &[Refused("many"), Shows("7", |c| c.threads == 7)]),
    ("ZTUNNEL_CPU_LIMIT", &[Refused("1.5"), Shows("1", |c| c.threads == 1)]),
    ("ZTUNNEL_RESOURCE_CPU_LIMIT", &[Refused("0"), Shows("6500m", |c| c.threads == 7)]),
    ("ZTUNNEL_RESOURCE_CPU_REQUEST", &[Refused("-1"), Shows("7", |c| c.threads == 7)]),
    ("ISTIO_META_CLUSTER_ID", &[Shows("c8", |c| c.cluster.as_str() == "c8")]),
    (
        "ISTIO_META_DNS_CAPTURE",
        &[Shows("true", |c| c.names.is_some()), Shows("false", |c| c.names.is_none())],
    ),
    (
        "ISTIO_META_DNS_PROXY_ADDR",
        &[
            Refused("localhost"),
            Refused("localhost:0"),
            Refused("example.com:53"),
            Shows("localhost:5353", |c| names_at(c) == ["127.0.0.1:5353", "[::1]:5353"]),
            Shows("127.0.0.2:53", |c| names_at(c) == ["127.0.0.2:53"]),
        ],
    ),
    ("ISTIO_META_X", &[Shows("1", |c| c.control.node.metadata.contains(&("X".into(), "1".into())))]),
    (
        "ISTIO_METAJSON_X",
        &[Refused("{"), Shows("[1]", |c| c.control.node.json == [("X".into(), serde_json::json!([1]))])],
    ),
    ("INSTANCE_IP", &[Shows("1.2.3.4", |c| c.control.node.id.starts_with("ztunnel~1.2.3.4~"))]),
    ("POD_NAME", &[Shows("z-1", |c| c.control.node.id.contains("~z-1."))]),
    ("POD_NAMESPACE", &[Shows("sys", |c| c.control.node.id.ends_with("~sys.svc.cluster.local"))]),
    (
        "SERVICE_ACCOUNT",
        &[Elsewhere("names us where our own ports are reached over tunnels, which is not there yet")],
    ),
    ("TRUST_DOMAIN", &[Elsewhere("as SERVICE_ACCOUNT")]),
    ("ISTIO_META_ISTIO_VERSION", &[Shows("1.30", |c| c.mesh_version.as_str() == "1.30")]),
    ("RUST_LOG", &[Refused("a=b=c"), Shows("debug", |c| c.log.filter == "debug")]),
    ("LOG_FORMAT", &[Refused("xml"), Shows("json", |c| c.log.json)]),
    ("RUST_BACKTRACE", &[Elsewhere("Rust's own")]),
    ("INPOD_ENABLED", &[Elsewhere("set by charts, read by nobody")]),
    ("PROXY_CONFIG", &[Refused("[]"), Shows("concurrency: 7", |c| c.threads == 7)]),
];

#[test]
fn every_setting_of_upstreams_has_its_effect_or_is_refused_by_name() {
    for (name, rows) in TABLE {
        assert!(!rows.is_empty(), "{name}");
        for row in *rows {
            match row {
                Refused(value) => {
                    let faults = read(&[(name, value)]).map(|_| ()).unwrap_err();
                    let named =
                        |f: &ambit_process::config::Fault| f.name == *name || f.name == "PROXY_WORKLOAD_INFO";
                    assert!(
                        faults.all().len() == 1 && faults.all().iter().all(named),
                        "{name}={value:?}: {faults}"
                    );
                    assert!(!faults.all()[0].remedy.is_empty(), "{name}");
                }
                Shows(value, effect) => {
                    let config = read(&[(name, value)]).unwrap_or_else(|faults| panic!("{faults}"));
                    assert!(effect(&config), "{name}={value:?}");
                    let flag = ["true", "false"].contains(value);
                    let untouched = read(&[]).unwrap();
                    assert!(flag || !effect(&untouched), "{name}: shows without being set");
                }
                Elsewhere(why) => assert!(!why.is_empty(), "{name}"),
            }
        }
    }
}

#[test]
fn something_is_left_to_do() {
    let faults =
        read(&[("ENABLE_PROXY", "false"), ("ISTIO_META_DNS_CAPTURE", "off")]).map(|_| ()).unwrap_err();
    assert_eq!(faults.all()[0].name, "ENABLE_PROXY");
}

#[test]
fn names_are_answered_on_both_loopback_addresses_unless_ipv6_is_off() {
    assert_eq!(names_at(&read(&[]).unwrap()), ["127.0.0.1:15053", "[::1]:15053"]);
    assert_eq!(names_at(&read(&[("IPV6_ENABLED", "false")]).unwrap()), ["127.0.0.1:15053"]);
}

#[test]
fn post_quantum_only_and_tls_1_2_do_not_go_together() {
    let faults = read(&[("COMPLIANCE_POLICY", "pqc"), ("TLS12_ENABLED", "true")]).map(|_| ()).unwrap_err();
    assert_eq!(faults.all()[0].name, "TLS12_ENABLED");
}

#[test]
fn ports_move_by_the_proxys_configuration_and_metadata_from_it_is_told_to_the_control_plane() {
    let given =
        "{proxyAdminPort: 15100, statsPort: 15120, proxyMetadata: {ISTIO_META_CLUSTER_ID: c7, ZONE: z}}";
    let config = read(&[("PROXY_CONFIG", given), ("CLUSTER_ID", "c1")]).unwrap();
    assert_eq!((config.ports.admin, config.ports.stats, config.ports.readiness), (15100, 15120, 15021));
    assert_eq!(config.cluster.as_str(), "c7");
    assert!(config.control.node.metadata.contains(&("ZONE".into(), "z".into())));
}
