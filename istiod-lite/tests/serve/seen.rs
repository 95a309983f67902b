//! What people and scrapers see, and who may look.

use ambit_tls::issue::{Issuer, Token};
use ambit_wire::pb::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_wire::pb::discovery::{ClientConfig, ConfigStatus, DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message as _;
use tokio_stream::StreamExt as _;
use tonic::Code;

use crate::place::{Place, Running, Tunnel, WAIT, authority, http, http_with, raw};

#[tokio::test]
async fn people_see_subscribers_faults_and_resources() {
    let place = Place::new();
    place.write("broken.yaml", "kind: Nonsense\n");
    let running = Running::start(&place, 0).await;
    let mut tunnel = Tunnel::start(&place, running.addresses);
    tunnel.changes(3).await;
    let at = running.addresses.http;
    assert!(http(at, "/ready").await.ends_with("ready\n"));
    let streams = http(at, "/debug/syncz").await;
    assert!(streams.contains("spiffe://cluster.local/ns/istio-system/sa/ztunnel"), "{streams}");
    assert!(http(at, "/debug/faults").await.contains("unknown kind"));
    assert!(http(at, "/debug/ambientz").await.contains("Kubernetes//Pod/shop/web-1"));
    let metrics = http(running.addresses.monitoring, "/metrics").await;
    let ca = authority(&place, running.addresses, Token::Static(place.token("n1")));
    ca.issue(&"spiffe://cluster.local/ns/shop/sa/web".parse().unwrap()).await.unwrap();
    assert!(ca.issue(&"spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap()).await.is_err());
    let later = http(running.addresses.monitoring, "/metrics").await;
    for (text, line) in [
        (&metrics, "pilot_xds{version=\"1.2.3\"} 1"),
        (&metrics, "manifest_faults 1"),
        (&metrics, "pilot_services 1"),
        (&metrics, "pilot_xds_pushes{type=\"Address\"} 1"),
        (&metrics, "pilot_total_xds_rejects 0"),
        (&metrics, "pilot_info{version="),
        (&later, "citadel_server_csr_count 2"),
        (&later, "citadel_server_success_cert_issuance_count 1"),
        (&later, "citadel_server_authentication_failure_count 1"),
    ] {
        assert!(text.contains(&format!("\n{line}")), "{line}: {text}");
    }
    let left = later.lines().find_map(|line| line.strip_prefix("citadel_server_root_cert_expiry_seconds "));
    let left: i64 = left.unwrap().parse().unwrap();
    assert!((3649 * 24 * 3600..=3650 * 24 * 3600).contains(&left), "{left}");
    let dump = http(at, "/debug/ambientz").await;
    let dump: serde_json::Value = serde_json::from_str(dump.split_once("\r\n\r\n").unwrap().1).unwrap();
    let counts = ["workloads", "services", "policies"].map(|it| dump[it].as_array().unwrap().len());
    assert_eq!(counts, [2, 1, 0]);
    running.end().await;
}

#[tokio::test]
async fn metrics_go_compressed_to_whoever_takes_them_so() {
    let place = Place::new();
    let running = Running::start(&place, 0).await;
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n";
    let answer = raw(running.addresses.monitoring, request).await;
    let at = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..at].to_vec()).unwrap();
    assert!(head.to_lowercase().contains("content-encoding: gzip"), "{head}");
    assert_eq!(answer[at + 4..at + 6], [0x1f, 0x8b]);
    running.end().await;
}

#[tokio::test]
async fn beyond_this_machine_only_accounts_of_the_control_planes_namespace_may_look() {
    let place = Place::new();
    let mut config = place.config(0);
    config.http_addr = "0.0.0.0:0".parse().unwrap();
    let running = Running::start_with(config).await;
    let port = running.addresses.http.port();
    let at = ([127, 0, 0, 1], port).into();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let own = bearer(&place.token("n1"));
    let other = bearer(&place.token_of("shop", "web", "n1"));
    for (path, more, wanted) in [
        ("/debug/syncz", "", "401"),
        ("/debug/syncz", &bearer("no.such.token"), "401"),
        ("/debug/syncz", &other, "403"),
        ("/debug/ambientz", &other, "403"),
        ("/debug", &other, "403"),
        ("/debug/list", &own, "200"),
        ("/debug/syncz", &own, "200"),
        ("/debugger", "", "404"),
    ] {
        let answer = http_with(at, path, more).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted}")), "{path} {wanted}: {answer}");
    }
    let ready = http(at, "/ready").await;
    assert!(ready.ends_with("ready\n"), "{ready}");
    running.end().await;
}

