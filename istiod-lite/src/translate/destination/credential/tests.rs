//! Secrets become what waypoints prove themselves by: whose they are, which can be used, and that nothing of one is shown.

use ambit_cluster::{Kind, ObjectRef};
use ambit_kit::Authority;
use ambit_model::delta::Change;
use ambit_model::traffic::{Handling, Roots};
use ambit_xds::library::Library;
use serde_json::json;

use super::*;
use crate::mesh::Mesh;
use crate::testing::objects;
use crate::translate::destination::of_asker;

const WORLD: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: way, namespace: ways}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]}, status: {addresses: [{type: IPAddress, value: 10.0.0.9}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: beside, namespace: ways}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]}, status: {addresses: [{type: IPAddress, value: 10.0.0.8}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop, labels: {istio.io/use-waypoint: way, istio.io/use-waypoint-namespace: ways}}, spec: {ports: [{name: one, port: 80}]}}
";

fn rule(tls: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: r, namespace: shop}}, spec: {{host: api, trafficPolicy: {{tls: {{{tls}}}}}}}}}\n"
    )
}

fn secret(namespace: &str, texts: &serde_json::Value) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Secret, metadata: {{name: gate, namespace: {namespace}}}, stringData: {texts}}}\n"
    )
}

fn world(manifests: &str, secrets: bool) -> World {
    let mut world = World::new(Mesh { secrets, ..Mesh::default() });
    let all = objects(&format!("{WORLD}{manifests}"));
    all.into_iter().for_each(|object| drop(world.apply(object)));
    world
}

fn handling(world: &World) -> Handling {
    let service = world.space("shop").unwrap().services["api"].clone();
    let key = "shop/api.shop.svc.cluster.local".parse().unwrap();
    of_asker(world, Asker::Service(&service), [&key], |_| Default::default()).pop().unwrap().handling
}

const MUTUAL: &str = "mode: MUTUAL, credentialName: gate";

#[test]
fn a_secret_of_the_waypoints_namespace_is_told_to_the_waypoints_that_rules_name_it_for_and_to_nobody_else() {
    let leaf = Authority::new().issue_host("gate.example");
    let texts = json!({"tls.crt": leaf.chain_pem, "tls.key": leaf.key_pem, "ca.crt": leaf.root_pem});
    let manifests = format!("{}{}{}", rule(MUTUAL), secret("ways", &texts), secret("shop", &texts));
    let world = world(&manifests, true);
    let told = |namespace: &str| credential(&world, &world.space(namespace).unwrap().secrets["gate"]);
    let found = told("ways").unwrap();
    assert_eq!(found.name.as_str(), "ways/gate");
    let owners: Vec<String> = found.owners.iter().map(ToString::to_string).collect();
    assert_eq!(owners, ["spiffe://cluster.local/ns/ways/sa/way"]);
    assert_eq!(told("shop"), None, "no waypoint of that namespace needs it");
    let tls = handling(&world).tls.unwrap();
    assert_eq!(
        (tls.shown.as_ref().map(|it| it.as_str()), tls.roots),
        (Some("ways/gate"), Roots::Credential("ways/gate".into()))
    );
    let wanted = [ObjectRef::new(Kind::Secret, "ways", "gate")];
    assert_eq!(world.referred().into_iter().collect::<Vec<_>>(), wanted);
    // Nothing of it is in what people see.
    let change = Change::Credential(found.into());
    let library = Library::default().with(&[change].into_iter().collect());
    let shown = [
        format!("{:?}", crate::dump::resources(&library, None)),
        crate::dump::sorted(&library).to_string(),
        format!("{library:?} {world:?}"),
    ];
    let piece = leaf.key_pem.lines().nth(1).unwrap();
    assert!(shown[0].contains("ways/gate"), "{shown:?}");
    assert!(shown.iter().all(|text| !text.contains(piece) && !text.contains("PRIVATE KEY")), "{shown:?}");
}

