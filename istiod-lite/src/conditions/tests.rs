//! What authors read, by what they wrote.

use super::*;
use crate::testing::world;

fn said(world: &World, kind: Kind, name: &str) -> Vec<String> {
    let all = of(world, &ObjectRef::new(kind, "shop", name));
    all.into_iter().map(|it| format!("{}={} {}", it.kind, it.status, it.reason)).collect()
}

const SHOP: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {LABELS}}}\n";

#[test]
fn what_asks_for_a_waypoint_reads_that_none_is_attached() {
    let objects = "---\n{apiVersion: v1, kind: Service, metadata: {name: plain, namespace: shop}, spec: {ports: [{port: 80}]}}\n---\n\
        {apiVersion: v1, kind: Service, metadata: {name: out, namespace: shop, labels: {istio.io/use-waypoint: none}}, spec: {ports: [{port: 80}]}}\n---\n\
        {apiVersion: v1, kind: Service, metadata: {name: own, namespace: shop, labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: gw}}, spec: {ports: [{port: 80}]}}\n---\n\
        {apiVersion: v1, kind: Service, metadata: {name: managed, namespace: shop, labels: {gateway.istio.io/managed: istio.io-mesh-controller}}, spec: {ports: [{port: 80}]}}\n---\n\
        {apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: vm, namespace: shop}, spec: {address: 10.0.0.1}}\n";
    let bound = ["istio.io/WaypointBound=False WaypointIsNotReady"];
    let without = world(&(SHOP.replace("LABELS", "") + objects));
    assert_eq!(said(&without, Kind::Service, "plain"), [""; 0]);
    assert_eq!(said(&without, Kind::Service, "own"), bound);
    let with = world(&(SHOP.replace("LABELS", "istio.io/use-waypoint: main") + objects));
    for (kind, name, told) in [
        (Kind::Service, "plain", &bound[..]),
        (Kind::Service, "own", &bound),
        (Kind::WorkloadEntry, "vm", &bound),
        (Kind::Service, "out", &[]),
        (Kind::Service, "managed", &[]),
        (Kind::Service, "nobody", &[]),
    ] {
        assert_eq!(said(&with, kind, name), told, "{name}");
    }
    let message = |name: &str| of(&with, &ObjectRef::new(Kind::Service, "shop", name))[0].message.clone();
    assert!(message("plain").contains("\"shop/main\"") && message("own").contains("\"gw/w\""));
}

#[test]
fn entries_read_for_whom_they_are_and_what_they_lack() {
    let entry = |meta: &str, spec: &str| {
        format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: e, namespace: shop, {meta}}}, spec: {spec}}}\n"
        )
    };
    let mesh = |word: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: 'serviceEntryVisibility: {{defaultVisibility: {word}}}'}}}}\n"
        )
    };
    let plain = entry("", "{hosts: [h.example], resolution: DNS, ports: [{number: 80}]}");
    let tell = |manifests: &str| said(&world(manifests), Kind::ServiceEntry, "e");
    assert_eq!(tell(&plain), [""; 0], "nothing while nothing is configured");
    for (word, reason) in [("PUBLIC", "Public"), ("NAMESPACE", "Namespace"), ("NONE", "None")] {
        let told = format!("istio.io/VisibilityApplied=True {reason}");
        assert_eq!(tell(&(mesh(word) + &plain)), [told]);
    }
    let wild =
        entry("", "{hosts: ['*.example'], resolution: DYNAMIC_DNS, ports: [{number: 80, protocol: HTTP}]}");
    assert_eq!(tell(&wild), ["istio.io/WaypointMissing=True NoWaypointForWildcardService"]);
    let racing = entry(
        "annotations: {istio.io/connect-strategy: race_first_tcp_connect}",
        "{hosts: [h.example], resolution: DNS}",
    );
    assert_eq!(tell(&racing), ["istio.io/WaypointMissing=True NoWaypointForRacingConnectStrategy"]);
}

