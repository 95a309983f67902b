//! The mesh's root in a cluster: it outlives the program, replicas share it, and what others keep beside it stays.

#![cfg(test)]

use std::path::Path;
use std::time::{Duration, SystemTime};

use ambit_cluster::api::Client;
use ambit_istiod_lite::ca::keeper::{Keeper, Place};
use ambit_istiod_lite::ca::root::Recipe;
use ambit_istiod_lite::ca::safe::Safe;
use ambit_istiod_lite::metrics::Metrics;
use ambit_kit::fake_api::{FakeApi, Trick};
use ambit_model::name::TrustDomain;
use ambit_process::clock;
use ambit_process::observe::Registry;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::json;

const SECRETS: &str = "/api/v1/secrets";

async fn client(fake: &FakeApi, folder: &Path) -> Client {
    let kubeconfig = folder.join("kubeconfig");
    std::fs::write(&kubeconfig, fake.kubeconfig()).unwrap();
    Client::from_kubeconfig(&kubeconfig).await.unwrap()
}

/// A replica with an empty folder of its own, at this time; and the root that it signs under.
async fn replica(fake: &FakeApi, lifetime: Duration, now: SystemTime) -> (tempfile::TempDir, Keeper, String) {
    replica_with(fake, lifetime, None, now).await
}

/// The same, with material that somebody gives.
async fn replica_with(
    fake: &FakeApi,
    lifetime: Duration,
    plugged: Option<&Path>,
    now: SystemTime,
) -> (tempfile::TempDir, Keeper, String) {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { lifetime, ..Recipe::new(TrustDomain::default()) };
    let place = Place { state: folder.path().join("state"), plugged: plugged.map(Path::to_owned), recipe };
    let safe = Safe::new(client(fake, folder.path()).await, "istio-system");
    let metrics = Metrics::registered(&mut Registry::default());
    let keeper = Box::pin(Keeper::kept(place, safe, metrics, now)).await.unwrap();
    let root = keeper.rotation().current().certificate().pem();
    (folder, keeper, root)
}

const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 3600);

