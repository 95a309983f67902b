//! Tables of a dump that was recorded from upstream's ztunnel, and of what it did not hold.

use serde_json::json;

use super::*;
use crate::cluster::config::Page;

fn recorded() -> Dump {
    Dump::parse(include_str!("../../../../tests/dump.json")).unwrap()
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn table(page: Page, dump: &Dump, by: &Filters) -> String {
    page.table(dump, &page.items(dump, by), at("2026-11-21T04:00:00Z")).text()
}

#[test]
fn workloads_are_a_table_with_istioctls_columns_by_namespace_and_name() {
    let text = table(Page::Workloads, &recorded(), &Filters::default());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0].split("   ").filter(|it| !it.is_empty()).map(str::trim).collect::<Vec<_>>(),
        ["NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL"]
    );
    let client: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(client, ["default", "client", "10.244.1.19", "n1", "None", "HBONE"]);
    assert_eq!(lines.len(), 11, "{text}");
    let mut names: Vec<_> =
        lines[1..].iter().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    names.sort();
    assert_eq!(
        names,
        lines[1..].iter().map(|l| l.split_whitespace().take(2).collect::<Vec<_>>()).collect::<Vec<_>>()
    );
}

#[test]
fn each_filter_leaves_only_what_it_names() {
    let dump = recorded();
    let count = |by: Filters| Page::Workloads.items(&dump, &by).len();
    let some = |text: &str| Some(text.to_owned());
    for (by, wanted) in [
        (Filters { namespace: some("istio-system"), ..Filters::default() }, 3),
        (Filters { namespace: some("nowhere"), ..Filters::default() }, 0),
        (Filters { address: Some("10.244.1.19".parse().unwrap()), ..Filters::default() }, 1),
        (Filters { pod: Some(("default".into(), "client".into())), ..Filters::default() }, 1),
        (Filters { pod: Some(("other".into(), "client".into())), ..Filters::default() }, 0),
    ] {
        let found = count(by.clone());
        assert!(if wanted > 1 { found > 1 } else { found == wanted }, "{by:?}: {found}");
    }
    let on = |node: &str| count(Filters { node: some(node), ..Filters::default() });
    assert!(on("n1") > 0 && on("n1") < 10);
}

#[test]
fn services_show_their_addresses_without_the_network_and_their_healthy_ends() {
    let mut whole = recorded().whole().clone();
    whole["services"][0]["endpoints"]["x"] = json!({"workloadUid": "x", "status": "Unhealthy"});
    whole["services"][0]["vips"] = json!(["net1/10.0.0.1", "/fd00::1"]);
    let dump = Dump::parse(&whole.to_string()).unwrap();
    let text = table(
        Page::Services,
        &dump,
        &Filters { namespace: Some("istio-system".into()), ..Filters::default() },
    );
    let cells: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells, ["istio-system", "istiod", "10.0.0.1,fd00::1", "None", "1/2"]);
}

#[test]
fn a_waypoint_is_named_by_its_service_or_not_at_all() {
    let mut whole = recorded().whole().clone();
    whole["services"].as_array_mut().unwrap().push(json!({
        "name": "wp", "namespace": "default", "hostname": "wp.default.svc.cluster.local", "vips": ["net1/10.9.9.9"],
    }));
    for (destination, shown) in [
        ("default/wp.default.svc.cluster.local", "wp"),
        ("net1/10.9.9.9", "wp"),
        ("default/gone.default.svc.cluster.local", "NA"),
        ("/10.9.9.9", "NA"),
    ] {
        whole["workloads"][0]["waypoint"] = json!({"destination": destination});
        let dump = Dump::parse(&whole.to_string()).unwrap();
        assert_eq!(dump.waypoint(&dump.list("workloads")[0]), shown, "{destination}");
    }
}

