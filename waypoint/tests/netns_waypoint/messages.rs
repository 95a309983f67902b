//! Messages of gRPC are counted as they pass (`waypoint.md` 5.1).

use ambit_model::service::AppProtocol;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};

use crate::authorizer::{Says, authorizer};
use crate::client::http2;
use crate::scene::{PATIENCE, scene, shop};

#[test]
fn messages_of_both_directions_are_counted_with_the_status_of_their_call() {
    scene(&shop(AppProtocol::Grpc), async |scene| {
        let one = authorizer(scene, Some("one"), ("127.0.0.2", true)).await;
        one.say(Says::Message(b"hello".to_vec()));
        let mut client = http2(scene.open("cart", "10.1.0.1:80").await.unwrap()).await;
        let request = client.request("/a.B/C").method("POST").header("content-type", "application/grpc");
        let three = [&b"\0\0\0\0\x02ab"[..], b"\0\0\0\0\0", b"\0\0\0\0\x01c"].concat();
        let answer = client.ask(request.body(Full::new(Bytes::from(three)).boxed()).unwrap()).await;
        assert_eq!((answer.status, &answer.trailers["grpc-status"]), (200, &"0".parse().unwrap()));
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let metrics = scene.get(15020, "/metrics").await.unwrap();
            let counted = |name: &str, count: &str| {
                metrics.lines().any(|line| {
                    let is_it = line.starts_with(name) && line.ends_with(count);
                    is_it
                        && line.contains("request_protocol=\"grpc\"")
                        && line.contains("grpc_response_status=\"0\"")
                })
            };
            if counted("istio_request_messages_total{", " 3")
                && counted("istio_response_messages_total{", " 1")
            {
                break;
            }
            assert!(tokio::time::Instant::now() < until, "{metrics}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
}
