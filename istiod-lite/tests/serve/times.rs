//! What is measured of changes on their way, and counted of what is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_wire::pb::auth::IstioCertificateRequest;
use ambit_wire::pb::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::Code;

use crate::place::{POLICY, Place, Running, Tunnel, WAIT, http};

/// All that is scraped, by name and labels.
async fn scraped(running: &Running) -> BTreeMap<String, f64> {
    let text = http(running.addresses.monitoring, "/metrics").await;
    let value = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(value).collect()
}

/// What is scraped once that holds.
async fn once(running: &Running, holds: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
    let mut last = BTreeMap::new();
    let found = tokio::time::timeout(WAIT, async {
        loop {
            last = scraped(running).await;
            if holds(&last) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let found = found.await;
    assert!(found.is_ok(), "{last:#?}");
    last
}

#[tokio::test]
async fn a_change_is_measured_from_its_file_to_the_acknowledgement() {
    /// For so long the tunnel has a policy before it is in force.
    const HELD: Duration = Duration::from_millis(60);
    let place = Place::new();
    let running = Running::start(&place, 0).await;
    let mut tunnel = Tunnel::start(&place, running.addresses);
    tunnel.changes(3).await;
    let at = |all: &BTreeMap<String, f64>, name: &str| all.get(name).copied();
    let before = once(&running, |all| all.get("pilot_xds{version=\"1.2.3\"}") == Some(&1.0)).await;
    for (name, value) in [
        ("pilot_xds{version=\"unknown\"}", 0.0),
        ("istiod_managed_clusters{cluster_type=\"local\"}", 1.0),
        ("pilot_inbound_updates{type=\"eds\"}", 2.0),
        ("pilot_inbound_updates{type=\"svc\"}", 1.0),
        ("pilot_xds_config_size_bytes_count{type=\"Address\"}", 1.0),
        ("pilot_xds_push_time_count{type=\"Address\"}", 1.0),
        ("pilot_proxy_convergence_time_count", 0.0),
        ("policy_lag_seconds_count", 0.0),
        ("pilot_total_xds_internal_errors", 0.0),
    ] {
        assert_eq!(at(&before, name), Some(value), "{name}: {before:#?}");
    }
    assert!(at(&before, "pilot_xds_recv_max").unwrap() > 50.0);

    place.write("policy.yaml", &POLICY.replace("NAME", "first"));
    assert_eq!(tunnel.next_after(HELD).await, ["+policy shop/first"]);
    tunnel.next().await;
    let after = once(&running, |all| all.get("policy_lag_seconds_count") == Some(&1.0)).await;
    let lag = at(&after, "policy_lag_seconds_sum").unwrap();
    assert!(lag >= HELD.as_secs_f64() && lag < WAIT.as_secs_f64(), "{lag}");
    assert_eq!(at(&after, "policy_lag_seconds_bucket{le=\"0.03\"}"), Some(0.0));
    assert_eq!(at(&after, "pilot_proxy_convergence_time_count"), Some(1.0), "{after:#?}");
    let told = at(&after, "pilot_proxy_convergence_time_sum").unwrap();
    for part in ["pilot_debounce_time", "pilot_pushcontext_init_seconds", "pilot_proxy_queue_time"] {
        let grew = |of: &str| at(&after, &format!("{part}_{of}")) > at(&before, &format!("{part}_{of}"));
        assert!(grew("count"), "{part}: {after:#?}");
    }
    assert!(told > 0.0 && told < WAIT.as_secs_f64(), "{told}");
    assert_eq!(at(&after, "pilot_push_triggers{type=\"config\"}"), Some(1.0));
    assert!(at(&after, "pilot_inbound_updates{type=\"config\"}") >= Some(1.0));
    assert_eq!(at(&after, "pilot_xds_config_size_bytes_count{type=\"Authorization\"}"), Some(2.0));
    assert!(at(&after, "pilot_xds_send_time_count{type=\"Authorization\"}") >= Some(1.0));

    std::fs::remove_file(place.path("mesh/world.yaml")).unwrap();
    tunnel.changes(3).await;
    let end = once(&running, |all| all.contains_key("pilot_inbound_updates{type=\"svcdelete\"}")).await;
    assert_eq!(at(&end, "policy_lag_seconds_count"), Some(1.0), "no policy changed");
    running.end().await;
}

#[tokio::test]
async fn a_request_for_what_is_no_identity_is_counted_as_such() {
    let place = Place::new();
    let running = Running::start(&place, 0).await;
    let channel = place.remote(running.addresses).connect().await.unwrap();
    let wanted = Value { kind: Some(Kind::StringValue("web".into())) };
    let fields = [("ImpersonatedIdentity".to_owned(), wanted)].into();
    let message = IstioCertificateRequest { metadata: Some(Struct { fields }), ..Default::default() };
    let mut request = tonic::Request::new(message);
    let bearer = format!("Bearer {}", place.token("n1"));
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    let refused = IstioCertificateServiceClient::new(channel).create_certificate(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let counted = scraped(&running).await;
    assert_eq!(counted.get("citadel_server_id_extraction_err_count"), Some(&1.0), "{counted:#?}");
    running.end().await;
}
