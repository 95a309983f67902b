//! Clients that behave, and clients that do not.

use std::pin::pin;
use std::sync::Arc;

use ambit_process::net::TcpListener;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::Dialling;
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::*;
use crate::testing::{Authority, identity, opened, sockets};

async fn meet(server: &Accepting, client: Dialling) -> Result<Accepted, AcceptError> {
    let (near, far) = sockets().await;
    let client = async {
        let (tls, _) = handshake::connect(client, near).await.ok()?;
        h2::client::handshake(tls).await.ok()
    };
    let (accepted, _) = tokio::join!(accept(far, server.clone(), Windows::default()), Box::pin(client));
    accepted
}

/// A tunnel to a far end that serves with `take`; the client's connection is driven in the background.
async fn tunnel(
    stop: &Stop,
    take: impl FnMut(Arrival) + Send + 'static,
) -> (Tasks, h2::client::SendRequest<Bytes>, tokio::sync::oneshot::Receiver<Ended>) {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = authority.credential(&identity("db")).accepting();
    let mut tasks = Tasks::new(&Stop::new());
    let (tell, ended) = tokio::sync::oneshot::channel();
    let stop = stop.clone();
    tasks.spawn("far", |_| async move {
        let accepted = accept(listener.accept().await.unwrap().0, server, Windows::default()).await.unwrap();
        assert_eq!(accepted.peer(), &identity("web"));
        tell.send(accepted.serve(stop, take).await).unwrap_or_default();
    });
    let client = authority.credential(&identity("web")).dialling(Arc::from([identity("db")]));
    let tcp = TcpStream::connect(address).await.unwrap();
    let (tls, _) = handshake::connect(client, tcp).await.unwrap();
    let (send, conn) = h2::client::Builder::new().max_header_list_size(1 << 20).handshake(tls).await.unwrap();
    tasks.spawn("near", |_| async move { drop(conn.await) });
    (tasks, send, ended)
}

fn connect(authority: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = authority.parse().unwrap();
    request
}

#[tokio::test]
async fn clients_of_a_foreign_domain_or_authority_or_of_no_tls_are_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.credential(&identity("db")).accepting();
    let expect: Arc<[Identity]> = Arc::from([identity("db")]);
    let foreign = "spiffe://elsewhere/ns/shop/sa/web".parse().unwrap();
    let refused = meet(&server, ours.credential(&foreign).dialling(Arc::clone(&expect))).await.err();
    let reason = Mismatch::Foreign { found: foreign };
    assert!(matches!(&refused, Some(AcceptError::WrongPeer(m)) if *m == reason), "{refused:?}");
    let refused = meet(&server, theirs.credential(&identity("web")).dialling(expect)).await.err();
    assert!(matches!(refused, Some(AcceptError::Tls(_))), "{refused:?}");
    let (mut near, far) = sockets().await;
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(accept(far, server, Windows::default()).await.err(), Some(AcceptError::Tls(_))));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_let_go_in_time() {
    let server = Authority::new().credential(&identity("db")).accepting();
    let (_near, far) = sockets().await;
    let refused = accept(far, server, Windows::default()).await.err();
    assert!(matches!(refused, Some(AcceptError::Silent { limit: HANDSHAKE_WAIT })), "{refused:?}");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_answered_and_the_tunnel_goes_on() {
    let refuse = |arrival: Arrival| match arrival.head() {
        Ok(_) => drop(opened(arrival)),
        Err(_) => arrival.refuse(Refusal::Bad),
    };
    let (_tasks, send, _) = tunnel(&Stop::new(), refuse).await;
    let mut send = send.ready().await.unwrap();
    let get = Request::get("https://10.0.0.1/").body(()).unwrap();
    let mut large = connect("10.0.0.1:80");
    let value = http::HeaderValue::try_from("x".repeat(70_000)).unwrap();
    large.headers_mut().insert("x-large", value);
    for (request, status) in [
        (get, StatusCode::BAD_REQUEST),
        (connect("10.0.0.1"), StatusCode::BAD_REQUEST),
        (connect("user@host:80"), StatusCode::BAD_REQUEST),
        (large, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        (connect("10.0.0.1:80"), StatusCode::OK),
    ] {
        let shown = format!("{} {}", request.method(), request.uri());
        let (answer, _body) = send.send_request(request, false).unwrap();
        assert_eq!(answer.await.unwrap().status(), status, "{shown}");
    }
}

#[tokio::test]
async fn a_stopped_end_says_goodbye_and_waits_for_its_streams() {
    let stop = Stop::new();
    let (keep, mut kept) = mpsc::channel(1);
    let take = move |arrival| keep.try_send(opened(arrival)).unwrap_or_default();
    let (_tasks, mut send, ended) = tunnel(&stop, take).await;
    let (answer, body) = send.send_request(connect("10.0.0.1:80"), false).unwrap();
    answer.await.unwrap();
    stop.stop();
    let knows = async {
        while std::future::poll_fn(|cx| send.poll_ready(cx)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), knows).await.expect("the client knows");
    let mut ended = pin!(ended);
    assert!(timeout(Duration::from_millis(50), &mut ended).await.is_err(), "a stream is open");
    drop((body, kept.recv().await));
    let ended = timeout(Duration::from_secs(30), ended).await.unwrap();
    assert!(matches!(ended, Ok(Ended::Closed)), "{ended:?}");
}

#[tokio::test]
async fn a_client_that_resets_for_sport_loses_its_tunnel() {
    let (_tasks, mut send, ended) = tunnel(&Stop::new(), |arrival| arrival.refuse(Refusal::Denied)).await;
    // More than are borne, and all on their way before the far end looks at the first.
    for number in 0..20_000 {
        let Ok((_, mut body)) = send.send_request(connect("10.0.0.1:80"), false) else { break };
        body.send_reset(Reason::CANCEL);
        if std::future::poll_fn(|cx| send.poll_ready(cx)).await.is_err() {
            break;
        }
        if number % 256 == 255 {
            tokio::task::yield_now().await;
        }
    }
    let ended = timeout(Duration::from_secs(30), ended).await;
    let calm = |e: &h2::Error| e.reason() == Some(Reason::ENHANCE_YOUR_CALM);
    assert!(matches!(&ended, Ok(Ok(Ended::Failed(error))) if calm(error)), "{ended:?}");
}