#[test]
fn certificates_show_whether_they_are_valid_now_and_their_numbers_in_hexadecimal() {
    let dump = recorded();
    let text = table(Page::Certificates, &dump, &Filters::default());
    let rows: Vec<Vec<_>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let identity = "spiffe://cluster.local/ns/default/sa/default";
    let (leaf, root) = ("c1e2a6dea24f2bb143060603dcf5da3d", "261e8765d611d18f8f1ea737777f1c35");
    assert_eq!(rows[0][..4], [identity, "Leaf", "Available", "true"]);
    assert_eq!(rows[1][..4], [identity, "Root", "Available", "true"]);
    assert_eq!((rows[0][4], rows[1][4]), (leaf, root));
    let later = Page::Certificates.table(&dump, dump.list("certificates"), at("2027-01-01T00:00:00Z")).text();
    let valid: Vec<_> = later.lines().skip(1).map(|line| line.split_whitespace().nth(3).unwrap()).collect();
    assert_eq!(valid, ["false", "true"], "{later}");
}

#[test]
fn an_identity_without_a_certificate_is_shown_with_why() {
    let mut whole = recorded().whole().clone();
    whole["certificates"] = json!([{"identity": "spiffe://a/ns/b/sa/c", "state": "Unavailable: no CA",
        "certChain": [], "rootCerts": []}]);
    let text = table(Page::Certificates, &Dump::parse(&whole.to_string()).unwrap(), &Filters::default());
    assert!(text.contains("Unavailable: no CA") && text.contains("NA"), "{text}");
}

#[test]
fn a_decimal_number_of_any_length_is_written_in_hexadecimal() {
    for (decimal, digits) in [
        ("0", "NA"),
        ("10", "a"),
        ("255", "ff"),
        ("340282366920938463463374607431768211456", "100000000000000000000000000000000"),
        ("x", "NA"),
        ("", "NA"),
    ] {
        assert_eq!(hex(decimal), digits, "{decimal}");
    }
}

#[test]
fn connections_are_shown_from_their_pods_side_with_names_unless_they_are_to_be_raw() {
    let mut whole = recorded().whole().clone();
    let uid =
        whole["workloadState"].as_object().unwrap().iter().find(|(_, it)| it["info"]["name"] == "client");
    let uid = uid.unwrap().0.clone();
    whole["workloadState"][&uid]["connections"] = json!({
        "inbound": [{"src": "10.9.0.9:4000", "originalDst": null, "actualDst": "10.244.1.19:8080", "protocol": "TCP"}],
        "outbound": [{"src": "10.244.1.19:4001", "originalDst": "10.96.0.10:53", "actualDst": "10.9.0.7:15008",
            "protocol": "HBONE"}],
    });
    let dump = Dump::parse(&whole.to_string()).unwrap();
    let text = table(Page::Connections { raw: false }, &dump, &Filters::default());
    let rows: Vec<Vec<_>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["client.default", "Inbound", "client.default:8080", "10.9.0.9:4000", "-", "TCP"]);
    let dns = "kube-dns.kube-system.svc.cluster.local:53";
    assert_eq!(
        rows[1],
        ["client.default", "Outbound", "client.default:4001", "10.9.0.7:15008", dns, "HBONE"]
    );
    let raw = table(Page::Connections { raw: true }, &dump, &Filters::default());
    assert!(raw.contains("10.244.1.19:8080") && !raw.contains("kube-dns"), "{raw}");
    let out = Filters { direction: Some(Direction::Outbound), ..Filters::default() };
    assert_eq!(Page::Connections { raw: true }.items(&dump, &out).len(), 1);
    let elsewhere = Filters { namespace: Some("elsewhere".into()), ..Filters::default() };
    assert!(Page::Connections { raw: true }.items(&dump, &elsewhere).is_empty());
}

#[test]
fn what_is_no_dump_is_refused_with_what_it_lacks() {
    for (text, lacks) in [("[]", "workloads"), ("{\"workloads\": []}", "services"), ("nonsense", "no JSON")] {
        let error = Dump::parse(text).unwrap_err().to_string();
        assert!(error.contains(lacks), "{text}: {error}");
    }
}
