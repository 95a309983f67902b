//! What is said of what is told of requests, by objects as their authors write them.

use ambit_cluster::kinds::mesh::MeshConfig;
use ambit_cluster::{Body, Kind, ObjectRef};
use ambit_model::delta::Change;

use ambit_model::telemetry::{Metric, Relabel, Sink};

use super::*;
use crate::conditions;
use crate::index::unit::{Unit, UnitKind};
use crate::testing::{objects, world};

const MESH: &str = "defaultConfig: {tracing: {sampling: 5, customTags: {env: {literal: {value: prod}}}}}\n\
    extensionProviders:\n\
    - {name: otel, opentelemetry: {service: otel.obs.svc, port: 4317}}\n\
    - {name: lines, envoyOtelAls: {service: otel.obs.svc, port: 4317}}\n\
    - {name: file, envoyFileAccessLog: {path: /dev/stdout}}\n\
    - {name: authz, envoyExtAuthzGrpc: {service: authz.shop.svc, port: 9000}}\n";

fn of(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}\n---\n"
    )
}

fn shop(text: &str) -> World {
    let mut world = world(text);
    let config: MeshConfig = yaml_serde::from_str(MESH).unwrap();
    world.mesh = world.mesh.with(config);
    world
}

fn read(world: &World, namespace: &str, name: &str) -> Reading {
    telemetry(world, world.space(namespace).unwrap().telemetries.get(name).unwrap())
}

fn said(world: &World, namespace: &str, name: &str) -> String {
    let all = conditions::of(world, &ObjectRef::new(Kind::Telemetry, namespace, name));
    let [one] = all.as_slice() else { panic!("{all:?}") };
    format!("{} {} {}: {}", one.kind, one.status, one.reason, one.message)
}

#[test]
fn one_is_about_the_mesh_its_namespace_or_what_it_is_attached_to_and_of_two_the_older_one_counts() {
    let target =
        |group: &str, kind: &str, name: &str| format!("{{group: '{group}', kind: {kind}, name: {name}}}");
    let gateway = "gateway.networking.k8s.io";
    let attached =
        format!("{{targetRefs: [{}, {}]}}", target("", "Service", "web"), target(gateway, "Gateway", "way"));
    let class = format!("{{targetRefs: [{}]}}", target(gateway, "GatewayClass", "istio-waypoint"));
    let web =
        format!("{{targetRefs: [{}, {}]}}", target("", "Service", "web"), target("", "Service", "cart"));
    let text = [
        of("all", "istio-system", "{}"),
        of("class", "istio-system", &class),
        of("a-first", "shop", "{}"),
        of("b-second", "shop", "{}"),
        of("c-attached", "shop", &attached),
        of("d-both", "shop", &web),
        of("e-chosen", "shop", "{selector: {matchLabels: {app: web}}}"),
    ];
    let world = shop(&text.concat());
    let shop: ambit_model::name::Namespace = "shop".parse().unwrap();
    let service = |name: &str| Scope::Service(format!("shop/{name}.shop.svc.cluster.local").parse().unwrap());
    let way = Scope::Waypoint { namespace: shop.clone(), name: "way".into() };
    for (namespace, name, wanted) in [
        ("istio-system", "all", Some(vec![Scope::Mesh])),
        ("istio-system", "class", Some(vec![Scope::Class])),
        ("shop", "a-first", Some(vec![Scope::Namespace(shop.clone())])),
        ("shop", "b-second", None),
        ("shop", "c-attached", Some(vec![way, service("web")])),
        ("shop", "d-both", Some(vec![service("cart")])),
        ("shop", "e-chosen", None),
    ] {
        assert_eq!(read(&world, namespace, name).telemetry.map(|it| it.scopes), wanted, "{name}");
    }
    assert_eq!(
        said(&world, "istio-system", "all"),
        "WaypointAccepted True Accepted: gone by by all waypoints of the mesh"
    );
    assert_eq!(
        said(&world, "shop", "b-second"),
        "WaypointAccepted False Conflicted: an older one goes before it: a-first"
    );
    assert!(said(&world, "shop", "e-chosen").starts_with("WaypointAccepted False UnsupportedValue"));
    assert!(said(&world, "shop", "c-attached").starts_with("WaypointAccepted False"), "nobody is bound");
}