#[tokio::test]
async fn only_named_accounts_read_the_mesh() {
    let place = Place::new();
    let mut config = place.config(0);
    config.readers = vec!["ops/viewer".into()];
    let running = Running::start_with(config).await;
    for (namespace, account, wanted) in [
        ("istio-system", "ztunnel", Code::Ok),
        ("ops", "viewer", Code::Ok),
        ("shop", "web", Code::PermissionDenied),
        ("ops", "ztunnel", Code::PermissionDenied),
    ] {
        let channel = place.remote(running.addresses).connect().await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let mut request = tonic::Request::new(tokio_stream::pending::<DeltaDiscoveryRequest>());
        let bearer = format!("Bearer {}", place.token_of(namespace, account, "n1"));
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        let answered = client.delta_aggregated_resources(request).await;
        let code = answered.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok);
        assert_eq!(code, wanted, "{namespace}/{account}: {:?}", answered.err());
    }
    running.end().await;
}

/// As upstream's command line asks: the state of the world, of this one type.
async fn looked(
    place: &Place,
    running: &Running,
    (namespace, kind): (&str, &str),
) -> Result<Vec<ClientConfig>, Code> {
    let channel = place.remote(running.addresses).connect().await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    // It answers nothing, and says so by a time.
    let nonce = "2026-11-21 15:00:00 +0000 UTC".to_owned();
    let first =
        DiscoveryRequest { type_url: kind.into(), response_nonce: nonce, ..DiscoveryRequest::default() };
    let mut request = tonic::Request::new(tokio_stream::iter([first]).chain(tokio_stream::pending()));
    let bearer = format!("Bearer {}", place.token_of(namespace, "default", "n1"));
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    let mut answers = client.stream_aggregated_resources(request).await.map_err(|it| it.code())?.into_inner();
    let answer =
        tokio::time::timeout(WAIT, answers.message()).await.unwrap().map_err(|it| it.code())?.unwrap();
    assert_eq!((answer.type_url.as_str(), answer.version_info.is_empty()), (kind, false));
    let called: serde_json::Value = serde_json::from_str(&answer.control_plane.unwrap().identifier).unwrap();
    assert_eq!(called["Component"], "istiod", "{called}");
    Ok(answer.resources.iter().map(|it| ClientConfig::decode(it.value.clone()).unwrap()).collect())
}

#[tokio::test]
async fn upstreams_command_line_is_told_who_subscribes_if_it_comes_from_the_control_planes_namespace() {
    const STATUS: &str = "istio.io/debug/syncz";
    let place = Place::new();
    let running = Running::start(&place, 0).await;
    assert_eq!(looked(&place, &running, ("istio-system", STATUS)).await.unwrap(), []);
    let mut tunnel = Tunnel::start(&place, running.addresses);
    tunnel.changes(3).await;
    let begun = std::time::Instant::now();
    let clients = loop {
        let clients = looked(&place, &running, ("istio-system", STATUS)).await.unwrap();
        let all: Vec<_> = clients.iter().flat_map(|it| &it.generic_xds_configs).collect();
        if all.len() == 2 && all.iter().all(|it| it.config_status() == ConfigStatus::Synced) {
            break clients;
        }
        assert!(begun.elapsed() < WAIT, "{clients:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let [client] = clients.as_slice() else { panic!("{clients:#?}") };
    assert!(client.node.as_ref().unwrap().id.contains("ztunnel-n1.istio-system"), "{client:#?}");
    assert!(
        client.generic_xds_configs.iter().all(|it| it.last_updated.is_some() && it.error_state.is_none())
    );
    for (who, wanted) in [
        (("shop", STATUS), Code::PermissionDenied),
        (("istio-system", "type.googleapis.com/istio.workload.Address"), Code::Unimplemented),
    ] {
        assert_eq!(looked(&place, &running, who).await, Err(wanted), "{who:?}");
    }
    running.end().await;
}