#[test]
fn what_cannot_be_used_sends_nothing_and_says_why_without_a_word_of_what_is_in_there() {
    let (leaf, other) = (Authority::new().issue_host("a.example"), Authority::new().issue_host("b.example"));
    let (chain, key, roots) = (&leaf.chain_pem, &leaf.key_pem, &leaf.root_pem);
    let whole = json!({"tls.crt": chain, "tls.key": key, "ca.crt": roots});
    const SIMPLE: &str = "mode: SIMPLE, credentialName: gate";
    for (tls, texts, wanted) in [
        (MUTUAL, whole.clone(), None),
        (MUTUAL, json!({"cert": chain, "key": key, "cacert": roots}), None),
        (MUTUAL, json!({"tls.crt": chain, "tls.key": key}), None),
        (SIMPLE, json!({"ca.crt": roots}), None),
        (SIMPLE, whole.clone(), None),
        (SIMPLE, json!({"tls.crt": chain, "tls.key": key}), Some("has no ca.crt")),
        (MUTUAL, json!({"ca.crt": roots}), Some("has no tls.crt and tls.key")),
        (MUTUAL, json!({"tls.crt": chain}), Some("without the other")),
        (MUTUAL, json!({"tls.crt": chain, "tls.key": other.key_pem}), Some("not each other's")),
        (MUTUAL, json!({"tls.crt": chain, "tls.key": "topsecret"}), Some("do not read")),
        (MUTUAL, json!({"tls.crt": chain, "tls.key": key, "ca.crt": "none"}), Some("ca.crt that holds no")),
        (MUTUAL, json!({"tls.crt": chain, "tls.key": key, "ca.crl": "x"}), Some("revoked certificates")),
        (MUTUAL, json!({"tls.crt": chain, "tls.key": "k".repeat(70_000)}), Some("64 KiB")),
        (MUTUAL, json!({"other": "x"}), Some("neither")),
        ("mode: MUTUAL, credentialName: away", whole.clone(), Some("is not there")),
        ("mode: MUTUAL", whole.clone(), Some("name a secret")),
        (
            "mode: MUTUAL, clientCertificate: /a, privateKey: /b",
            whole.clone(),
            Some("tls.clientCertificate: "),
        ),
        (
            "mode: MUTUAL, credentialName: gate, caCertificates: /a",
            whole.clone(),
            Some("tls.caCertificates: "),
        ),
    ] {
        let world = world(&format!("{}{}", rule(tls), secret("ways", &texts)), true);
        let handling = handling(&world);
        let why = handling.closed.as_ref().map(ToString::to_string);
        assert_eq!(why.is_some(), wanted.is_some(), "{tls} {why:?}");
        assert_eq!(handling.tls.is_none(), wanted.is_some(), "{tls}");
        let why = why.unwrap_or_default();
        assert!(why.contains(wanted.unwrap_or_default()) && !why.contains("topsecret"), "{wanted:?}: {why}");
        let said = crate::conditions::of(&world, &ObjectRef::new(Kind::DestinationRule, "shop", "r"));
        assert!(said[0].message.contains(wanted.unwrap_or("gone by by waypoints")), "{wanted:?}: {said:?}");
    }
}

#[test]
fn secrets_are_not_looked_at_unless_that_was_asked_for() {
    let leaf = Authority::new().issue_host("gate.example");
    let texts = json!({"tls.crt": leaf.chain_pem, "tls.key": leaf.key_pem});
    let world = world(&format!("{}{}", rule(MUTUAL), secret("ways", &texts)), false);
    assert_eq!(world.referred().len(), 0);
    assert_eq!(credential(&world, &world.space("ways").unwrap().secrets["gate"]), None);
    let why = handling(&world).closed.unwrap().to_string();
    assert!(why.contains("credentials.enabled"), "{why}");
}

#[test]
fn a_secret_that_changes_is_told_anew_and_whose_it_is_follows_rules_and_services() {
    let leaf = Authority::new().issue_host("gate.example");
    let texts = json!({"tls.crt": leaf.chain_pem, "tls.key": leaf.key_pem});
    let mut world = world(&format!("{}{}", rule(MUTUAL), secret("ways", &texts)), true);
    let is_told = |touched: &BTreeSet<crate::index::unit::Unit>, name: &str| {
        assert!(touched.iter().any(|it| &*it.name == name), "{name}: {touched:?}");
    };
    let at = ObjectRef::new(Kind::DestinationRule, "shop", "r");
    let touched = world.remove(&at);
    is_told(&touched, "gate");
    for object in objects(&rule(MUTUAL)) {
        is_told(&world.apply(object), "gate");
    }
    let touched = world.remove(&ObjectRef::new(Kind::Secret, "ways", "gate"));
    is_told(&touched, "gate");
    is_told(&touched, "api");
}
