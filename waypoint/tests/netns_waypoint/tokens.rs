//! Tokens in force: who is believed, what is answered to whom is not, what goes on of a token and what never does, and
//! whose keys they are checked with.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ambit_kit::{KeysServer, Publishes, Tokens};
use ambit_model::authentication::{
    Authentication, ClaimPath, KeySource, PATIENCE as KEYS_WAIT, Place, TokenRule,
};
use ambit_model::delta::Change;
use ambit_model::http_route::{
    ClaimMatch, Filters, HeaderMatch, Match, More, Parent, PathMatch, Route, Rule, Timeouts, ValueMatch,
};
use ambit_model::request_policy::Target;
use ambit_model::service::AppProtocol;
use serde_json::{Value, json};

use crate::backend::{Seen, Speaks, backend};
use crate::client::{Answer, Client, empty, http1, http2};
use crate::routes::to;
use crate::scene::{PATIENCE, Scene, endpoint_of, scene, scene_with, service, shop};

const WEB: &str = "10.1.0.1:80";
const ISSUER: &str = "https://issuer.example";

/// An issuer whose keys are here.
fn rule(tokens: &Tokens) -> TokenRule {
    let keys = json!({"keys": [tokens.jwk("k")]}).to_string();
    TokenRule {
        issuer: ISSUER.into(),
        audiences: vec![],
        keys: KeySource::Inline(keys.into()),
        places: Place::usual(),
        forward: false,
        payload_header: None,
        claim_headers: vec![],
        words: vec![],
        patience: KEYS_WAIT,
    }
}

fn believing(rules: Vec<TokenRule>) -> Change {
    let rules = rules.into_iter().map(Arc::new).collect();
    let targets = vec![Target::Service("shop/web.shop.svc.cluster.local".parse().unwrap())];
    Change::Authentication(Arc::new(Authentication { key: "shop/issuers".parse().unwrap(), targets, rules }))
}

fn world(rules: Vec<TokenRule>) -> Vec<Change> {
    let mut world = shop(AppProtocol::Http11);
    world.push(believing(rules));
    world
}

