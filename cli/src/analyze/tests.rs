//! What is said of manifests, one by one and together.

use ambit_cluster::files::load_text;

use super::*;

const GOOD: &str = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n---\n";

/// A small mesh with nothing wrong.
const MESH: &str = r"
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop}}
---
apiVersion: v1
kind: Pod
metadata:
  {name: web, namespace: shop, labels: {app: web}, annotations: {ambient.istio.io/redirection: enabled}}
spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 8080, name: http}]}]}
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web], namespaces: [shop]}}]}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}
spec: {hosts: [api.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
";

fn compared(yaml: &str, around: &Surroundings) -> Vec<Finding> {
    let loaded = load_text(Path::new("mesh.yaml"), yaml);
    assert_eq!(loaded.faults, []);
    let mut analysis = Analysis::default();
    analysis.compare(&loaded.objects, around);
    analysis.findings
}

fn whole() -> Surroundings {
    Surroundings { whole: true, ..Surroundings::default() }
}

#[test]
fn a_mesh_with_nothing_wrong_is_told_nothing_of() {
    assert_eq!(compared(MESH, &whole()), []);
    assert_eq!(compared(MESH, &Surroundings::default()), []);
}

#[test]
fn each_thing_that_is_wrong_between_objects_has_its_code_its_field_and_a_remedy() {
    let entry = |name: &str, namespace: &str, host: &str, protocol: &str| {
        format!(
            "\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-02-01T00:00:00Z'}}\n\
             spec: {{hosts: [{host}], ports: [{{number: 443, name: a, protocol: {protocol}}}], resolution: DNS}}\n"
        )
    };
    let peer = |namespace: &str| {
        format!(
            "\n---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: zweit, namespace: {namespace}}}\nspec: {{selector: {{matchLabels: {{app: web}}}}}}\n"
        )
    };
    let target = "spec:\n  targetRefs: [{group: '', kind: Service, name: gone}]\n  rules:";
    let condition = "\n---\napiVersion: v1\nkind: Service\nmetadata: {name: w, namespace: shop}\n\
        spec: {ports: [{port: 80}]}\nstatus: {conditions: [{type: istio.io/WaypointBound, status: 'False', \
        reason: NotFound, message: no waypoint}]}\n";
    let cases: [(String, &str, &str); 16] = [
        (
            MESH.replace("  selector: {matchLabels: {app: web}}", "  selector: {matchLabels: {app: we}}"),
            "AMB0101",
            "app=we",
        ),
        (MESH.replace("spec:\n  selector: {matchLabels: {app: web}}\n  rules:", target), "AMB0102", "gone"),
        (MESH.to_owned() + &peer("shop"), "AMB0103", "older"),
        (MESH.replace("portLevelMtls: {8080:", "portLevelMtls: {9090:"), "AMB0104", "9090"),
        (MESH.replace("cluster.local/ns/shop", "other.example/ns/shop"), "AMB0105", "other.example"),
        (MESH.replace("/sa/web]", "/sa/wep]"), "AMB0106", "wep"),
        (MESH.replace("namespaces: [shop]", "namespaces: [shopp]"), "AMB0106", "shopp"),
        (MESH.to_owned() + &peer("istio-system"), "AMB0107", "ignored"),
        (MESH.replace("redirection: enabled", "redirection: pending"), "AMB0201", "web ("),
        (MESH.replace("dataplane-mode: ambient", "dataplane-mode: ambiant"), "AMB0202", "ambiant"),
        (
            MESH.replace("dataplane-mode: ambient", "dataplane-mode: ambient, istio-injection: enabled"),
            "AMB0203",
            "sidecar",
        ),
        (MESH.to_owned() + &entry("twin", "shop", "api.example.com", "TLS"), "AMB0301", "outside"),
        (MESH.to_owned() + &entry("odd", "istio-system", "api.example.com", "HTTP"), "AMB0302", "TLS"),
        (
            MESH.replace("spec: {selector: {app: web}, ports", "spec: {selector: {app: w}, ports"),
            "AMB0303",
            "chooses no pod",
        ),
        (MESH.replace("status: 'True'", "status: 'False'"), "AMB0303", "none of its 1 pods is ready"),
        (MESH.replace("ambient}}}", "ambient, istio.io/use-waypoint: wp}}}"), "AMB0304", "no Gateway wp"),
    ];
    for (yaml, code, says) in
        cases.into_iter().chain([(MESH.to_owned() + condition, "AMB0003", "no waypoint")])
    {
        let found = compared(&yaml, &whole());
        let [one] = found.as_slice() else { panic!("{code}: {found:?}") };
        let said = text(&Analysis { objects: 0, findings: found.clone() });
        assert_eq!(one.code, code, "{said}");
        assert!(said.contains(says), "{code}: {said}");
        assert!(code == "AMB0003" || !one.remedy.is_empty(), "{said}");
    }
}

#[test]
fn a_principal_under_another_name_of_the_meshs_trust_domain_is_one_of_ours() {
    let map = |mesh: &str| {
        let head =
            "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n";
        format!(
            "{}{head}data: {{mesh: '{mesh}'}}\n",
            MESH.replace("cluster.local/ns/shop", "old.example/ns/shop")
        )
    };
    assert_eq!(compared(&map("trustDomainAliases: [old.example]"), &whole()), []);
    let found = compared(&map("trustDomainAliases: [older.example]"), &whole());
    assert_eq!(found.iter().map(|it| it.code).collect::<Vec<_>>(), ["AMB0105"]);
}

#[test]
fn what_the_mesh_says_of_an_object_is_told_where_it_is_not_as_asked() {
    let policy = |kind: &str, status: &str, reason: &str| {
        let said = format!("{{type: {kind}, status: '{status}', reason: {reason}, message: because}}");
        let rules = "namespaces: [shop]}}]}]\n";
        MESH.replace(rules, &format!("{rules}status: {{conditions: [{said}]}}\n"))
    };
    for (kind, status, reason, told) in [
        ("ZtunnelAccepted", "True", "Accepted", 0),
        ("ZtunnelAccepted", "True", "PartiallyInvalid", 1),
        ("ZtunnelAccepted", "True", "UnsupportedValue", 1),
        ("ZtunnelAccepted", "False", "Invalid", 1),
        ("istio.io/Accepted", "False", "Invalid", 1),
        ("example.com/Accepted-by-nobody", "False", "Invalid", 0),
    ] {
        let found = compared(&policy(kind, status, reason), &whole());
        assert_eq!(found.len(), told, "{kind} {status} {reason}: {found:?}");
    }
}

#[test]
fn a_service_of_a_host_counts_before_an_entry() {
    let yaml = MESH.replace("hosts: [api.example.com]", "hosts: [web.shop.svc.cluster.local]");
    let found = compared(&yaml, &whole());
    assert_eq!((found.len(), found[0].code), (1, "AMB0301"), "{found:?}");
    assert!(found[0].problem.contains("Service shop/web"), "{found:?}");
}

#[test]
fn files_without_pods_or_services_are_no_reason_to_miss_them() {
    let policies =
        MESH.split("---\n").filter(|it| it.contains("security.istio.io")).collect::<Vec<_>>().join("---\n");
    let policies =
        policies.replace("  selector: {matchLabels: {app: web}}", "  targetRefs: [{kind: Service, name: x}]");
    assert_eq!(compared(&policies, &Surroundings::default()), []);
    assert!(!compared(&policies, &whole()).is_empty());
}

#[test]
fn the_meshs_own_trust_domain_is_read_and_the_usual_one_stands_for_it() {
    let mesh = "\n---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, \
        data: {mesh: 'trustDomain: a.example'}}\n";
    assert_eq!(compared(&(MESH.to_owned() + mesh), &whole()), []);
    let own = MESH.replace("cluster.local/ns", "a.example/ns");
    assert_eq!(compared(&(own.clone() + mesh), &whole()), []);
    assert_eq!(compared(&own, &whole()).len(), 1);
}

#[test]
fn a_namespace_is_chosen_and_what_is_in_none_stays() {
    let yaml = MESH.replace("spec: {selector: {app: web}, ports", "spec: {selector: {app: w}, ports");
    let mut analysis = Analysis { objects: 0, findings: compared(&yaml, &whole()) };
    analysis.only(Some("shop"));
    assert_eq!(analysis.findings.len(), 1);
    analysis.only(Some("other"));
    assert_eq!(analysis.findings, []);
}

#[test]
fn a_fault_is_told_with_file_document_object_field_value_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let bad = "apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: shop }\n\
               spec: { ports: [{ port: 123456 }] }\n";
    let path = dir.path().join("all.yaml");
    std::fs::write(&path, format!("{GOOD}{bad}")).unwrap();
    for given in [path.clone(), dir.path().to_owned()] {
        let (analysis, _) = read(&[given]).unwrap();
        let [finding] = analysis.findings.as_slice() else { panic!("{analysis:?}") };
        assert_eq!((analysis.objects, finding.document), (1, Some(2)));
        assert_eq!((finding.file.as_ref(), finding.field.as_str()), (Some(&path), "spec.ports[0].port"));
        let object = finding.object.as_deref().unwrap();
        assert!(object.contains("shop/web") && finding.value.contains("123456"), "{finding:?}");
        let text = text(&analysis);
        assert!(text.contains("all.yaml, document 2 (") && text.contains("error AMB0001: "), "{text}");
        assert!(text.ends_with("objects read: 1, errors: 1, warnings: 0"), "{text}");
    }
}

#[test]
fn a_file_that_is_named_is_read_whatever_it_is_called() {
    let dir = tempfile::tempdir().unwrap();
    for name in [".hidden.yaml", "notes.txt", "all.yaml"] {
        let path = dir.path().join(name);
        std::fs::write(&path, GOOD).unwrap();
        assert_eq!(read(&[path]).unwrap().0.objects, 1, "{name}");
    }
}

#[test]
fn a_warning_is_told_and_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let wide = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                metadata: { name: a, namespace: shop }\nspec: { selector: { matchLabels: {} }, rules: [{}] }\n";
    std::fs::write(dir.path().join("a.yaml"), wide).unwrap();
    let (analysis, _) = read(&[dir.path().to_owned()]).unwrap();
    assert_eq!((analysis.count(Severity::Error), analysis.count(Severity::Warning)), (0, 1), "{analysis:?}");
}

#[test]
fn what_is_good_is_counted_and_what_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yaml"), GOOD).unwrap();
    let (analysis, _) = read(&[dir.path().to_owned()]).unwrap();
    assert_eq!(text(&analysis), "objects read: 1, errors: 0, warnings: 0");
    assert!(read(&[dir.path().join("b.yaml")]).is_err());
}
