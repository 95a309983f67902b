//! Keys while issuers fail, hang and exchange theirs.

use ambit_kit::{KeysServer, Publishes, Tokens};
use ambit_process::tasks::Tasks;
use ambit_tls::configs::control_plane::RootSource;
use serde_json::json;

use super::super::KeySettings;
use super::*;

/// Long enough for two cores that also compile.
const LONG: Duration = Duration::from_secs(60);

struct Scene {
    tasks: Tasks,
    server: KeysServer,
    ring: Arc<Ring>,
}

/// A ring that is fetched from a server, as these settings say.
async fn scene(publishes: Publishes, refresh: Duration, keep: Duration) -> Scene {
    let mut tasks = Tasks::new(&Stop::new());
    let server = KeysServer::start(publishes, &mut tasks).await;
    let ring = Arc::new(Ring::new(&KeySource::At(server.uri("/keys").into())));
    let again = Duration::from_millis(20);
    let settings = KeySettings { refresh, again, keep, loopback: true, roots: RootSource::System };
    let (fetcher, kept) = (Fetcher::new(settings), Arc::clone(&ring));
    tasks.spawn("keep", move |stop| async move { kept.keep(&fetcher, stop).await });
    Scene { tasks, server, ring }
}

impl Scene {
    async fn verify(&self, token: &str) -> Result<(), Fault> {
        self.ring.verify(&Signed::read(token).unwrap(), LONG).await.map(|_| ())
    }

    /// Waits until a token comes to be judged like this.
    async fn until(&self, token: &str, wanted: Result<(), Fault>) {
        let judged = async {
            while self.verify(token).await != wanted {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, judged).await.expect("in time");
    }
}

fn token(tokens: &Tokens, id: &str) -> String {
    tokens.sign_named(id, &json!({"iss": "i"}))
}

#[tokio::test]
async fn the_first_token_waits_for_the_keys() {
    let tokens = Tokens::new();
    let scene = scene(Publishes::keys(&[tokens.jwk("a")]), LONG, LONG).await;
    assert_eq!(scene.verify(&token(&tokens, "a")).await, Ok(()));
    assert_eq!(scene.server.asked(), 1);
    scene.tasks.drain(LONG).await;
}

#[tokio::test]
async fn without_keys_no_token_is_believed_and_nobody_waits_longer_than_is_said() {
    let tokens = Tokens::new();
    let scene = scene(Publishes::Silence, LONG, LONG).await;
    let text = token(&tokens, "a");
    let signed = Signed::read(&text).unwrap();
    let short = Duration::from_millis(50);
    assert_eq!(scene.ring.verify(&signed, short).await.unwrap_err(), Fault::NoKeys);
    scene.tasks.drain(LONG).await;
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for_once_in_a_while() {
    let (old, new) = (Tokens::new(), Tokens::new());
    let scene = scene(Publishes::keys(&[old.jwk("old")]), LONG, LONG).await;
    scene.until(&token(&old, "old"), Ok(())).await;
    // The issuer changes its key.
    scene.server.publish(Publishes::keys(&[old.jwk("old"), new.jwk("new")]));
    scene.until(&token(&new, "new"), Ok(())).await;
    scene.until(&token(&old, "old"), Ok(())).await;
    // And takes the old one back, which is known from the next fetch on.
    scene.server.publish(Publishes::keys(&[new.jwk("new")]));
    scene.until(&token(&Tokens::new(), "nobodys"), Err(Fault::NoKey)).await;
    scene.until(&token(&new, "new"), Ok(())).await;
    // A thousand tokens with keys that nobody has are not a thousand questions.
    let before = scene.server.asked();
    let began = now();
    let stranger = token(&Tokens::new(), "nobodys");
    for _ in 0..1000 {
        assert_eq!(scene.verify(&stranger).await, Err(Fault::NoKey));
    }
    let windows = began.elapsed().as_millis() / 20 + 2;
    let asked = scene.server.asked() - before;
    assert!(u128::try_from(asked).unwrap() <= windows, "{asked} in {windows}");
    scene.tasks.drain(LONG).await;
}

#[tokio::test]
async fn keys_stay_in_force_while_their_server_fails() {
    let tokens = Tokens::new();
    let text = token(&tokens, "a");
    let scene = scene(Publishes::keys(&[tokens.jwk("a")]), Duration::from_millis(10), LONG).await;
    scene.until(&text, Ok(())).await;
    for publishes in [Publishes::Status(500), Publishes::Page("<html>".into()), Publishes::Raw(Vec::new())] {
        scene.server.publish(publishes);
        let before = scene.server.asked();
        let more = async {
            while scene.server.asked() < before + 3 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, more).await.expect("in time");
        assert_eq!(scene.verify(&text).await, Ok(()));
    }
    scene.tasks.drain(LONG).await;
}

#[tokio::test]
async fn but_not_for_ever() {
    let tokens = Tokens::new();
    let text = token(&tokens, "a");
    let short = Duration::from_millis(100);
    let scene = scene(Publishes::keys(&[tokens.jwk("a")]), short, short).await;
    scene.until(&text, Ok(())).await;
    scene.server.publish(Publishes::Status(500));
    scene.until(&text, Err(Fault::NoKeys)).await;
    scene.server.publish(Publishes::keys(&[tokens.jwk("a")]));
    scene.until(&text, Ok(())).await;
    scene.tasks.drain(LONG).await;
}

#[tokio::test]
async fn keys_that_are_here_need_nobody() {
    let tokens = Tokens::new();
    let text = token(&tokens, "a");
    let signed = Signed::read(&text).unwrap();
    let keys = json!({"keys": [tokens.jwk("a")]}).to_string();
    for (source, wanted) in [
        (KeySource::Inline(keys.into()), Ok(())),
        (KeySource::Inline("{}".into()), Err(Fault::NoKeys)),
        (KeySource::Nowhere("lost".into()), Err(Fault::NoKeys)),
    ] {
        let ring = Ring::new(&source);
        assert!(!ring.is_fetched());
        assert_eq!(ring.verify(&signed, LONG).await.map(|_| ()), wanted, "{source:?}");
    }
}