#[tokio::test]
async fn a_replica_that_starts_anew_signs_under_the_root_that_was_there() {
    let fake = FakeApi::start().await;
    let now = clock::now_system();
    let (.., first) = replica(&fake, TEN_YEARS, now).await;
    let secret = fake.object(SECRETS, "istio-system", "istio-ca-secret").unwrap();
    assert_eq!(secret["type"], "istio.io/ca-root");
    for key in ["ca-cert.pem", "ca-key.pem", "root-cert.pem"] {
        assert!(secret["data"][key].is_string(), "{key}");
    }
    let (.., second) = replica(&fake, TEN_YEARS, now).await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn replicas_that_start_at_the_same_time_agree_on_one_root() {
    let fake = FakeApi::start().await;
    let now = clock::now_system();
    let start = || Box::pin(replica(&fake, TEN_YEARS, now));
    let (one, two, three) = tokio::join!(start(), start(), start());
    assert_eq!((&one.2, &one.2), (&two.2, &three.2));
}

#[tokio::test]
async fn what_others_keep_in_the_secret_stays_and_empty_texts_of_upstream_are_nothing() {
    let fake = FakeApi::start().await;
    let now = clock::now_system();
    fake.put(
        SECRETS,
        json!({
            "metadata": {"name": "istio-ca-secret", "namespace": "istio-system"}, "type": "istio.io/ca-root",
            "data": {"key.pem": "", "theirs": "bWluZQ=="},
        }),
    );
    // Somebody else writes in between: it is read again, and written again.
    fake.trick("PUT", Trick::Refuse(409), 1);
    replica(&fake, TEN_YEARS, now).await;
    let secret = fake.object(SECRETS, "istio-system", "istio-ca-secret").unwrap();
    assert_eq!((&secret["data"]["theirs"], &secret["data"]["key.pem"]), (&"bWluZQ==".into(), &"".into()));
    assert!(secret["data"]["ca-key.pem"].is_string());
}

/// One whose root is nearly over announces the next; who starts then knows of both.
#[tokio::test]
async fn a_succession_that_one_replica_announces_is_known_to_the_next() {
    let fake = FakeApi::start().await;
    let now = clock::now_system();
    let lifetime = Duration::from_secs(40 * 24 * 3600);
    // Made so long ago that less than a fifth of its life is left.
    let (_folder, keeper, first) = replica(&fake, lifetime, now - lifetime / 10 * 9).await;
    let mut tasks = Tasks::new(&Stop::new());
    tasks.spawn("keeper", |stop| keeper.run(stop));
    let announced = async {
        loop {
            let secret = fake.object(SECRETS, "istio-system", "istio-ca-secret").unwrap();
            if secret["data"]["next-key.pem"].is_string() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), announced).await.unwrap();
    let (_other, keeper, root) = replica(&fake, lifetime, now).await;
    assert_eq!(root, first);
    assert_eq!(keeper.rotation().believed().len(), 2);
}

/// Somebody's own root, as a folder of signing material.
fn given(name: &str) -> (tempfile::TempDir, String) {
    let (folder, key) = (tempfile::tempdir().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(&key).unwrap().pem();
    for (name, text) in [
        ("ca-cert.pem", &root),
        ("root-cert.pem", &root),
        ("cert-chain.pem", &root),
        ("ca-key.pem", &key.serialize_pem()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    (folder, root)
}

/// As after `kubectl rollout restart`: each replica begins with an empty folder, and knows the secret only.
#[tokio::test]
async fn material_that_was_exchanged_while_nothing_ran_is_announced_before_it_signs() {
    let fake = FakeApi::start().await;
    let now = clock::now_system();
    let (one, first) = given("one");
    let (two, second) = given("two");
    let same = |pem: &str, other: &str| pem.trim().replace('\r', "") == other.trim().replace('\r', "");
    let (.., own) = replica(&fake, TEN_YEARS, now).await;
    let (.., root) = replica_with(&fake, TEN_YEARS, Some(one.path()), now).await;
    assert_eq!(root, own, "a root of our own signs on");
    let later = now + Duration::from_secs(49 * 3600);
    let (.., root) = replica_with(&fake, TEN_YEARS, Some(one.path()), later).await;
    assert!(same(&root, &first), "{root}");
    let secret = fake.object(SECRETS, "istio-system", "istio-ca-secret").unwrap();
    assert_eq!(
        (&secret["data"]["ca-key.pem"], secret["data"]["given.json"].is_string()),
        (&json!(null), true)
    );
    let (_folder, keeper, root) = replica_with(&fake, TEN_YEARS, Some(two.path()), later).await;
    assert!(same(&root, &first), "{root}");
    assert_eq!(keeper.rotation().believed().len(), 3, "and the root of our own is not forgotten yet");
    let later = later + Duration::from_secs(49 * 3600);
    let (.., root) = replica_with(&fake, TEN_YEARS, Some(two.path()), later).await;
    assert!(same(&root, &second), "{root}");
    let (.., root) = replica(&fake, TEN_YEARS, later).await;
    assert!(same(&root, &second), "nothing is given any more: {root}");
    let (.., root) = replica(&fake, TEN_YEARS, later + Duration::from_secs(49 * 3600)).await;
    assert!(!same(&root, &second) && root != own);
}

/// Of two replicas that see other material at different times, neither takes back what the other announced.
#[tokio::test]
async fn replicas_that_see_other_material_one_after_the_other_end_with_the_same() {
    let fake = FakeApi::start().await;
    let now = clock::now_system();
    let (one, _) = given("one");
    let (two, second) = given("two");
    let (_a, mut early, _) = replica_with(&fake, TEN_YEARS, Some(one.path()), now).await;
    let (_b, late, _) = replica_with(&fake, TEN_YEARS, Some(two.path()), now).await;
    assert_eq!((late.rotation().believed().len(), early.rotation().believed().len()), (2, 1));
    for name in ["ca-cert.pem", "root-cert.pem", "cert-chain.pem", "ca-key.pem"] {
        std::fs::copy(two.path().join(name), one.path().join(name)).unwrap();
    }
    early.look(now + Duration::from_secs(1));
    assert_eq!(early.rotation().believed().len(), 2);
    early.look(now + Duration::from_secs(49 * 3600));
    assert_eq!(early.rotation().current().certificate().pem().trim(), second.trim().replace('\r', ""));
}