/// Claims of a token that is good for an hour, and more.
fn claims(more: &Value) -> Value {
    let now = ambit_process::clock::now_system().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({"iss": ISSUER, "sub": "jane", "exp": now + 3600});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

async fn open(scene: &mut Scene) -> (Client, Arc<Seen>) {
    let seen = backend(scene, "one", "127.0.0.2", Speaks::Http1).await;
    (http1(scene.open("cart", WEB).await.unwrap()).await, seen)
}

async fn bearing(client: &mut Client, token: &str) -> Answer {
    let request = client.request("/a?b=c").header("authorization", format!("Bearer {token}"));
    client.ask(request.body(empty()).unwrap()).await
}

#[test]
fn whoever_shows_a_token_must_show_a_good_one() {
    let (tokens, stranger) = (Tokens::new(), Tokens::new());
    let believed = TokenRule { audiences: vec!["shop".into()], ..rule(&tokens) };
    scene(&world(vec![believed]), async |scene| {
        let (mut client, seen) = open(scene).await;
        assert_eq!(client.get("/").await.status, 200, "who shows none is nobody, and may be let in");
        let good = tokens.sign_named("k", &claims(&json!({"aud": ["shop", "other"]})));
        let (head, signature) = good.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { 'B' } else { 'A' };
        let changed = format!("{head}.{other}{}", &signature[1..]);
        let sign = |more: Value| tokens.sign_named("k", &claims(&more));
        let aud = |more: Value| {
            let mut all = json!({"aud": "shop"});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            sign(all)
        };
        for (token, status, body) in [
            (good.clone(), 200, "one at"),
            (good.clone(), 200, "one at"),
            (
                "nonsense".into(),
                401,
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            ),
            (format!("*.{good}"), 401, "Jwt is not in the form"),
            (changed, 401, "Jwt verification fails"),
            (stranger.sign_named("k", &claims(&json!({"aud": "shop"}))), 401, "Jwt verification fails"),
            (
                tokens.sign_named("x", &claims(&json!({"aud": "shop"}))),
                401,
                "Jwks doesn't have key to match kid or alg from Jwt",
            ),
            (aud(json!({"exp": 1000})), 401, "Jwt is expired"),
            (aud(json!({"nbf": 99_999_999_999_u64})), 401, "Jwt not yet valid"),
            (aud(json!({"iss": "somebody"})), 401, "Jwt issuer is not configured"),
            (sign(json!({"aud": "bank"})), 403, "Audiences in Jwt are not allowed"),
        ] {
            let before = seen.requests.load(Ordering::SeqCst);
            let answer = bearing(&mut client, &token).await;
            assert_eq!(answer.status, status, "{body}: {answer:?}");
            assert!(answer.body.starts_with(body), "{body}: {}", answer.body);
            let passed = usize::from(status == 200);
            assert_eq!(seen.requests.load(Ordering::SeqCst), before + passed, "{body}");
            let told = answer.headers.get("www-authenticate").map(|it| it.to_str().unwrap().to_owned());
            let wanted =
                (status == 401).then(|| "Bearer realm=\"http://web/a\", error=\"invalid_token\"".to_owned());
            assert_eq!(told, wanted, "{body}");
        }
        let line = scene.logged(&["request complete", "response_code=401", "Jwt_is_expired"]);
        assert!(line.contains("response_code_details=\"jwt_authn_access_denied{Jwt_is_expired}\""), "{line}");
    });
}

#[test]
fn grpc_is_told_in_its_own_way() {
    let tokens = Tokens::new();
    let mut world = shop(AppProtocol::Http2);
    world.push(believing(vec![rule(&tokens)]));
    scene(&world, async |scene| {
        backend(scene, "one", "127.0.0.2", Speaks::Http2).await;
        let mut client = http2(scene.open("cart", WEB).await.unwrap()).await;
        let request =
            client.request("/pkg.Svc/Method").method("POST").header("content-type", "application/grpc");
        let request = request.header("authorization", "Bearer x");
        let answer = client.ask(request.body(empty()).unwrap()).await;
        assert_eq!(
            (answer.status, answer.headers["grpc-status"].to_str().unwrap()),
            (200, "16"),
            "{answer:?}"
        );
    });
}

#[test]
fn what_goes_on_of_a_token_is_what_its_rule_says_and_nobody_forges_it() {
    let tokens = Tokens::new();
    let kept = TokenRule {
        forward: true,
        payload_header: Some("x-payload".parse().unwrap()),
        claim_headers: vec![
            ("x-user".parse().unwrap(), ClaimPath::from("sub")),
            ("x-roles".parse().unwrap(), ClaimPath::from("realm.roles")),
            ("x-missing".parse().unwrap(), ClaimPath::from("nobody")),
        ],
        places: vec![Place::Header { name: "x-token".parse().unwrap(), prefix: "".into() }],
        ..rule(&tokens)
    };
    let places = [Place::usual(), vec![Place::Cookie("session".into())]].concat();
    let taken = TokenRule { places, ..rule(&tokens) };
    scene(&world(vec![kept, taken]), async |scene| {
        let (mut client, seen) = open(scene).await;
        let token = tokens.sign_named("k", &claims(&json!({"realm": {"roles": ["a", "b"]}})));
        let forged = ["x-payload", "x-user", "x-roles", "x-missing"];
        let mut ask = async |name: &str, value: &str, path: &str| {
            let mut request = client.request(path).header("x-other", "1").header(name, value);
            for name in forged {
                request = request.header(name, "admin").header(name, "root");
            }
            let answer = client.ask(request.body(empty()).unwrap()).await;
            assert_eq!(answer.status, 200, "{name} {path}: {answer:?}");
            let line = answer.body.lines().nth(1).unwrap().to_owned();
            (seen.last.lock().unwrap().clone(), line)
        };
        let (headers, _) = ask("x-token", &token, "/").await;
        assert_eq!(headers["x-user"], "jane");
        assert_eq!(headers["x-roles"], "a,b");
        assert_eq!(headers["x-payload"], token.split('.').nth(1).unwrap());
        assert_eq!(headers["x-token"], token.as_str());
        assert_eq!(headers.get("x-missing"), None);
        // Each in another place; none of them goes on, and without a token nobody is anybody.
        let query = format!("/p?a=b&access_token={token}&c=d");
        for (name, value, path, line, gone) in [
            ("authorization", format!("Bearer {token}"), "/p", "GET /p HTTP/1.1", "authorization"),
            ("x-a", "1".into(), query.as_str(), "GET /p?a=b&c=d HTTP/1.1", "authorization"),
            ("cookie", format!("session={token}"), "/p", "GET /p HTTP/1.1", "cookie"),
            ("x-a", "1".into(), "/none", "GET /none HTTP/1.1", "authorization"),
        ] {
            let (headers, asked) = ask(name, &value, path).await;
            assert_eq!(asked, line);
            assert_eq!((headers.get(gone), &headers["x-other"]), (None, &"1".parse().unwrap()), "{line}");
            for name in forged {
                assert_eq!(headers.get(name), None, "{line}: {name}");
            }
        }
        // No record holds a token, believed or not.
        let bad = client.request("/bad?access_token=a.b.c&x=y");
        assert_eq!(client.ask(bad.body(empty()).unwrap()).await.status, 401);
        scene.logged(&["request complete", "path=\"/bad?x=y\"", "response_code=401"]);
        scene.logged(&["request complete", "path=\"/p?a=b&c=d\""]);
        let log = scene.log();
        assert!(!log.contains(&token) && !log.contains("access_token"), "{log}");
    });
}

#[test]
fn tokens_of_several_issuers_live_side_by_side() {
    let (first, second) = (Tokens::new(), Tokens::new());
    let other = |issuer: &str| json!({"iss": issuer});
    let rules = vec![rule(&first), TokenRule { issuer: "second".into(), ..rule(&second) }];
    scene(&world(rules), async |scene| {
        let (mut client, _) = open(scene).await;
        for (token, status, body) in [
            (first.sign_named("k", &claims(&json!({}))), 200, "one"),
            (second.sign_named("k", &claims(&other("second"))), 200, "one"),
            (first.sign_named("k", &claims(&other("second"))), 401, "Jwt verification fails"),
            (second.sign_named("k", &claims(&json!({}))), 401, "Jwt verification fails"),
            (first.sign_named("k", &claims(&other("third"))), 401, "Jwt issuer is not configured"),
        ] {
            let answer = bearing(&mut client, &token).await;
            assert_eq!((answer.status, answer.body.starts_with(body)), (status, true), "{answer:?}");
        }
    });
}

#[test]
fn a_browsers_question_needs_no_token_and_shows_none() {
    let tokens = Tokens::new();
    let believed =
        TokenRule { claim_headers: vec![("x-user".parse().unwrap(), "sub".into())], ..rule(&tokens) };
    scene(&world(vec![believed]), async |scene| {
        let (mut client, seen) = open(scene).await;
        let ask = |method: &str, client: &Client| {
            let request = client.request("/").method(method).header("origin", "https://a");
            let request = request.header("access-control-request-method", "PUT").header("x-user", "root");
            request.header("authorization", "Bearer bad").body(empty()).unwrap()
        };
        let request = ask("OPTIONS", &client);
        assert_eq!(client.ask(request).await.status, 200);
        assert_eq!(seen.last.lock().unwrap().get("x-user"), None);
        let request = ask("GET", &client);
        assert_eq!(client.ask(request).await.status, 401);
    });
}

/// A claim decides where a request goes, and who only says so is not believed.
#[test]
fn routes_go_by_what_tokens_claim_and_not_by_what_clients_do() {
    let tokens = Tokens::new();
    let believed =
        TokenRule { claim_headers: vec![("x-group".parse().unwrap(), "group".into())], ..rule(&tokens) };
    let group = HeaderMatch { name: "x-group".parse().unwrap(), value: ValueMatch::Exact("staff".into()) };
    let any = PathMatch::Prefix("/".into());
    let rule_of = |headers: Vec<HeaderMatch>, service: &str| {
        Arc::new(Rule {
            name: "".into(),
            matches: vec![Match { path: any.clone(), headers, ..Match::default() }],
            filters: Ok(Filters::default()),
            backends: vec![to(service, 1)],
            timeouts: Timeouts::default(),
            retry: None,
            session: None,
        })
    };
    let mut world = world(vec![believed]);
    world.push(Change::Service(Arc::new(service("other", "10.1.0.2", AppProtocol::Http11))));
    world.push(Change::Workload(Arc::new(endpoint_of("other", "two", "127.0.0.3"))));
    let parents = vec![Parent { service: "shop/web.shop.svc.cluster.local".parse().unwrap(), port: None }];
    let claim = ClaimMatch { path: vec!["group".into()], value: ValueMatch::Exact("staff".into()) };
    let mut claimed = (*rule_of(vec![], "other")).clone();
    claimed.matches[0].more = Some(Box::new(More { claims: vec![claim], ..More::default() }));
    let by_header = Route {
        key: "HTTPRoute/shop/staff".parse().unwrap(),
        created_s: 1,
        parents,
        rules: vec![rule_of(vec![group], "other"), rule_of(vec![], "web")],
    };
    let by_claim = Route {
        key: "VirtualService/shop/staff".parse().unwrap(),
        rules: vec![Arc::new(claimed), rule_of(vec![], "web")],
        ..by_header.clone()
    };
    world.push(Change::Route(Arc::new(by_header)));
    scene(&world, async |scene| {
        let (mut client, _) = open(scene).await;
        backend(scene, "two", "127.0.0.3", Speaks::Http1).await;
        let staff = tokens.sign_named("k", &claims(&json!({"group": "staff"})));
        let guest = tokens.sign_named("k", &claims(&json!({"group": "guest"})));
        assert!(bearing(&mut client, &staff).await.body.starts_with("two at"));
        for token in [Some(&guest), None] {
            let mut request = client.request("/").header("x-group", "staff");
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = client.ask(request.body(empty()).unwrap()).await;
            assert!(answer.body.starts_with("one at"), "{}", answer.body);
        }
        // The same by the claim itself, as VirtualServices name it.
        let gone = Change::RouteGone("HTTPRoute/shop/staff".parse().unwrap());
        scene.plane.publish(&[gone, Change::Route(Arc::new(by_claim))].into_iter().collect());
        assert!(bearing(&mut client, &staff).await.body.starts_with("two at"));
        assert!(bearing(&mut client, &guest).await.body.starts_with("one at"));
        assert!(client.get("/").await.body.starts_with("one at"));
    });
}

#[test]
fn keys_are_fetched_change_and_fail_closed() {
    let (old, new) = (Tokens::new(), Tokens::new());
    let settings = [("JWKS_LOOPBACK", "true"), ("JWKS_RETRY", "50ms")];
    scene_with(&settings, &shop(AppProtocol::Http11), async |scene| {
        let server = KeysServer::start(Publishes::Status(500), &mut scene.tasks).await;
        let (mut client, _) = open(scene).await;
        let at = |path: &str| KeySource::At(server.uri(path).into());
        let believed = |path: &str| TokenRule { keys: at(path), ..rule(&old) };
        scene.plane.publish(&[believing(vec![believed("/keys")])].into_iter().collect());
        let signed = |tokens: &Tokens, id: &str| tokens.sign_named(id, &claims(&json!({})));
        let (first, second) = (signed(&old, "old"), signed(&new, "new"));
        // Never fetched: nobody is believed.
        until(&mut client, &first, (401, "Jwks remote fetch is failed")).await;
        server.publish(Publishes::keys(&[old.jwk("old")]));
        until(&mut client, &first, (200, "one at")).await;
        assert_eq!(bearing(&mut client, &second).await.status, 401);
        // The issuer changes its key: the token that is signed with it is the reason to ask.
        server.publish(Publishes::keys(&[new.jwk("new")]));
        until(&mut client, &second, (200, "one at")).await;
        // The former is not believed any more, remembered or not.
        until(&mut client, &first, (401, "Jwks doesn't have key to match kid or alg from Jwt")).await;
        // What was fetched stays in force while the server fails.
        server.publish(Publishes::Page("<html>".into()));
        let (strange, end) = (signed(&Tokens::new(), "strange"), tokio::time::Instant::now() + PATIENCE);
        while !scene.log().contains("not a key set") {
            // Asked again and again, the server is asked again, now and then.
            assert_eq!(bearing(&mut client, &strange).await.status, 401);
            assert!(tokio::time::Instant::now() < end, "{}", scene.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(bearing(&mut client, &second).await.status, 200);
        scene.logged(&["keys of an issuer cannot be fetched", "not a key set"]);
    });
}

/// Without the word that this is meant, keys are not fetched from where only the waypoint can reach.
#[test]
fn keys_are_not_fetched_from_this_machine_unless_that_is_meant() {
    let tokens = Tokens::new();
    scene(&shop(AppProtocol::Http11), async |scene| {
        let server = KeysServer::start(Publishes::keys(&[tokens.jwk("k")]), &mut scene.tasks).await;
        let (mut client, _) = open(scene).await;
        let believed = TokenRule { keys: KeySource::At(server.uri("/keys").into()), ..rule(&tokens) };
        scene.plane.publish(&[believing(vec![believed])].into_iter().collect());
        let token = tokens.sign_named("k", &claims(&json!({})));
        until(&mut client, &token, (401, "Jwks remote fetch is failed")).await;
        scene.logged(&["cannot be fetched", "may not"]);
        assert_eq!(server.asked(), 0);
    });
}

/// Asks until a token is answered like this.
async fn until(client: &mut Client, token: &str, (status, body): (u16, &str)) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = bearing(client, token).await;
        if answer.status == status && answer.body.starts_with(body) {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "wanted {status} {body}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
