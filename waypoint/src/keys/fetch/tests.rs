//! Which addresses are asked for keys, and which answers are taken.

use ambit_kit::{KeysServer, Publishes, Tokens};
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::control_plane::RootSource;
use serde_json::json;

use super::*;

fn fetcher(loopback: bool) -> Fetcher {
    let second = Duration::from_secs(1);
    let roots = RootSource::System;
    Fetcher::new(KeySettings { refresh: second, again: second, keep: second, loopback, roots })
}

#[test]
fn nobody_makes_us_ask_what_only_we_can_reach() {
    for (ip, wanted) in [
        ("10.0.0.1", true),
        ("192.168.1.1", true),
        ("8.8.8.8", true),
        ("2001:db8::1", true),
        ("fd00::1", true),
        ("127.0.0.1", false),
        ("127.8.8.8", false),
        ("0.0.0.0", false),
        ("0.1.2.3", false),
        ("169.254.169.254", false),
        ("100.100.100.200", false),
        ("168.63.129.16", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("::1", false),
        ("::", false),
        ("fe80::1", false),
        ("ff02::1", false),
        ("fd00:ec2::254", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:169.254.169.254", false),
        ("::ffff:10.0.0.1", true),
    ] {
        assert_eq!(may_be_asked(ip.parse().unwrap()), wanted, "{ip}");
    }
}

#[tokio::test]
async fn keys_are_fetched_from_where_they_are_and_from_where_the_issuer_says() {
    let mut tasks = Tasks::new(&Stop::new());
    let tokens = Tokens::new();
    let keys = KeysServer::start(Publishes::keys(&[tokens.jwk("a"), tokens.jwk("b")]), &mut tasks).await;
    let fetcher = fetcher(true);
    assert_eq!(fetcher.fetch(&KeySource::At(keys.uri("/keys").into())).await.unwrap().len(), 2);
    let issuer = KeysServer::start(Publishes::Silence, &mut tasks).await;
    let name = issuer.uri("/realm");
    let page = json!({"issuer": name, "jwks_uri": keys.uri("/keys"), "more": [1]});
    issuer.publish(Publishes::Page(page.to_string()));
    assert_eq!(fetcher.fetch(&KeySource::OfIssuer(name.as_str().into())).await.unwrap().len(), 2);
    // A page of somebody else says nothing about this one.
    let other = KeySource::OfIssuer(issuer.uri("/other").into());
    let found = fetcher.fetch(&other).await.unwrap_err();
    assert!(matches!(&found, FetchError::AnotherIssuer(it) if *it == name), "{found}");
}

#[tokio::test]
async fn whatever_else_is_published_there_are_no_keys() {
    let mut tasks = Tasks::new(&Stop::new());
    let server = KeysServer::start(Publishes::Silence, &mut tasks).await;
    let source = KeySource::At(server.uri("/keys").into());
    let fetcher = fetcher(true);
    let raw = |text: &str| Publishes::Raw(text.as_bytes().to_vec());
    let elsewhere =
        format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", server.uri("/x"));
    for (publishes, wanted) in [
        (Publishes::Status(404), "404"),
        (Publishes::Status(500), "500"),
        (raw(&elsewhere), "302"),
        (Publishes::Page("<html>".into()), "not a key set"),
        (Publishes::Page("{\"keys\":[]}".into()), "no key in it"),
        (Publishes::Page(" ".repeat(LARGEST + 1)), "more than"),
        (Publishes::Endless, "more than"),
        (raw(""), "broke off"),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{"), "broke off"),
        (raw("SSH-2.0-server\r\n"), "broke off"),
    ] {
        let shown = format!("{publishes:?}").chars().take(80).collect::<String>();
        server.publish(publishes);
        let error = fetcher.fetch(&source).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{shown}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_after_a_while_and_addresses_that_are_none_at_once() {
    let mut tasks = Tasks::new(&Stop::new());
    let server = KeysServer::start(Publishes::Silence, &mut tasks).await;
    let fetch = |fetcher: Fetcher, address: String| async move {
        fetcher.fetch(&KeySource::At(address.into())).await.unwrap_err()
    };
    assert!(matches!(fetch(fetcher(true), server.uri("/")).await, FetchError::Silent));
    assert!(matches!(fetch(fetcher(false), server.uri("/")).await, FetchError::Forbidden(_)));
    for address in ["", "/keys", "ftp://a/", "http://", "https:///x", "http:keys"] {
        let error = fetch(fetcher(true), address.to_owned()).await;
        assert!(matches!(error, FetchError::Address(_)), "{address}: {error}");
    }
}
