//! The shelf against texts: which fault a bad manifest gets, and what stays in force.

use super::*;

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec:
  rules:
  - from:
    - source: {ipBlocks: [10.0.0.0/8]}
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: a}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
";

fn shelf() -> Shelf {
    Shelf::new(Keep::Slim)
}

fn load(shelf: &mut Shelf, path: &str, text: &str) -> Vec<String> {
    let touched = shelf.load(Path::new(path), text);
    settle(shelf, touched)
}

fn settle(shelf: &mut Shelf, touched: Touched) -> Vec<String> {
    let tell = |event| match event {
        Event::Applied(object) => format!("+{}", object.reference),
        Event::Gone(object) => format!("-{object}"),
        Event::Complete | Event::Fault(_) => unreachable!("the shelf does not tell these"),
    };
    shelf.settle(touched).into_iter().map(tell).collect()
}

fn faults(shelf: &Shelf) -> Vec<String> {
    shelf.faults().map(ToString::to_string).collect()
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: s, namespace: shop}
spec: {ports: [{port: 80}]}
";

const PEER: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: p, namespace: shop}
spec:
  selector: {matchLabels: {app: a}}
  mtls: {mode: STRICT}
  portLevelMtls: {8080: {mode: DISABLE}}
";

/// A good text, a change that makes it bad, and what must be told of it: field, value, problem, remedy.
const BAD: &[(&str, &str, &str, &str)] = &[
    (
        POLICY,
        "10.0.0.0/8",
        "10.0.0.0/40",
        "(AuthorizationPolicy shop/p), spec.rules[0].from[0].source.ipBlocks[0]: \"10.0.0.0/40\": not an address or range; write",
    ),
    (
        POLICY,
        "ipBlocks: [10.0.0.0/8]",
        "principal: [a]",
        "unknown field `principal`, expected one of `principals`",
    ),
    (
        POLICY,
        "ipBlocks: [10.0.0.0/8]",
        "principals: ['']",
        "spec.rules[0].from[0].source.principals[0]: \"\": empty, or holds",
    ),
    (
        POLICY,
        "ipBlocks: [10.0.0.0/8]",
        "serviceAccounts: [a/b/c]",
        "serviceAccounts[0]: \"a/b/c\": not a service account; write",
    ),
    (
        POLICY,
        "  - from:\n    - source: {ipBlocks: [10.0.0.0/8]}",
        "  - to: [{operation: {ports: ['70000']}}]",
        "spec.rules[0].to[0].operation.ports[0]: \"70000\": not a port; use a number from 1 to 65535",
    ),
    (
        POLICY,
        "  - from:\n    - source: {ipBlocks: [10.0.0.0/8]}",
        "  - when: [{key: source.ip, values: [x]}]",
        "spec.rules[0].when[0].values[0]: x: not an address or range; write",
    ),
    (
        POLICY,
        "  - from:\n    - source: {ipBlocks: [10.0.0.0/8]}",
        "  - when: [{key: source.ip}]",
        "spec.rules[0].when[0]: source.ip: the condition demands nothing; give values",
    ),
    (
        POLICY,
        "  rules:\n  - from:\n    - source: {ipBlocks: [10.0.0.0/8]}",
        "  action: DENY",
        "spec.action: DENY: denies nothing without rules; add rules",
    ),
    (POLICY, "  rules:", "  action: REFUSE\n  rules:", "unknown variant `REFUSE`, expected one of `ALLOW`"),
    (
        POLICY,
        "AuthorizationPolicy",
        "AuthorisationPolicy",
        "kind: AuthorisationPolicy: unknown kind; kinds that are read: Node",
    ),
    (POLICY, "security.istio.io/v1", "v1", "apiVersion: v1: not this kind's API; write security.istio.io/v1"),
    (POLICY, "name: p", "name: P_q", "metadata.name: P_q: not a name; use lower-case letters"),
    (POLICY, "name: p, ", "", "metadata.name: missing"),
    (POLICY, "kind: AuthorizationPolicy", "", "kind: missing; say which kind"),
    (POLICY, "spec:", "spec:\n  action: ALLOW\n  action: DENY", "the key \"action\" is given twice"),
    (POLICY, "rules:", "rules: [", "line "),
    (POD, "{app: web}", "{app: 'a b'}", "label app has the value \"a b\"; use letters"),
    (POD, "{app: web}", "{app: 1}", "metadata.labels.app: 1: invalid type: integer `1`, expected a string"),
    (POD, "10.0.0.1", "10.0.0.256", "status.podIPs[0].ip: \"10.0.0.256\": not an IP address; write it like"),
    (POD, "phase: Running", "phase: Gone", "unknown variant `Gone`"),
    (SERVICE, "port: 80", "name: http", "spec.ports[0]: missing field `port`"),
    (
        PEER,
        "{mode: STRICT}",
        "STRICT",
        "spec.mtls: \"STRICT\": invalid type: string \"STRICT\", expected a mapping like",
    ),
    (SERVICE, "port: 80", "port: 0", "spec.ports[0].port: 0: not a port; use a number from 1 to 65535"),
    (SERVICE, "port: 80", "port: 80, targetPort: 70000", "spec.ports[0].targetPort: 70000: not a port"),
    (
        SERVICE,
        "ports:",
        "clusterIP: 10.0.0, ports:",
        "spec.clusterIP: \"10.0.0\": not a cluster address; write",
    ),
    (PEER, "8080", "80800", "not a port; use a number from 1 to 65535"),
    (PEER, "mode: DISABLE", "mode: OFF", "unknown variant `OFF`"),
    (
        PEER,
        "  selector: {matchLabels: {app: a}}\n",
        "",
        "spec.portLevelMtls: ports can only be set for workloads",
    ),
];