#[test]
fn policies_for_waypoints_read_for_which_of_their_targets_they_are_enforced() {
    let all = |class: &str, spec: &str| {
        format!(
            "---
{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: way, namespace: shop, labels: {{istio.io/waypoint-for: all}}}}, spec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}, status: {{addresses: [{{type: IPAddress, value: 10.0.0.9}}]}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: shop, labels: {{istio.io/use-waypoint: way}}}}, spec: {{ports: [{{port: 80}}]}}}}
---
{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}}, data: {{mesh: 'extensionProviders: [{{name: known, envoyExtAuthzGrpc: {{service: s.shop.svc.cluster.local, port: 80}}}}, {{name: away, envoyExtAuthzGrpc: {{service: t.shop.svc.cluster.local, port: 80}}}}]'}}}}
---
{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: shop}}, spec: {{{spec}}}}}
"
        )
    };
    let gateway = "{group: gateway.networking.k8s.io, kind: Gateway, name: way}";
    let (one, other) = ("{kind: Service, name: s}", "{kind: Service, name: t}");
    for (class, spec, told) in [
        ("istio-waypoint", format!("targetRefs: [{one}, {gateway}], rules: [{{}}]"), "True Accepted"),
        ("istio-waypoint", format!("targetRefs: [{one}, {other}], rules: [{{}}]"), "True PartiallyInvalid"),
        (
            "istio-waypoint",
            format!("targetRefs: [{one}], action: CUSTOM, provider: {{name: them}}, rules: [{{}}]"),
            "True PartiallyInvalid",
        ),
        (
            "istio-waypoint",
            format!("targetRefs: [{one}], action: CUSTOM, provider: {{name: known}}, rules: [{{}}]"),
            "True Accepted",
        ),
        (
            "istio-waypoint",
            format!("targetRefs: [{one}], action: CUSTOM, provider: {{name: away}}, rules: [{{}}]"),
            "True PartiallyInvalid",
        ),
        (
            "istio-waypoint",
            format!("targetRefs: [{one}], rules: [{{when: [{{key: what.is.this, values: [x]}}]}}]"),
            "True PartiallyInvalid",
        ),
        // Another's waypoint may know of it; nobody here can say.
        ("other", format!("targetRefs: [{gateway}], rules: [{{}}]"), "False UnsupportedValue"),
    ] {
        let world = world(&all(class, &spec));
        assert_eq!(
            said(&world, Kind::AuthorizationPolicy, "p"),
            [format!("WaypointAccepted={told}")],
            "{spec}"
        );
    }
}

#[test]
fn whose_tokens_are_believed_reads_where_and_what_of_it_is_not_honoured() {
    let all = |spec: &str| {
        format!(
            "---
{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: way, namespace: shop}}, spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}, status: {{addresses: [{{type: IPAddress, value: 10.0.0.9}}]}}}}
---
{{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{name: r, namespace: shop}}, spec: {{{spec}}}}}
"
        )
    };
    let way = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: way}]";
    for (spec, told) in [
        (
            format!("{way}, jwtRules: [{{issuer: 'https://issuer.example'}}]"),
            "WaypointAccepted=True Accepted",
        ),
        // Nobody has told of its keys.
        (format!("{way}, jwtRules: [{{issuer: me}}]"), "WaypointAccepted=True PartiallyInvalid"),
        ("targetRefs: [{kind: Service, name: s}]".into(), "WaypointAccepted=False TargetNotFound"),
        ("selector: {matchLabels: {app: web}}".into(), "ZtunnelAccepted=False UnsupportedValue"),
    ] {
        assert_eq!(said(&world(&all(&spec)), Kind::RequestAuthentication, "r"), [told], "{spec}");
    }
}

#[test]
fn a_policy_of_a_processor_reads_who_enforces_it_and_whether_the_processor_is_there() {
    let all = |spec: &str| {
        format!(
            "---
{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: way, namespace: shop}}, spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}, status: {{addresses: [{{type: IPAddress, value: 10.0.0.9}}]}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: guard, namespace: shop}}, spec: {{ports: [{{port: 9002}}]}}}}
---
{{apiVersion: ambit.io/v1alpha1, kind: ExtProcPolicy, metadata: {{name: p, namespace: shop}}, spec: {{{spec}, port: 9002}}}}
"
        )
    };
    let (way, lost) =
        ("{group: gateway.networking.k8s.io, kind: Gateway, name: way}", "{kind: Service, name: lost}");
    for (spec, told, wanted) in [
        (format!("targetRefs: [{way}], service: guard"), "True Accepted", "enforced by waypoints"),
        (format!("targetRefs: [{way}], service: away"), "True PartiallyInvalid", "so requests are refused"),
        (
            format!("targetRefs: [{way}], service: away, failOpen: true"),
            "True PartiallyInvalid",
            "so requests go on unprocessed",
        ),
        (format!("targetRefs: [{way}], service: 'a b'"), "True PartiallyInvalid", "is none"),
        (format!("targetRefs: [{lost}], service: guard"), "False TargetNotFound", "does not exist"),
    ] {
        let world = world(&all(&spec));
        assert_eq!(said(&world, Kind::ExtProcPolicy, "p"), [format!("WaypointAccepted={told}")], "{spec}");
        let conditions = of(&world, &ObjectRef::new(Kind::ExtProcPolicy, "shop", "p"));
        assert!(conditions[0].message.contains(wanted), "{}", conditions[0].message);
    }
}