#[test]
fn when_the_oldest_goes_the_next_one_counts() {
    let mut world = shop(&[of("a", "shop", "{}"), of("b", "shop", "{}")].concat());
    let unit = |name: &str| Unit { kind: UnitKind::Telemetry, namespace: "shop".into(), name: name.into() };
    let counts = |world: &World, name: &str| {
        matches!(super::super::unit(world, &unit(name)).as_slice(), [Change::Telemetry(_)])
    };
    assert!(counts(&world, "a") && !counts(&world, "b"));
    let touched = world.remove(&ObjectRef::new(Kind::Telemetry, "shop", "a"));
    assert!(touched.contains(&unit("a")) && touched.contains(&unit("b")), "{touched:?}");
    assert!(counts(&world, "b"));
}

#[test]
fn what_is_said_of_spans_is_read_and_what_is_not_honoured_is_said() {
    let spec = "{tracing: [{match: {mode: CLIENT}, disableSpanReporting: true}, \
        {providers: [{name: otel}, {name: nobody}, {name: authz}], randomSamplingPercentage: 12.5, enableIstioTags: false, \
         disableContextPropagation: true, customTags: {a: {literal: {value: b}}, c: {header: {name: x-user, defaultValue: d}}, \
         e: {environment: {name: HOME, defaultValue: f}}, g: {environment: {name: KEY}}, h: {formatter: {value: '%PROTOCOL%'}}}}, \
        {randomSamplingPercentage: 99, disableSpanReporting: false}]}";
    let world = shop(&of("it", "shop", spec));
    let Reading { telemetry, notes, .. } = read(&world, "shop", "it");
    let tracing = telemetry.unwrap().tracing.unwrap();
    assert_eq!(tracing.providers, Some(vec!["otel".into()]));
    assert_eq!((tracing.sampling, tracing.disabled), (Sampling::of(1_250), Some(false)));
    assert_eq!(tracing.istio_tags, Some(false));
    let header = Tag::Header { name: "x-user".parse().unwrap(), default: "d".into() };
    let literal = |text: &str| Tag::Literal(text.into());
    assert_eq!(
        tracing.tags,
        Some(vec![("a".into(), literal("b")), ("c".into(), header), ("e".into(), literal("f"))])
    );
    assert_eq!(tracing.usual.sampling.parts(), 500);
    assert_eq!(tracing.usual.tags, [("env".into(), literal("prod"))]);
    for wanted in [
        "tracing[0]: waypoints are on the side of SERVER",
        "\"nobody\" that collects spans",
        "\"authz\" that collects spans",
        "customTags.e: the environment",
        "customTags.g: the environment",
        "customTags.h: formatters",
        "tracing[1].disableContextPropagation",
    ] {
        assert!(notes.iter().any(|it| it.contains(wanted)), "{wanted} in {notes:?}");
    }
    assert_eq!(notes.len(), 7, "{notes:?}");
    let told = said(&world, "shop", "it");
    assert!(told.contains("True PartiallyInvalid") && told.contains("not honoured: tracing[0]"), "{told}");
}

#[test]
fn what_is_said_of_lines_is_read_and_what_is_no_condition_writes_every_line() {
    let spec = "{accessLogging: [{providers: [{name: envoy}, {name: lines}, {name: file}], filter: {expression: 'response.code >= 400'}}, \
        {providers: [{name: nobody}], disabled: true}, {providers: [{name: lines}], disabled: true}, \
        {filter: {expression: 'request.path.matches(\"a\")'}}, {disabled: false}]}";
    let world = shop(&of("it", "shop", spec));
    let Reading { telemetry, notes, .. } = read(&world, "shop", "it");
    let filter = Arc::new("response.code >= 400".parse().unwrap());
    let word = |to: &[Sink], disabled, filter| LogWord { to: to.to_vec(), disabled, filter };
    assert_eq!(
        telemetry.unwrap().logging,
        [
            word(&[Sink::Log, Sink::Collector("lines".into())], None, Some(filter)),
            word(&[], None, None),
            word(&[], Some(false), None),
        ]
    );
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("\"nobody\" that takes lines"), "{notes:?}");
    assert!(notes[1].contains("at character 13") && notes[1].contains("every line is written"), "{notes:?}");
}