#[test]
fn each_bad_value_is_told_by_document_field_value_and_remedy() {
    for (text, from, to, told) in BAD {
        let mut shelf = shelf();
        assert_eq!(
            load(&mut shelf, "good.yaml", text).len(),
            1,
            "the text is good to begin with: {:?}",
            faults(&shelf)
        );
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, *text, "{from} is there to be replaced");
        let other = "{apiVersion: v1, kind: Namespace, metadata: {name: other}}";
        let events = load(&mut shelf, "good.yaml", &format!("# one\n---\n{other}\n---\n{bad}"));
        assert_eq!(
            events,
            ["+Namespace other"],
            "the good document is applied, the bad one changes nothing: {to}"
        );
        let all = faults(&shelf);
        assert_eq!(all.len(), 1, "{all:?}");
        let line = &all[0];
        assert!(line.starts_with("good.yaml, document 2"), "{line}");
        assert!(line.contains(told), "{line}\nshould contain\n{told}");
    }
}

#[test]
fn a_list_is_unpacked_and_its_items_are_told_apart() {
    let mut shelf = shelf();
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n\
                - {apiVersion: v1, kind: Nonsense, metadata: {name: b}}\n";
    assert_eq!(load(&mut shelf, "list.yaml", text), ["+Namespace a"]);
    assert!(faults(&shelf)[0].starts_with("list.yaml, document 1, items[1].kind: Nonsense: unknown kind"));
    let typed = r#"{"apiVersion": "v1", "kind": "NamespaceList", "items": [{"metadata": {"name": "c"}}]}"#;
    assert_eq!(load(&mut shelf, "typed.json", typed), ["+Namespace c"]);
}

#[test]
fn kinds_that_the_mesh_does_not_read_are_no_fault() {
    let mut shelf = shelf();
    let text = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n---\n{apiVersion: v1, kind: ConfigMap}\n---\n\
                {apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: a}}\n";
    assert!(load(&mut shelf, "a.yaml", text).is_empty());
    assert!(faults(&shelf).is_empty());
}

#[test]
fn documents_are_told_apart_however_they_are_bordered() {
    for (text, count) in [
        ("", 0),
        ("# nothing\n", 0),
        ("---\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n---\n", 1),
        ("%YAML 1.2\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: a}}\n...\n", 1),
        (
            "--- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n--- # next\napiVersion: v1\nkind: Node\nmetadata: {name: n}",
            2,
        ),
        (
            "apiVersion: v1\r\nkind: Node\r\nmetadata: {name: n}\r\n---\r\napiVersion: v1\r\nkind: Node\r\nmetadata: {name: m}\r\n",
            2,
        ),
    ] {
        let mut shelf = shelf();
        assert_eq!(load(&mut shelf, "a.yaml", text).len(), count, "{text:?}: {:?}", faults(&shelf));
        assert_eq!(faults(&shelf), Vec::<String>::new(), "{text:?}");
    }
}

#[test]
fn the_last_good_version_stays_until_the_document_is_good_again() {
    let mut shelf = shelf();
    load(&mut shelf, "a.yaml", POLICY);
    assert!(load(&mut shelf, "a.yaml", &POLICY.replace("10.0.0.0/8", "nowhere")).is_empty());
    assert!(load(&mut shelf, "a.yaml", "kind: [").is_empty());
    assert_eq!(
        load(&mut shelf, "a.yaml", &POLICY.replace("10.0.0.0/8", "10.0.0.0/9")),
        ["+AuthorizationPolicy shop/p"]
    );
    assert!(faults(&shelf).is_empty());
    assert_eq!(load(&mut shelf, "a.yaml", ""), ["-AuthorizationPolicy shop/p"]);
}