#[test]
fn a_policy_of_a_route_reads_whether_the_route_and_its_rule_are_there_and_in_force() {
    let all = |target: &str| {
        format!(
            "{WAY}---
{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: r, namespace: shop}}, spec: {{parentRefs: [{{group: '', kind: Service, name: s}}], rules: [{{name: pay, backendRefs: [{{name: s, port: 80}}]}}]}}}}
---
{{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {{name: lost, namespace: shop}}, spec: {{parentRefs: [{{group: '', kind: Service, name: bare}}], rules: [{{backendRefs: [{{name: s, port: 80}}]}}]}}}}
---
{{apiVersion: ambit.io/v1alpha1, kind: RateLimitPolicy, metadata: {{name: p, namespace: shop}}, spec: {{targetRefs: [{{group: gateway.networking.k8s.io, {target}}}], local: [{{requests: 1, per: 1s}}]}}}}
---
{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: shop}}, spec: {{targetRefs: [{{group: gateway.networking.k8s.io, {target}}}], rules: [{{}}]}}}}
"
        )
    };
    for (target, told, wanted) in [
        ("kind: HTTPRoute, name: r", "True Accepted", "HTTPRoute.gateway.networking.k8s.io:shop/r"),
        ("kind: HTTPRoute, name: r, sectionName: pay", "True Accepted", "shop/r (pay)"),
        ("kind: HTTPRoute, name: r, sectionName: buy", "False TargetNotFound", "no rule of the name"),
        ("kind: HTTPRoute, name: q", "False TargetNotFound", "does not exist"),
        ("kind: GRPCRoute, name: r", "False TargetNotFound", "does not exist"),
        ("kind: GRPCRoute, name: lost", "False AncestorNotBound", "none is attached"),
        ("kind: TCPRoute, name: r", "False Invalid", "objects of this kind"),
    ] {
        let world = world(&all(target));
        assert_eq!(
            said(&world, Kind::RateLimitPolicy, "p"),
            [format!("WaypointAccepted={told}")],
            "{target}"
        );
        let conditions = of(&world, &ObjectRef::new(Kind::RateLimitPolicy, "shop", "p"));
        assert!(conditions[0].message.contains(wanted), "{}", conditions[0].message);
        assert_eq!(said(&world, Kind::AuthorizationPolicy, "p"), ["WaypointAccepted=False Invalid"]);
    }
}

#[test]
fn a_policy_of_limits_reads_whether_who_counts_is_there_and_what_of_it_does_not_read() {
    let all = |global: &str| {
        format!(
            "---
{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: way, namespace: shop}}, spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}, status: {{addresses: [{{type: IPAddress, value: 10.0.0.9}}]}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: limits, namespace: shop}}, spec: {{ports: [{{port: 8081}}]}}}}
---
{{apiVersion: ambit.io/v1alpha1, kind: RateLimitPolicy, metadata: {{name: p, namespace: shop}}, spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: way}}], global: {{{global}, port: 8081, domain: d, descriptors: [{{entries: [{{key: a, value: b}}]}}]}}}}}}
"
        )
    };
    for (global, told, wanted) in [
        ("service: limits", "True Accepted", "enforced by waypoints"),
        ("service: away", "True PartiallyInvalid", "of global is not there, so requests go on uncounted"),
        (
            "service: 'a b'",
            "True PartiallyInvalid",
            "spec.global.service: \"a b\" is none, so requests go on",
        ),
        ("service: 'a b', onFailure: Deny", "True PartiallyInvalid", "is none, so requests are refused"),
    ] {
        let world = world(&all(global));
        assert_eq!(
            said(&world, Kind::RateLimitPolicy, "p"),
            [format!("WaypointAccepted={told}")],
            "{global}"
        );
        let conditions = of(&world, &ObjectRef::new(Kind::RateLimitPolicy, "shop", "p"));
        assert!(conditions[0].message.contains(wanted), "{}", conditions[0].message);
    }
}

