//! Connections that are not HTTP, and ports that do not say what is spoken on them.

use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::pool::OpenError;
use ambit_model::delta::Change;
use ambit_model::service::AppProtocol;
use ambit_model::traffic::{Handling, Limits, Traffic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::backend::{Speaks, backend};
use crate::client::http1;
use crate::scene::{PATIENCE, endpoint, scene, scene_with, shop};

const WEB: &str = "10.1.0.1:80";

/// Sends, ends its half, and reads what comes back to the end.
pub(crate) async fn echo(mut stream: ambit_hbone::nested::Nested, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.end().unwrap();
    let mut back = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut back)).await.unwrap().unwrap();
    back
}

#[test]
fn a_port_of_tcp_is_carried_as_it_is_with_either_half_ending_by_itself() {
    scene(&shop(AppProtocol::Tcp), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Echo).await;
        let text = "GET / HTTP/1.1 is not read here".repeat(1000);
        assert_eq!(echo(scene.open("cart", WEB).await.unwrap(), &text).await, text);
        let line = scene.logged(&["connection complete", "protocol=\"tcp\""]);
        assert!(line.contains("source_principal=spiffe://cluster.local/ns/shop/sa/cart"), "{line}");
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        let sent = |name: &str| metrics.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        let bytes = sent("istio_tcp_received_bytes_total{").unwrap();
        assert!(bytes.ends_with(&format!(" {}", text.len())), "{bytes}");
    });
}

#[test]
fn bytes_count_while_a_connection_lives_and_one_that_is_still_or_old_ends_where_that_was_asked_for() {
    let limited = |limits: Limits| {
        let traffic = Traffic::unsaid("shop/web.shop.svc.cluster.local".parse().unwrap());
        let handling = Handling { limits, ..Handling::default() };
        Change::Traffic(Arc::new(Traffic { handling, ..traffic }))
    };
    scene(&shop(AppProtocol::Tcp), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Echo).await;
        let mut open = scene.open("cart", WEB).await.unwrap();
        let mut back = [0; 5];
        open.write_all(b"hello").await.unwrap();
        timeout(PATIENCE, open.read_exact(&mut back)).await.unwrap().unwrap();
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        for name in ["istio_tcp_received_bytes_total{", "istio_tcp_sent_bytes_total{"] {
            let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
            assert!(line.ends_with(" 5"), "{line}");
        }
        let (half, none) = (Some(Duration::from_millis(500)), None);
        for (still, age, flags) in [(half, none, "SI"), (none, half, "DT")] {
            scene.plane.publish(&[limited(Limits { still, age, ..Limits::default() })].into_iter().collect());
            // It is in force when it is: who came before is kept as before.
            let flags = format!("response_flags=\"{flags}\"");
            let until = Instant::now() + PATIENCE;
            while !scene.log().contains(&flags) {
                assert!(Instant::now() < until, "{}", scene.log());
                let mut short = scene.open("cart", WEB).await.unwrap();
                let ended = timeout(Duration::from_secs(2), short.read(&mut back)).await;
                assert!(ended.is_err() || !matches!(ended, Ok(Ok(1..))), "nobody has said anything");
            }
        }
        open.write_all(b"again").await.unwrap();
        timeout(PATIENCE, open.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(&back, b"again", "it began before");
    });
}

#[test]
fn a_port_of_tcp_without_an_endpoint_that_answers_is_refused_before_it_opens() {
    scene(&shop(AppProtocol::Tcp), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Nothing).await;
        let Err(OpenError::Refused { status }) = scene.open("cart", WEB).await else { panic!("opened") };
        assert_eq!(status, 503);
    });
}

#[test]
fn a_port_that_does_not_say_is_heard_for_what_is_spoken() {
    scene_with(&[("PROTOCOL_DETECTION_TIMEOUT", "60s")], &shop(AppProtocol::Unknown), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(client.get("/").await.status, 200);
        scene.logged(&["request complete", "response_code=200"]);
    });
    scene(&shop(AppProtocol::Unknown), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Echo).await;
        assert_eq!(echo(scene.open("cart", WEB).await.unwrap(), "EHLO shop\r\n").await, "EHLO shop\r\n");
        // Nothing at all is an end, too.
        assert_eq!(echo(scene.open("cart", WEB).await.unwrap(), "").await, "");
        let metrics = scene.get(15020, "/metrics").await.unwrap();
        for heard in ["other", "nothing"] {
            let line = format!("ambit_waypoint_protocols_heard_total{{reason=\"{heard}\"}} 1");
            assert!(metrics.lines().any(|it| it == line), "{line} in\n{metrics}");
        }
    });
}

#[test]
fn a_workload_that_goes_through_the_waypoint_is_reached_at_the_port_that_was_dialled() {
    let mut world = shop(AppProtocol::Http11);
    let mut pod = endpoint("one", "127.0.0.2");
    pod.waypoint = crate::scene::service("x", "10.1.0.9", AppProtocol::Tcp).waypoint;
    world.push(Change::Workload(Arc::new(pod)));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", "127.0.0.2:9999").await.unwrap()).await;
        let answer = client.get("/").await;
        assert!(answer.body.starts_with("one at 127.0.0.2:9999"), "{answer:?}");
    });
}
