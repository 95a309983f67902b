//! What is told of requests, where somebody has a say in it (`waypoint.md` 4.6): which requests leave a line, a span, a
//! count; that a change is in force for the next request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::name::PolicyKey;
use ambit_model::operator::{LineFormat, LineKind};
use ambit_model::provider::{Provider, ProviderKind, Takes, Traced};
use ambit_model::service::AppProtocol;
use ambit_model::telemetry::{
    HeaderWords, LabelWord, LogWord, Metric, Relabel, Scope, Sink, Telemetry, Tracing,
};
use ambit_model::trace::Sampling;
use serde_json::Value;

use crate::authorizer::{Authorizer, Question, Says, authorizer};
use crate::backend::{Speaks, backend};
use crate::client::{empty, http1};
use crate::connections::echo;
use crate::scene::{PATIENCE, Scene, scene, shop};
use crate::traces::{collector, first, of, text};

const WEB: &str = "10.1.0.1:80";

pub(crate) fn said(name: &str, scope: Scope) -> Telemetry {
    let key = PolicyKey { namespace: "shop".parse().unwrap(), name: name.parse().unwrap() };
    Telemetry {
        key,
        scopes: vec![scope],
        tracing: None,
        logging: vec![],
        uncounted: vec![],
        counted: vec![],
        labels: vec![],
        headers: HeaderWords::default(),
    }
}

pub(crate) fn told(telemetry: &Telemetry) -> Change {
    Change::Telemetry(Arc::new(telemetry.clone()))
}

fn lines(disabled: bool, filter: &str) -> LogWord {
    let filter = (!filter.is_empty()).then(|| Arc::new(filter.parse().unwrap()));
    LogWord { to: vec![Sink::Log], disabled: Some(disabled), filter }
}

/// Asks for these paths, one after the other, and returns those of them that left a line before the last did, which is
/// waited for.
async fn logged(scene: &Scene, paths: &[(&str, &str)]) -> Vec<String> {
    let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
    for (path, user) in paths {
        let request = client.request(path).header("x-user", *user);
        client.ask(request.body(empty()).unwrap()).await;
    }
    let shown = |path: &str| format!("path=\"{path}\"");
    let (last, _) = paths.last().unwrap();
    scene.logged(&["request complete", &shown(last)]);
    let log = scene.log();
    let is_there =
        |path: &str| log.lines().any(|line| line.contains("request complete") && line.contains(&shown(path)));
    paths.iter().map(|(path, _)| (*path).to_owned()).filter(|path| is_there(path)).collect()
}

/// What the waypoint knows of those who have a say.
async fn dumped(scene: &Scene) -> Value {
    let dump = scene.get(15000, "/config_dump").await.unwrap();
    let (_, body) = dump.split_once("\r\n\r\n").unwrap();
    let mut dump: Value = serde_json::from_str(body).unwrap();
    dump["telemetry"].take()
}

/// Tells of changes, and waits until those and no others are known.
pub(crate) async fn in_force(scene: &Scene, changes: Vec<Change>, wanted: &[&str]) {
    scene.plane.publish(&changes.into_iter().collect());
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let dump = dumped(scene).await;
        let names: Vec<_> =
            dump.as_array().into_iter().flatten().filter_map(|it| it["name"].as_str()).collect();
        if names == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "{dump:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_line_is_written_of_the_requests_that_somebody_says_and_of_all_without_a_word() {
    let service = Scope::Service("shop/web.shop.svc.cluster.local".parse().unwrap());
    let all = Telemetry { logging: vec![lines(true, "")], ..said("all", Scope::Mesh) };
    let condition = "response.code >= 400 && request.method == 'GET' || request.headers['x-user'] == 'ada'";
    let own = Telemetry { logging: vec![lines(false, condition)], ..said("own", service) };
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        assert_eq!(logged(scene, &[("/a", ""), ("/b", "")]).await, ["/a", "/b"]);
        in_force(scene, vec![told(&all)], &["all"]).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(client.get("/silent").await.status, 200);
        drop(client);
        in_force(scene, vec![told(&own)], &["all", "own"]).await;
        let paths = [("/status/200", "bob"), ("/mine", "ada"), ("/status/503", "bob"), ("/c", "ada")];
        assert_eq!(logged(scene, &paths).await, ["/mine", "/status/503", "/c"]);
        assert!(!scene.log().contains("path=\"/silent\""), "{}", scene.log());
        let gone = [&own, &all].map(|it| Change::TelemetryGone(it.key.clone())).to_vec();
        in_force(scene, gone, &[]).await;
        assert_eq!(logged(scene, &[("/d", ""), ("/e", "")]).await, ["/d", "/e"]);
    });
}