#[test]
fn policies_for_waypoints_read_that_nobody_enforces_them() {
    let policy = |namespace: &str, targets: &str| {
        format!(
            "---\n{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: {namespace}}}, spec: {{targetRefs: {targets}, rules: [{{}}]}}}}\n"
        )
    };
    let service = "---\n{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {ports: [{port: 80}]}}\n";
    let class = "[{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]";
    for (targets, told) in [
        ("[{kind: Service, name: s}]", "AncestorNotBound"),
        ("[{kind: Service, name: t}]", "TargetNotFound"),
        ("[{group: networking.istio.io, kind: ServiceEntry, name: s}]", "TargetNotFound"),
        ("[{kind: Service, name: s}, {kind: Service, name: t}]", "Invalid"),
        (class, "Invalid"),
    ] {
        let world = world(&(service.to_owned() + &policy("shop", targets)));
        assert_eq!(said(&world, Kind::AuthorizationPolicy, "p"), [format!("WaypointAccepted=False {told}")]);
    }
    let root = world(&policy("istio-system", class));
    let told = of(&root, &ObjectRef::new(Kind::AuthorizationPolicy, "istio-system", "p"));
    assert_eq!((told.len(), told[0].reason), (1, "AncestorNotBound"));
}

const WAY: &str = "---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: way, namespace: shop}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}, status: {addresses: [{type: IPAddress, value: 10.0.0.9}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop, labels: {istio.io/use-waypoint: way}}, spec: {ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: bare, namespace: shop}, spec: {ports: [{port: 80}]}}
";

fn ordered(name: &str, month: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}, namespace: shop, creationTimestamp: '2026-{month}-01T00:00:00Z'}}, spec: {{{spec}}}}}\n"
    )
}

#[test]
fn virtual_services_read_who_carries_them_out_and_what_of_them_nobody_does() {
    let to = |host: &str| format!("route: [{{destination: {{host: {host}}}}}]");
    let rule = format!("http: [{{{}}}]", to("s"));
    let labels = "match: [{uri: {regex: '('}}]";
    for (spec, wanted) in [
        (format!("hosts: [s], {rule}"), &["WaypointAccepted=True Accepted"][..]),
        (format!("hosts: [bare], {rule}"), &["WaypointAccepted=False MissingUseWaypointLabel"]),
        (format!("hosts: [nobody], {rule}"), &["WaypointAccepted=False NoMatchingHost"]),
        (format!("hosts: [s], gateways: [front], {rule}"), &[]),
        (rule.clone(), &["WaypointAccepted=False NoMatchingHost"]),
        (
            format!("hosts: [s], http: [{{{}}}]", to("nobody")),
            &["WaypointAccepted=True Accepted", "ResolvedRefs=False BackendNotFound"],
        ),
        (
            format!("hosts: [s], http: [{{{labels}, {}}}, {{{}}}]", to("s"), to("s")),
            &["WaypointAccepted=True Accepted", "PartiallyInvalid=True UnsupportedValue"],
        ),
        (
            format!("hosts: [s], http: [{{{labels}, {}}}]", to("s")),
            &["WaypointAccepted=False UnsupportedValue", "PartiallyInvalid=True UnsupportedValue"],
        ),
        (format!("hosts: [s], {rule}, tcp: [{{{}}}]", to("s")), &["WaypointAccepted=True Accepted"]),
        (
            format!(
                "hosts: [s], tcp: [{{match: [{{sourceSubnet: here}}, {{port: 80}}], {}}}, {{{}}}]",
                to("s"),
                to("s")
            ),
            &["WaypointAccepted=True Accepted", "PartiallyInvalid=True UnsupportedValue"],
        ),
    ] {
        let world = world(&format!("{WAY}{}", ordered("v", "01", &spec)));
        assert_eq!(said(&world, Kind::VirtualService, "v"), wanted, "{spec}");
    }
}

#[test]
fn virtual_services_of_one_service_and_routes_beside_them_read_of_each_other() {
    let rule = "http: [{route: [{destination: {host: s}}]}]";
    let (older, newer) = (
        ordered("older", "01", &format!("hosts: [s], {rule}")),
        ordered("newer", "02", &format!("hosts: [s], {rule}")),
    );
    let inner = ordered("inner", "01", rule);
    let root = ordered("root", "03", "hosts: [s], http: [{delegate: {name: inner}}]");
    let message = |world: &World, name: &str| {
        of(world, &ObjectRef::new(Kind::VirtualService, "shop", name))[0].message.clone()
    };
    let alone = world(&format!("{WAY}{older}{newer}{inner}{root}"));
    assert_eq!(message(&alone, "older"), "carried out by waypoint \"shop/way\"");
    assert!(message(&alone, "newer").contains("come after those of VirtualService shop/older"));
    assert_eq!(message(&alone, "inner"), "a part of VirtualService shop/root");
    let http = "---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, spec: {parentRefs: [{group: '', kind: Service, name: s}], rules: [{backendRefs: [{name: s, port: 80}]}]}}
";
    let mixed = world(&format!("{WAY}{older}{http}"));
    assert_eq!(said(&mixed, Kind::VirtualService, "older"), ["WaypointAccepted=False Conflicted"]);
    assert!(
        message(&mixed, "older").contains("HTTPRoute shop/r is attached there"),
        "{}",
        message(&mixed, "older")
    );
    let told = route::route(&mixed, &ObjectRef::new(Kind::HttpRoute, "shop", "r"));
    let accepted = &told[0].1[0];
    assert_eq!((accepted.kind, accepted.status), ("Accepted", "True"));
    assert!(
        accepted.message.contains("VirtualService shop/older, which is passed over"),
        "{}",
        accepted.message
    );
}

