//! What endpoints say before their answer (RFC 9110, 15.2).

use std::sync::atomic::Ordering;

use ambit_model::service::AppProtocol;
use tokio::io::AsyncWriteExt;

use crate::backend::{Speaks, backend};
use crate::client::{raw, until};
use crate::scene::{scene, shop};

const WEB: &str = "10.1.0.1:80";
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: web\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n";
const OLD: &[u8] = b"GET / HTTP/1.0\r\nhost: web\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
/// With what is not passed on, and the answer right behind.
const AT_ONCE: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\
    connection: x-hop\r\nx-hop: 1\r\ncontent-length: 3\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\ndone";

/// The statuses of all that was said.
fn statuses(said: &str) -> Vec<&str> {
    said.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)).collect()
}

#[test]
fn what_an_endpoint_says_early_is_heard_before_its_answer_is_there() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Early(HINTS)).await;
        let mut stream = scene.open("cart", WEB).await.unwrap();
        for _ in 0..3 {
            stream.write_all(GET).await.unwrap();
            assert_eq!(until(&mut stream, "\r\n\r\n").await, HINTS);
            seen.go_on.notify_one();
            let answer = until(&mut stream, "done").await;
            assert_eq!(statuses(&answer), ["200"], "{answer}");
        }
    });
}

#[test]
fn what_is_said_with_an_answer_goes_ahead_of_it_without_what_is_between_neighbours() {
    scene(&shop(AppProtocol::Http11), async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Raw(AT_ONCE)).await;
        let said = raw(scene.open("cart", WEB).await.unwrap(), LAST).await;
        let (hints, rest) = said.split_at(HINTS.len());
        assert_eq!(hints, HINTS, "{said}");
        assert_eq!(statuses(rest), ["102", "200"], "{said}");
        assert!(rest.starts_with("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n"), "{said}");
        assert!(rest.ends_with("\r\n\r\ndone"), "{said}");
        // Who asks for more before it has heard the answer hears each where it belongs.
        let both = raw(scene.open("cart", WEB).await.unwrap(), &[GET, LAST].concat()).await;
        assert_eq!(statuses(&both), ["103", "102", "200", "103", "102", "200"], "{both}");
        // HTTP/1.0 knows of no such thing.
        let old = raw(scene.open("cart", WEB).await.unwrap(), OLD).await;
        assert!(old.starts_with("HTTP/1.") && old.lines().next().unwrap().ends_with(" 200 OK"), "{old}");
    });
}

#[test]
fn who_says_too_much_before_an_answer_is_not_listened_to() {
    let flood: &'static str = Box::leak(HINTS.repeat(17).into_boxed_str());
    scene(&shop(AppProtocol::Http11), async |scene| {
        let seen = backend(scene, "one", "127.0.0.2", Speaks::Early(flood)).await;
        let said = raw(scene.open("cart", WEB).await.unwrap(), LAST).await;
        let statuses = statuses(&said);
        let (last, hints) = statuses.split_last().unwrap();
        assert_eq!(*last, "502", "{said}");
        assert!(hints.len() <= 16 && hints.iter().all(|status| *status == "103"), "{said}");
        assert_eq!(seen.requests.load(Ordering::SeqCst), 1);
        scene.logged(&["request complete", "response_code=502"]);
    });
}
