//! Processors with which nobody waits for the other (`waypoint.md` 9.1, `FULL_DUPLEX_STREAMED`): what they stream is what
//! goes on, whenever they do, and nothing does without them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_model::ext_proc::{BodyMode, ExtProc, Modes};
use ambit_model::service::AppProtocol;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::authorizer::{field, number};
use crate::backend::{Speaks, backend};
use crate::client::{Answer, Client, full, http1, http2};
use crate::processed::{guard, world};
use crate::processor::{
    Does, REQUEST_BODY, REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_BODY, RESPONSE_HEADERS,
    RESPONSE_TRAILERS, Told, headers, long, onward, processor, set,
};
use crate::scene::{scene, shop};

const WEB: &str = "10.1.0.1:80";

/// As it is told when both ways stream, or only that of requests.
fn modes(back: BodyMode) -> Modes {
    Modes {
        request_body: BodyMode::Duplex,
        response_body: back,
        request_trailers: true,
        response_trailers: back == BodyMode::Duplex,
        ..Modes::default()
    }
}

fn duplex(back: BodyMode) -> ExtProc {
    ExtProc { modes: modes(back), ..guard() }
}

/// A piece that goes on, in a common part.
fn streamed(of: impl AsRef<[u8]>, is_end: bool) -> Vec<u8> {
    let end = if is_end { number(2, 1) } else { Vec::new() };
    long(3, long(3, [long(1, of), end].concat()))
}

/// What a message says of a body, and whether that is all.
fn told_of(told: &Told) -> (Vec<u8>, bool) {
    let (_, rest) = counted(&told.bytes);
    match rest.first() {
        Some(&10) => {
            let (body, rest) = counted(rest);
            (body.to_vec(), rest == number(2, 1))
        }
        _ => (Vec::new(), rest == number(2, 1)),
    }
}

/// The contents of the field that comes first, and what follows its head or itself.
fn counted(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (mut length, mut at) = (0, 1);
    loop {
        length |= usize::from(bytes[at] & 0x7f) << (7 * (at - 1));
        at += 1;
        if bytes[at - 1] < 0x80 {
            break;
        }
    }
    // A message is its only field; what is in it follows its head.
    if bytes[0] != 10 { (&[], &bytes[at..]) } else { (&bytes[at..at + length], &bytes[at + length..]) }
}

async fn post(client: &mut Client, path: &str, body: &str) -> Answer {
    let request = client.request(path).method("POST").body(full(body)).unwrap();
    client.ask(request).await
}

/// Sends back each piece as it comes.
fn echo(told: &Told) -> Option<Does> {
    [REQUEST_BODY, RESPONSE_BODY].contains(&told.part).then(|| {
        let (body, is_end) = told_of(told);
        onward(told.part, &[streamed(body, is_end)])
    })
}

fn says(does: &Does) -> Vec<u8> {
    let Does::Say(bytes) = does else { panic!("it says nothing") };
    bytes.clone()
}

/// Says nothing before it has seen all of a request, and then as much as it likes.
fn waits_for_all(seen: Arc<Mutex<Vec<u8>>>) -> impl Fn(&Told) -> Option<Does> + Send + Sync + 'static {
    move |told| match told.part {
        REQUEST_HEADERS => Some(Does::Nothing),
        REQUEST_BODY => {
            let (body, is_end) = told_of(told);
            let mut seen = seen.lock().unwrap();
            seen.extend(body);
            Some(if is_end {
                let length = seen.len().to_string();
                let head = onward(REQUEST_HEADERS, &[headers(&[set("x-length", &length)])]);
                let pieces = [streamed("one ", false), streamed("two", false), streamed("", true)];
                let pieces = pieces.map(|piece| says(&onward(REQUEST_BODY, &[piece])));
                Does::SayAll([says(&head)].into_iter().chain(pieces).collect())
            } else {
                Does::Nothing
            })
        }
        _ => None,
    }
}

#[test]
fn a_processor_may_see_all_of_a_request_before_it_says_anything() {
    scene(&world(duplex(BodyMode::None)), async |scene| {
        let one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        them.does(waits_for_all(Arc::clone(&seen)));
        let sent = "x".repeat(1 << 20);
        let answer = post(&mut client, "/echo", &sent).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "one two"));
        assert!(*seen.lock().unwrap() == sent.as_bytes());
        assert_eq!(one.last.lock().unwrap()["x-length"], (1 << 20).to_string());
        assert_eq!(one.last.lock().unwrap().get("content-length"), None);
        let parts = them.parts();
        assert_eq!(parts.last(), Some(&RESPONSE_HEADERS), "each waits for the other on that way: {parts:?}");
        // Without a body nothing is waited for.
        them.does(|_| None);
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(them.parts(), [REQUEST_HEADERS, RESPONSE_HEADERS]);
        scene.logged(&["ext_proc=\"shop/guard: processed\""]);
    });
}