#[test]
fn lines_go_to_logs_in_the_form_that_the_configuration_says_and_what_of_it_is_not_known_is_said() {
    let spec = "{accessLogging: [{providers: [{name: own}]}, {providers: [{name: envoy}], filter: {expression: 'response.code > 400'}}]}";
    let mut world = shop(&of("it", "shop", spec));
    let config: MeshConfig = yaml_serde::from_str(
        "accessLogFile: ''\naccessLogEncoding: TEXT\n\
         extensionProviders: [{name: own, envoyFileAccessLog: {logFormat: {labels: {a: '%HOSTNAME%'}}}}]\n",
    )
    .unwrap();
    world.mesh = world.mesh.with(config);
    let Reading { telemetry, notes, .. } = read(&world, "shop", "it");
    let found: Vec<_> = telemetry.unwrap().logging.into_iter().map(|it| (it.to, it.disabled)).collect();
    let file = |name: &str| vec![Sink::File(name.into())];
    assert_eq!(found, [(file("own"), Some(false)), (file("envoy"), Some(false))]);
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(note.starts_with("accessLogging[0].providers: \"own\" has %HOSTNAME% in its lines"), "{note}");
    let told = super::super::unit(&world, &Unit::providers());
    let usual = told.iter().filter_map(|it| if let Change::Telemetry(it) = it { Some(it) } else { None });
    let usual: Vec<_> = usual.map(|it| (it.scopes.clone(), it.logging[0].disabled)).collect();
    assert_eq!(usual, [(vec![Scope::Usual], Some(true))]);
}

#[test]
fn what_is_said_of_counters_is_read() {
    let spec = "{metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT}, disabled: false}, \
        {match: {metric: REQUEST_SIZE}, disabled: true, tagOverrides: {a: {operation: REMOVE}}}, \
        {match: {metric: TCP_SENT_BYTES}, disabled: true}, {match: {metric: TCP_LOST_BYTES}, disabled: true}]}, {providers: [{name: other}], overrides: [{disabled: true}]}]}";
    let world = shop(&of("it", "shop", spec));
    let Reading { telemetry, notes, .. } = read(&world, "shop", "it");
    let telemetry = telemetry.unwrap();
    assert_eq!(
        (telemetry.uncounted, telemetry.counted),
        (vec![Metric::RequestSize, Metric::Sent], vec![Metric::Requests])
    );
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(telemetry.labels.len(), 1);
    let world = shop(&of("it", "shop", "{metrics: [{overrides: [{disabled: true}]}]}"));
    assert_eq!(read(&world, "shop", "it").telemetry.unwrap().uncounted, Metric::ALL);
    assert!(matches!(objects(&of("it", "shop", "{}")).remove(0).body, Body::Telemetry(_)));
}

#[test]
fn labels_are_read_one_by_one_and_what_is_none_is_said_and_leaves_them_as_they_are() {
    let spec = "{metrics: [{overrides: [{tagOverrides: {host: {value: request.host}, 'no-name': {value: \"'a'\"}, \
        what: {value: request.hots}, how: {operation: INSERT, value: \"'a'\"}}}, \
        {match: {metric: REQUEST_COUNT, mode: SERVER}, tagOverrides: {host: {operation: REMOVE}, source_app: {operation: UPSERT, value: \"'x'\"}}}, \
        {match: {metric: REQUEST_COUNT, mode: CLIENT}, tagOverrides: {a: {operation: REMOVE}}}]}]}";
    let world = shop(&of("it", "shop", spec));
    let Reading { telemetry, notes, .. } = read(&world, "shop", "it");
    let labels = telemetry.unwrap().labels;
    let shown = labels.iter().map(|it| match &it.to {
        Relabel::Removed => (it.of.len(), it.name.to_string(), String::new()),
        Relabel::Set(formula) => (it.of.len(), it.name.to_string(), formula.to_string()),
    });
    let word = |of: usize, name: &str, value: &str| (of, name.to_owned(), value.to_owned());
    let wanted = [word(10, "host", "request.host"), word(1, "host", ""), word(1, "source_app", "'x'")];
    assert_eq!(shown.collect::<Vec<_>>(), wanted);
    for wanted in [
        "metrics[0].overrides.tagOverrides.no-name: not a label's name",
        "tagOverrides.what: value: at character 1: \"request.hots\" is not known here",
        "tagOverrides.how: operation: \"INSERT\" is none",
        "overrides: waypoints are on the side of SERVER",
    ] {
        assert!(notes.iter().any(|it| it.contains(wanted)), "{wanted} in {notes:?}");
    }
    assert_eq!(notes.len(), 4, "{notes:?}");
}