#[test]
fn a_destination_rule_reads_who_goes_by_it_and_what_of_it_is_not_honoured() {
    let all = |label: &str, rules: &str| {
        format!(
            "---
{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: way, namespace: shop}}, spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}, status: {{addresses: [{{type: IPAddress, value: 10.0.0.9}}]}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop, labels: {{{label}}}}}, spec: {{ports: [{{port: 80}}]}}}}
{rules}"
        )
    };
    let rule = |namespace: &str, name: &str, spec: &str| {
        format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n"
        )
    };
    let bound = "istio.io/use-waypoint: way";
    let closer = rule("shop", "other", "host: web");
    for (label, spec, more, told) in [
        (bound, "host: web", "", "True Accepted"),
        (bound, "host: '*.svc.cluster.local'", "", "True Accepted"),
        (bound, "host: '*.svc.cluster.local'", closer.as_str(), "False Conflicted"),
        (bound, "host: web, trafficPolicy: {tls: {mode: SIMPLE}}", "", "True Accepted"),
        (bound, "host: web, trafficPolicy: {tls: {mode: MUTUAL}}", "", "True PartiallyInvalid"),
        (bound, "host: nobody", "", "False TargetNotFound"),
        (bound, "host: web, workloadSelector: {matchLabels: {a: b}}", "", "False UnsupportedValue"),
        ("", "host: web", "", "False AncestorNotBound"),
    ] {
        let world = world(&all(label, &format!("{}{more}", rule("shop", "r", spec))));
        let found = said(&world, Kind::DestinationRule, "r");
        assert_eq!(found, [format!("WaypointAccepted={told}")], "{spec} {more}");
    }
}

#[test]
fn a_policy_of_a_class_is_in_force_at_all_waypoints_of_ours_or_says_that_it_is_not() {
    let gateway = |class: &str| {
        format!(
            "---\n{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: way, namespace: shop}}, spec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}}}\n"
        )
    };
    let made = "---\n{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: own}, spec: {controllerName: istio.io/mesh-controller}}\n";
    let policy = |class: &str| {
        format!(
            "---\n{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: istio-system}}, spec: {{targetRefs: [{{group: gateway.networking.k8s.io, kind: GatewayClass, name: {class}}}], rules: [{{}}]}}}}\n"
        )
    };
    for (gateway_class, class, wanted) in [
        ("istio-waypoint", "istio-waypoint", "True Accepted"),
        ("ambit-waypoint", "istio-waypoint", "True Accepted"),
        ("own", "istio-waypoint", "True Accepted"),
        ("istio-agentgateway-waypoint", "istio-waypoint", "False AncestorNotBound"),
        ("istio-agentgateway-waypoint", "istio-agentgateway-waypoint", "False UnsupportedValue"),
        // Its gateways are ours, but nothing that is attached to it is sent to anybody.
        ("own", "own", "False UnsupportedValue"),
        ("istio-waypoint", "own", "False AncestorNotBound"),
    ] {
        let world = world(&(made.to_owned() + &gateway(gateway_class) + &policy(class)));
        let policies = &world.space("istio-system").unwrap().policies;
        let is_sent = crate::translate::demand::demand(&world, &policies["p"])
            .is_some_and(|it| it.targets.contains(&ambit_model::request_policy::Target::Mesh));
        let told = of(&world, &ObjectRef::new(Kind::AuthorizationPolicy, "istio-system", "p"));
        let told: Vec<_> = told.iter().map(|it| format!("{} {}", it.status, it.reason)).collect();
        assert_eq!(told, [wanted], "{gateway_class} {class}");
        assert!(is_sent || !wanted.starts_with("True"), "{gateway_class} {class}");
    }
}