#[test]
fn of_the_same_object_in_two_files_the_first_by_name_is_in_force_and_the_other_a_fault() {
    let mut shelf = shelf();
    load(&mut shelf, "b.yaml", POD);
    assert_eq!(load(&mut shelf, "a.yaml", &POD.replace("10.0.0.1", "10.0.0.2")), ["+Pod shop/web"]);
    assert_eq!(
        faults(&shelf),
        [
            "b.yaml, document 1 (Pod shop/web): the same object is in a.yaml, which is the one in force; keep it in one file"
        ]
    );
    let touched = shelf.forget(Path::new("a.yaml"));
    assert_eq!(settle(&mut shelf, touched), ["+Pod shop/web"], "the other one takes over");
    assert!(faults(&shelf).is_empty());
}

#[test]
fn an_object_that_is_written_again_unchanged_is_not_told() {
    let mut shelf = shelf();
    load(&mut shelf, "a.yaml", POD);
    assert!(load(&mut shelf, "a.yaml", &format!("# a comment\n{POD}")).is_empty());
}

#[test]
fn an_object_moved_to_another_file_is_never_gone() {
    let mut shelf = shelf();
    load(&mut shelf, "a.yaml", POD);
    let touched = shelf.miss(Path::new("a.yaml"));
    assert!(settle(&mut shelf, touched).is_empty(), "it may come back");
    assert!(load(&mut shelf, "b.yaml", POD).is_empty());
    assert!(faults(&shelf).is_empty(), "no conflict with a file that is away");
    let touched = shelf.forget(Path::new("a.yaml"));
    assert!(settle(&mut shelf, touched).is_empty());
}

#[test]
fn what_the_overlay_says_is_laid_over_the_source() {
    let mut shelf = shelf();
    load(&mut shelf, "a.yaml", POD);
    let layer = Path::new("o/cni/Pod_shop_web.json");
    let patch = r#"{"patch": {"metadata": {"annotations": {"ambient.istio.io/redirection": "enabled"}}}}"#;
    let touched = shelf.load_layer(layer, patch);
    let events = shelf.settle(touched);
    let [Event::Applied(object)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(object.meta().annotation("ambient.istio.io/redirection"), Some("enabled"));
    let touched = shelf.load_layer(Path::new("o/user/Pod_shop_web.json"), r#""tombstone""#);
    assert_eq!(settle(&mut shelf, touched), ["-Pod shop/web"]);
    let touched = shelf.forget_layer(Path::new("o/user/Pod_shop_web.json"));
    assert_eq!(settle(&mut shelf, touched), ["+Pod shop/web"]);
    let touched = shelf.load_layer(layer, r#"{"patch": {"status": {"podIPs": [{"ip": "x"}]}}}"#);
    assert!(settle(&mut shelf, touched).is_empty(), "a patch that makes it bad changes nothing");
    assert!(
        faults(&shelf)[0].starts_with("overlay of cni (Pod shop/web), status.podIPs[0].ip: \"x\""),
        "{:?}",
        faults(&shelf)
    );
}

#[test]
fn an_object_without_a_namespace_lives_in_default_and_says_so() {
    let mut shelf = shelf();
    let touched = shelf.load(Path::new("a.yaml"), &POD.replace("namespace: shop, ", ""));
    let events = shelf.settle(touched);
    let [Event::Applied(object)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(
        (object.reference.to_string().as_str(), object.meta().namespace.as_str()),
        ("Pod default/web", "default")
    );
}

#[test]
fn a_document_of_an_unknown_kind_holds_on_to_nothing_but_its_own_name() {
    let mut shelf = shelf();
    let foreign = "{apiVersion: example.com/v1, kind: Widget, metadata: {name: widget}}";
    load(&mut shelf, "a.yaml", &format!("{POD}---{POLICY}---\n{foreign}"));
    assert_eq!(load(&mut shelf, "a.yaml", &format!("{POD}---\n{foreign}")), ["-AuthorizationPolicy shop/p"]);
    let mistyped = POD.replace("kind: Pod", "kind: Podd");
    assert!(load(&mut shelf, "a.yaml", &mistyped).is_empty(), "the last good version of the pod stays");
    assert_eq!(load(&mut shelf, "a.yaml", foreign), ["-Pod shop/web"]);
}