/// What a collector was told, once it was told of anything.
async fn asked(otel: &Authorizer) -> Vec<Question> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let calls = otel.asked();
        if !calls.is_empty() {
            return calls;
        }
        assert!(tokio::time::Instant::now() < until, "nobody was told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the only line of a call to a collector says.
fn line_of(call: &Question, what: &str) -> BTreeMap<String, String> {
    let method = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    assert!(call.line.ends_with(method), "{}", call.line);
    let resource = first(&call.body[5..], 1);
    let lines = of(&first(&resource, 2), 2);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(text(&first(&first(line, 5), 1)), what);
    assert_eq!((first(line, 1).len(), first(line, 2)), (8, b"9".to_vec()));
    let facts = of(line, 6).into_iter().map(|fact| {
        let value = first(&fact, 2);
        let value = if of(&value, 1).is_empty() { first(&value, 3) } else { first(&value, 1) };
        (text(&first(&fact, 1)), text(&value))
    });
    facts.collect()
}

#[test]
fn lines_are_told_to_those_who_collect_them_and_no_others() {
    let own = Scope::Namespace("shop".parse().unwrap());
    let to = vec![Sink::Collector("otel".into())];
    let filter = Some(Arc::new("response.code >= 500".parse().unwrap()));
    let own = Telemetry { logging: vec![LogWord { to, disabled: None, filter }], ..said("own", own) };
    let mut world = shop(AppProtocol::Http11);
    world.extend(collector("otel", Takes::OtlpGrpc { add: vec![] }, 0.0));
    world.push(told(&own));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let otel = authorizer(scene, Some("otel"), ("127.0.0.3", true)).await;
        otel.say(Says::Message(vec![]));
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(client.get("/fine").await.status, 200);
        assert_eq!(client.get("/status/503").await.status, 503);
        let until = tokio::time::Instant::now() + PATIENCE;
        let calls = asked(&otel).await;
        let [call] = calls.as_slice() else { panic!("{calls:?}") };
        let facts = line_of(call, "request complete");
        for (key, wanted) in [
            ("path", "/status/503"),
            ("response_code", "503"),
            ("method", "GET"),
            ("upstream_host", "127.0.0.2:8080"),
            ("source_principal", "spiffe://cluster.local/ns/shop/sa/cart"),
            ("destination_workload", "one"),
        ] {
            assert_eq!(facts.get(key).map(String::as_str), Some(wanted), "{key} in {facts:?}");
        }
        assert!(!scene.log().contains("request complete"), "{}", scene.log());
        // It is counted a moment after the answer has come.
        loop {
            let metrics = scene.get(15020, "/metrics").await.unwrap();
            if metrics.contains("ambit_waypoint_log_lines_total{reason=\"told\"} 1") {
                break;
            }
            assert!(tokio::time::Instant::now() < until, "{metrics}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// A log whose lines are so.
fn log(name: &str, of: LineKind) -> Change {
    let kind = ProviderKind::Log(Arc::new(LineFormat { of, omit_empty: false }));
    Change::Provider(Arc::new(Provider { name: name.into(), kind }))
}

/// A log whose lines are texts, and one whose lines are objects.
fn logs() -> [Change; 2] {
    let text = "L %REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% \"%REQ(X-USER)%\" %RESP(CONTENT-TYPE?SERVER)% \
        %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS% \
        %DOWNSTREAM_PEER_URI_SAN% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS% %HOSTNAME%";
    let members = [
        ("path", "%REQ(:PATH)%"),
        ("code", "%RESPONSE_CODE%"),
        ("user", "%REQ(X-USER):3%"),
        ("at", "%START_TIME%"),
        ("took", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
        ("none", "%TRACE_ID%"),
    ];
    let members = members.map(|(name, text)| (name.into(), text.parse().unwrap())).to_vec();
    [log("envoy", LineKind::Text(text.parse().unwrap())), log("json", LineKind::Json(members))]
}

#[test]
fn lines_are_written_in_the_forms_that_somebody_asks_for_and_a_client_cannot_forge_one() {
    let word = |to: &[&str]| LogWord {
        to: to.iter().map(|name| Sink::File((*name).into())).collect(),
        disabled: None,
        filter: None,
    };
    let usual = Telemetry { logging: vec![word(&["envoy"])], ..said("mesh:configuration", Scope::Usual) };
    let both = Telemetry {
        logging: vec![word(&["envoy", "json"])],
        ..said("own", Scope::Service("shop/web.shop.svc.cluster.local".parse().unwrap()))
    };
    let mut world = shop(AppProtocol::Http11);
    world.extend(logs());
    world.push(told(&usual));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let request = client.request("/a?b").header("x-user", "x\" 200 \\\t\"");
        assert_eq!(client.ask(request.body(empty()).unwrap()).await.status, 200);
        scene.logged(&["L GET /a?b"]);
        let log = scene.log();
        let line = log.lines().find(|line| line.starts_with("L GET")).unwrap();
        let wanted = "L GET /a?b HTTP/1.1 200 \"x\\\" 200 \\\\\\x09\\\"\" ";
        assert!(line.starts_with(wanted), "{wanted} in {line}");
        let wanted = " 127.0.0.2:8080 web.shop.svc.cluster.local ";
        assert!(line.contains(wanted), "{wanted} in {line}");
        let wanted = " 10.1.0.1:80 spiffe://cluster.local/ns/shop/sa/cart via_upstream - -";
        assert!(line.ends_with(wanted), "{wanted} in {line}");
        assert!(!log.contains("request complete"), "{log}");
        in_force(scene, vec![told(&both)], &["mesh:configuration", "own"]).await;
        let user = http::HeaderValue::from_bytes("é\"da".as_bytes()).unwrap();
        let request = client.request("/status/503").header("x-user", user);
        assert_eq!(client.ask(request.body(empty()).unwrap()).await.status, 503);
        scene.logged(&["\"path\":\"/status/503\""]);
        scene.logged(&["L GET /status/503"]);
        let log = scene.log();
        let line = log.lines().find(|line| line.starts_with("{\"path\"")).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["code"], &line["none"]), (&503.into(), &Value::Null));
        assert_eq!(line["user"], "é\"");
        assert!(
            line["at"].as_str().is_some_and(|it| it.ends_with('Z')) && line["took"].is_string(),
            "{line}"
        );
        // A form that is not there is no reason to write nothing.
        let gone = vec![Change::ProviderGone("envoy".into()), Change::TelemetryGone(both.key.clone())];
        in_force(scene, gone, &["mesh:configuration"]).await;
        let until = tokio::time::Instant::now() + PATIENCE;
        while !scene.log().contains("request complete") {
            assert!(tokio::time::Instant::now() < until, "{}", scene.log());
            assert_eq!(client.get("/own").await.status, 200);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn what_is_not_to_be_counted_is_not_and_the_rest_is() {
    let own = Scope::Namespace("shop".parse().unwrap());
    let own = Telemetry { uncounted: vec![Metric::Duration, Metric::RequestSize], ..said("own", own) };
    let mut world = shop(AppProtocol::Http11);
    world.push(told(&own));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        assert_eq!(logged(scene, &[("/a", ""), ("/b", "")]).await, ["/a", "/b"]);
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let has = |name: &str| metrics.lines().any(|line| line.starts_with(&format!("{name}{{")));
        assert!(has("istio_requests_total") && has("istio_response_bytes_bucket"), "{metrics}");
        let left_out = ["istio_request_duration_milliseconds_bucket", "istio_request_bytes_bucket"];
        assert!(!left_out.into_iter().any(has), "{metrics}");
    });
}

#[test]
fn labels_of_counters_are_as_somebody_wants_them_and_the_usual_ones_for_the_rest() {
    let set = |text: &str| Relabel::Set(Arc::new(text.parse().unwrap()));
    let word = |of: &[Metric], name: &str, to| LabelWord { of: of.to_vec(), name: name.into(), to };
    let user = "has(request.headers['x-user']) ? request.headers['x-user'] : 'nobody'";
    let labels = vec![
        word(&Metric::ALL, "user", set(user)),
        word(&[Metric::Requests], "asked", set("request.method + ' ' + string(destination.port)")),
        word(&[Metric::Requests], "source_canonical_revision", Relabel::Removed),
        word(&[Metric::Requests], "response_flags", set("'mine'")),
    ];
    let service = Scope::Service("shop/web.shop.svc.cluster.local".parse().unwrap());
    let own = Telemetry { labels, ..said("own", service) };
    let mut world = shop(AppProtocol::Http11);
    world.push(told(&own));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        assert_eq!(logged(scene, &[("/a", "ada"), ("/b", "a\"b"), ("/c", "ada")]).await, ["/a", "/b", "/c"]);
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let find = |metrics: &str, name: &str, wanted: &str| {
            let of = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(wanted);
            let found: Vec<String> = metrics.lines().filter(of).map(str::to_owned).collect();
            assert_eq!(found.len(), 1, "{name} {wanted} in {metrics}");
            found[0].clone()
        };
        let line = find(&metrics, "istio_requests_total", "user=\"ada\"");
        for part in ["asked=\"GET 80\"", "response_flags=\"mine\"", "response_code=\"200\"", "} 2"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(
            !line.contains("source_canonical_revision") && !line.contains("response_flags=\"-\""),
            "{line}"
        );
        find(&metrics, "istio_requests_total", "user=\"a\\\"b\"");
        let line = find(&metrics, "istio_request_duration_milliseconds_count", "user=\"ada\"");
        assert!(line.contains("source_canonical_revision=") && !line.contains("asked="), "{line}");
        in_force(scene, vec![Change::TelemetryGone(own.key.clone())], &[]).await;
        assert_eq!(logged(scene, &[("/d", "ada")]).await, ["/d"]);
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let line = find(&metrics, "istio_requests_total", "response_flags=\"-\"");
        assert!(!line.contains("user=") && line.ends_with("} 1"), "{line}");
    });
}

#[test]
fn connections_that_are_no_http_obey_as_well() {
    let all = |to: &[Sink], filter: &str| LogWord { to: to.to_vec(), ..lines(false, filter) };
    let set = |text: &str| Relabel::Set(Arc::new(text.parse().unwrap()));
    let word = |name: &str, to| LabelWord { of: Metric::ALL.to_vec(), name: name.into(), to };
    let peer = "has(connection.uri_san_peer_certificate) ? connection.uri_san_peer_certificate : 'nobody'";
    let own = Telemetry {
        logging: vec![
            all(&[Sink::File("tcp".into())], "destination.port == 80"),
            all(&[Sink::Collector("otel".into())], "request.size > 2 && connection.mtls"),
            all(&[Sink::Log], "response.code >= 0"),
        ],
        uncounted: vec![Metric::Closed, Metric::Sent],
        labels: vec![word("peer", set(peer)), word("source_canonical_revision", Relabel::Removed)],
        ..said("own", Scope::Service("shop/web.shop.svc.cluster.local".parse().unwrap()))
    };
    let form = "T %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_HOST% \
        %UPSTREAM_CLUSTER% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_PEER_URI_SAN% %REQ(:METHOD)% %GRPC_STATUS%";
    let mut world = shop(AppProtocol::Tcp);
    world.extend(collector("otel", Takes::OtlpGrpc { add: vec![] }, 0.0));
    world.push(log("tcp", LineKind::Text(form.parse().unwrap())));
    world.push(told(&own));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Echo).await;
        let otel = authorizer(scene, Some("otel"), ("127.0.0.3", true)).await;
        otel.say(Says::Message(vec![]));
        assert_eq!(echo(scene.open("cart", WEB).await.unwrap(), "hi").await, "hi");
        assert_eq!(echo(scene.open("cart", WEB).await.unwrap(), "hello").await, "hello");
        let wanted = "T - 0 - 5 5 127.0.0.2:8080 web.shop.svc.cluster.local 10.1.0.1:80 \
            spiffe://cluster.local/ns/shop/sa/cart - -";
        scene.logged(&[wanted]);
        let calls = asked(&otel).await;
        let [call] = calls.as_slice() else { panic!("{calls:?}") };
        let facts = line_of(call, "connection complete");
        for (key, wanted) in [
            ("protocol", "tcp"),
            ("bytes_received", "5"),
            ("upstream_host", "127.0.0.2:8080"),
            ("source_principal", "spiffe://cluster.local/ns/shop/sa/cart"),
            ("destination_workload", "one"),
        ] {
            assert_eq!(facts.get(key).map(String::as_str), Some(wanted), "{key} in {facts:?}");
        }
        // Of no connection there is a code.
        assert!(!scene.log().contains("connection complete"), "{}", scene.log());
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let all = |name: &str| metrics.lines().filter(|it| it.starts_with(&format!("{name}{{"))).collect();
        for (name, count) in
            [("istio_tcp_connections_opened_total", " 2"), ("istio_tcp_received_bytes_total", " 7")]
        {
            let found: Vec<&str> = all(name);
            let [line] = found.as_slice() else { panic!("{name}: {found:?}") };
            assert!(
                line.contains("peer=\"spiffe://cluster.local/ns/shop/sa/cart\"") && line.ends_with(count),
                "{line}"
            );
            assert!(!line.contains("source_canonical_revision"), "{line}");
        }
        for name in ["istio_tcp_connections_closed_total", "istio_tcp_sent_bytes_total"] {
            assert_eq!(all(name), Vec::<&str>::new());
        }
    });
}

#[test]
fn a_dump_shows_who_has_a_say() {
    let tracing = Tracing {
        providers: Some(vec!["otel".into()]),
        sampling: Some(Sampling::ALL),
        disabled: None,
        tags: None,
        istio_tags: Some(false),
        usual: Traced { sampling: Sampling::USUAL, tags: vec![] },
    };
    let own = Telemetry {
        tracing: Some(tracing),
        logging: vec![lines(false, "response.code == 500")],
        ..said("own", Scope::Mesh)
    };
    let mut world = shop(AppProtocol::Http11);
    world.push(told(&own));
    scene(&world, async |scene| {
        assert_eq!(
            dumped(scene).await,
            serde_json::json!([{
                "namespace": "shop", "name": "own", "scopes": ["mesh"],
                "tracing": {"providers": ["otel"], "randomSamplingPercentage": 100.0, "enableIstioTags": false},
                "accessLogging": [{"to": ["log"], "disabled": false, "filter": "response.code == 500"}],
            }])
        );
    });
}