#[test]
fn both_ways_stream_at_once_and_trailers_follow() {
    let mut world = world(duplex(BodyMode::Duplex));
    world.extend(shop(AppProtocol::Http2));
    scene(&world, async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        let mut client = http2(scene.open("cart", WEB).await.unwrap()).await;
        them.does(echo);
        let many = "y".repeat(3 << 20);
        assert!(post(&mut client, "/echo", &many).await.body == many);
        assert!(them.parts().len() > 20);
        // Less, more or nothing of what it was told: what it streams is all there is.
        them.does(|told| match told.part {
            REQUEST_BODY => {
                let (_, is_end) = told_of(told);
                Some(if is_end { onward(told.part, &[streamed("else", true)]) } else { Does::Nothing })
            }
            RESPONSE_BODY => {
                let (body, is_end) = told_of(told);
                let twice = [body.as_slice(), body.as_slice()].concat();
                Some(onward(told.part, &[streamed(twice, is_end)]))
            }
            _ => None,
        });
        assert_eq!(post(&mut client, "/echo", "hello").await.body, "elseelse");
        // Trailers end what streams.
        them.told();
        them.does(|told| match told.part {
            REQUEST_TRAILERS => Some(onward(told.part, &[field(1, set("x-sum", "2"))])),
            RESPONSE_TRAILERS => Some(onward(told.part, &[field(1, set("x-sum", "43"))])),
            _ => echo(told),
        });
        let sum = |value: &str| [("x-sum".parse().unwrap(), value.parse().unwrap())].into_iter().collect();
        let frames = [Ok(Frame::data("hello".into())), Ok(Frame::trailers(sum("1")))];
        let sent = StreamBody::new(tokio_stream::iter(frames)).boxed();
        let request = client.request("/count").method("POST").body(sent).unwrap();
        assert_eq!(client.ask(request).await.body, "5 {\"x-sum\": \"2\"}");
        let answer = client.get("/trailers").await;
        assert_eq!((answer.body.as_str(), answer.trailers["x-sum"].to_str().unwrap()), ("body", "43"));
    });
}

#[test]
fn where_what_a_processor_streams_does_not_come_or_is_none_nothing_goes_on_in_its_place() {
    let hasty = ExtProc { patience: Duration::from_secs(2), ..duplex(BodyMode::Duplex) };
    scene(&world(hasty), async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        // Nobody is there.
        assert_eq!(post(&mut client, "/echo", "hello").await.status, 500);
        let them = processor(scene, "guard", "127.0.0.5").await;
        them.does(echo);
        loop {
            let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
            if post(&mut client, "/echo", "hello").await.body == "hello" {
                break;
            }
        }
        let no = Does::Say(field(7, [field(1, [8, 0x93, 0x03]), field(3, "no")].concat()));
        let plain = onward(REQUEST_BODY, &[long(3, long(1, "not streamed"))]);
        let replaces = onward(REQUEST_HEADERS, &[number(1, 1)]);
        for (part, does, status) in [
            (REQUEST_HEADERS, Does::Fail, 500),
            (REQUEST_HEADERS, Does::End, 500),
            (REQUEST_HEADERS, Does::Nothing, 500),
            (REQUEST_HEADERS, no.clone(), 403),
            (REQUEST_HEADERS, replaces, 500),
            (REQUEST_HEADERS, onward(REQUEST_BODY, &[streamed("x", true)]), 500),
            (REQUEST_BODY, Does::Fail, 500),
            (REQUEST_BODY, Does::End, 500),
            (REQUEST_BODY, Does::Nothing, 500),
            (REQUEST_BODY, no.clone(), 403),
            (REQUEST_BODY, plain, 500),
            (REQUEST_BODY, onward(REQUEST_TRAILERS, &[]), 500),
            (RESPONSE_HEADERS, Does::Fail, 500),
            (RESPONSE_HEADERS, no, 403),
        ] {
            let says = does.clone();
            them.does(move |told| if told.part == part { Some(says.clone()) } else { echo(told) });
            let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
            let answer = post(&mut client, "/echo", "hello").await;
            assert_eq!(answer.status, status, "{part}: {answer:?}");
        }
        // What is on its way already breaks off.
        for does in [Does::Fail, Does::End, Does::Nothing] {
            them.does(move |told| if told.part == RESPONSE_BODY { Some(does.clone()) } else { echo(told) });
            let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
            let request = client.request("/echo").method("POST").body(full("hello")).unwrap();
            let whole = client.send(request).await.unwrap().into_body().collect().await;
            assert!(whole.is_err(), "{whole:?}");
        }
        scene.logged(&["response_flags=\"UPEX\"", "ext_proc_error"]);
        them.does(echo);
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        assert_eq!(post(&mut client, "/echo", "hello").await.body, "hello");
    });
}

#[test]
fn a_client_that_takes_its_time_is_not_taken_for_a_processor_that_does() {
    let hasty = ExtProc { patience: Duration::from_millis(500), ..duplex(BodyMode::Duplex) };
    scene(&world(hasty), async |scene| {
        let _one = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
        let them = processor(scene, "guard", "127.0.0.5").await;
        let mut client = http1(scene.open("cart", WEB).await.unwrap()).await;
        them.does(echo);
        // More than there is room for on the way.
        let many = "z".repeat(24 << 20);
        let request = client.request("/echo").method("POST").body(full(&many)).unwrap();
        let answer = client.send(request).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let whole = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(whole == many.as_bytes(), "{} of {}", whole.len(), many.len());
        scene.logged(&["ext_proc=\"shop/guard: processed\""]);
    });
}
