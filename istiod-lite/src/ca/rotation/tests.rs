//! A succession from the outside: what a keeper hands out while time passes, and whether peers of any age
//! understand each other all the while.

use std::path::Path;

use ambit_tls::credential::{Credential, Material, Terms};
use ambit_tls::handshake;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::super::keeper::{Keeper, Place};
use super::super::root::Recipe;
use super::super::state::State;
use super::*;
use crate::metrics::Metrics;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

fn recipe(lifetime: Duration) -> Recipe {
    Recipe { lifetime, ..Recipe::new("cluster.local".parse().unwrap()) }
}

fn keeper(folder: &Path, lifetime: Duration, now: SystemTime) -> Keeper {
    let place = Place { state: folder.into(), plugged: None, recipe: recipe(lifetime) };
    Keeper::open(place, Metrics::default(), now).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Somebody with a certificate.
pub(crate) struct Peer {
    key: KeyPair,
    pub(crate) leaf: Cert,
    above: Vec<Cert>,
    pub(crate) roots: Vec<Cert>,
    pub(crate) renew_at: SystemTime,
}

impl Peer {
    pub(crate) fn new(keeper: &Keeper, seconds: u64, now: SystemTime) -> Self {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let who = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let signing = Arc::clone(&keeper.newest().borrow());
        let answer = signing.answer(&csr, &who, seconds.try_into().unwrap(), now).unwrap();
        let (roots, chain) = answer.split_last().unwrap();
        let mut chain = chain.iter().flat_map(|pem| Cert::all(pem).unwrap());
        let leaf = chain.next().unwrap();
        let half = leaf.validity().1.duration_since(now).unwrap() / 2;
        Self { key, leaf, above: chain.collect(), roots: Cert::all(roots).unwrap(), renew_at: now + half }
    }

    /// Whether it believes another: a path of valid certificates to one of its roots.
    pub(crate) fn believes(&self, other: &Self, now: SystemTime) -> bool {
        let valid = |it: &Cert| it.validity().0 <= now && now < it.validity().1;
        let mut reached = vec![&other.leaf];
        for _ in 0..=other.above.len() {
            let next = other.above.iter().filter(|it| reached.iter().any(|below| below.is_signed_by(it)));
            reached.extend(next.filter(|it| valid(it)).collect::<Vec<_>>());
        }
        let proved = |root: &&Cert| valid(root) && reached.iter().any(|it| it.is_signed_by(root));
        valid(&other.leaf) && self.roots.iter().find(proved).is_some()
    }

    fn credential(&self) -> Credential {
        let (chain, key) = (self.leaf.pem() + &bundle(&self.above), self.key.serialize_pem());
        let roots = bundle(&self.roots);
        let material = Material::from_pem(chain.as_bytes(), key.as_bytes(), roots.as_bytes()).unwrap();
        Credential::new(material, &Terms::default()).unwrap()
    }
}

#[test]
fn a_new_root_is_announced_then_signs_and_the_former_one_goes_after_its_last_certificate() {
    let folder = folder();
    let (life, mut now) = (1000 * DAY, start());
    let mut keeper = keeper(folder.path(), life, now);
    let first = keeper.rotation().current().certificate().clone();
    let told = || Cert::all(&std::fs::read_to_string(folder.path().join("root-cert.pem")).unwrap()).unwrap();
    keeper.look(now + 799 * DAY);
    assert_eq!((told(), keeper.rotation().next().is_none()), (vec![first.clone()], true), "too early");

    now += 801 * DAY;
    keeper.look(now);
    let roots = told();
    assert_eq!((roots.len(), &roots[0]), (2, &first), "announced");
    assert_eq!(keeper.rotation().current().certificate(), &first, "the former key signs on");
    keeper.look(now + 47 * HOUR);
    assert_eq!(keeper.rotation().current().certificate(), &first, "not everybody was told");

    now += 48 * HOUR;
    keeper.look(now);
    let second = keeper.rotation().current().certificate().clone();
    assert_eq!(second, roots[1], "the new key signs");
    assert_eq!(told().len(), 2, "certificates of the former one live");
    keeper.look(now + 23 * HOUR);
    assert_eq!(told().len(), 2);
    keeper.look(now + 24 * HOUR);
    assert_eq!(told(), [second], "its last certificate has ended");
}

#[test]
fn whoever_got_a_long_life_is_waited_for() {
    let folder = folder();
    let now = start();
    let mut keeper = keeper(folder.path(), 1000 * DAY, now);
    Peer::new(&keeper, 60 * DAY.as_secs(), now);
    let late = now + 801 * DAY;
    keeper.look(late);
    let first = keeper.rotation().current().certificate().clone();
    keeper.look(late + 59 * DAY);
    assert_eq!(*keeper.rotation().current().certificate(), first);
    keeper.look(late + 60 * DAY);
    assert_ne!(*keeper.rotation().current().certificate(), first);
}

#[test]
fn a_restart_at_any_moment_of_a_succession_changes_nothing() {
    let (whole, often) = (folder(), folder());
    let now = start();
    let (mut steady, mut restarted) = (keeper(whole.path(), 1000 * DAY, now), None::<Keeper>);
    drop(keeper(often.path(), 1000 * DAY, now));
    let phase = |keeper: &Keeper| {
        let rotation = keeper.rotation();
        let next = rotation.next().map(|next| next.at);
        let ends = rotation.believed().iter().map(|it| it.until).collect::<Vec<_>>();
        (next, ends, rotation.bridges().len())
    };
    let mut phases = Vec::new();
    for hour in 0..150_u32 {
        let now = now + 799 * DAY + hour * HOUR;
        steady.look(now);
        let mut other = keeper(often.path(), 1000 * DAY, now);
        other.look(now);
        assert_eq!(phase(&steady), phase(&other), "hour {hour}");
        let certificate = other.rotation().current().certificate();
        if let Some(before) = &restarted {
            let expected =
                before.rotation().next().map_or_else(|| before.rotation().current(), |next| &next.signer);
            let kept = [before.rotation().current().certificate(), expected.certificate()];
            assert!(kept.contains(&certificate), "hour {hour}: a key was lost");
        }
        if phases.last() != Some(&phase(&steady)) {
            phases.push(phase(&steady));
        }
        restarted = Some(other);
    }
    assert_eq!(phases.len(), 4, "alone, announced, followed, alone: {phases:?}");
}

#[test]
fn files_of_a_succession_that_was_cut_short_are_gone_on_with() {
    // The state just before the switch, with some of the files as they are after it.
    for moved in [
        &["rotation.json"][..],
        &["rotation.json", "ca-key.pem"],
        &["rotation.json", "ca-key.pem", "ca-cert.pem"],
    ] {
        let folder = folder();
        let mut keeper = keeper(folder.path(), 1000 * DAY, start());
        let announced = start() + 801 * DAY;
        keeper.look(announced);
        let names = [
            "ca-key.pem",
            "ca-cert.pem",
            "next-key.pem",
            "next-cert.pem",
            "next-bridge.pem",
            "rotation.json",
        ];
        let texts = names.map(|name| (name, std::fs::read_to_string(folder.path().join(name)).unwrap()));
        let now = announced + 48 * HOUR;
        keeper.look(now);
        let second = keeper.rotation().current().certificate().clone();
        let files = State::open(folder.path()).unwrap();
        for (name, text) in texts.iter().filter(|(name, _)| !moved.contains(name)) {
            files.write(name, text).unwrap();
        }
        let again = self::keeper(folder.path(), 1000 * DAY, now);
        assert_eq!(*again.rotation().current().certificate(), second, "{moved:?}");
        assert!(again.rotation().next().is_none() && again.rotation().believed().len() == 2, "{moved:?}");
        assert!(!folder.path().join("next-key.pem").exists());
    }
}

#[test]
fn in_a_succession_peers_of_any_age_believe_each_other_all_the_while() {
    let folder = folder();
    let begin = start() + 799 * DAY;
    let mut keeper = keeper(folder.path(), 1000 * DAY, start());
    keeper.look(begin);
    let lives = [24 * 3600, 24 * 3600, 3600, 12 * 3600, 48 * 3600];
    let mut peers: Vec<Peer> = lives.iter().map(|life| Peer::new(&keeper, *life, begin)).collect();
    let mut signers = Vec::new();
    for step in 0..(10 * 24 * 2_u32) {
        let now = begin + step * HOUR / 2;
        keeper.look(now);
        for (peer, life) in peers.iter_mut().zip(lives) {
            if now >= peer.renew_at {
                *peer = Peer::new(&keeper, life, now);
            }
        }
        for (one, other) in peers.iter().flat_map(|one| peers.iter().map(move |other| (one, other))) {
            assert!(one.believes(other, now), "half hour {step}");
        }
        let signer = keeper.rotation().current().certificate().clone();
        if signers.last() != Some(&signer) {
            signers.push(signer);
        }
    }
    assert_eq!(signers.len(), 2, "the key did change");
    assert_eq!(keeper.rotation().believed().len(), 1, "and the former root is gone");
}

/// One handshake in both roles, over memory.
pub(crate) async fn meet(client: &Peer, server: &Peer) -> Result<(), String> {
    let (here, there) = tokio::io::duplex(1 << 16);
    let (dialling, accepting) = (client.credential(), server.credential());
    let expected = Arc::from([server.credential().identity().clone()]);
    let dial = handshake::connect(dialling.dialling(expected), here);
    let accept = handshake::accept(accepting.accepting(), there);
    let (dialled, accepted) = tokio::join!(dial, accept);
    dialled.map(drop).map_err(|it| format!("{it:?}"))?;
    accepted.map(drop).map_err(|it| format!("{it:?}"))
}

#[tokio::test]
async fn certificates_of_different_roots_connect_in_the_overlap_and_by_the_bridge_even_without_being_told() {
    // A root of 200 hours with so little left that nobody can be waited for as long as they may live.
    let now = ambit_process::clock::now_system();
    let folder = folder();
    let mut keeper = keeper(folder.path(), 200 * HOUR, now - 190 * HOUR);
    let untold = Peer::new(&keeper, 80 * DAY.as_secs(), now - 26 * HOUR);
    keeper.look(now - 25 * HOUR);
    let told = Peer::new(&keeper, 80 * DAY.as_secs(), now - 24 * HOUR);
    keeper.look(now);
    let new = Peer::new(&keeper, 0, now);
    assert_eq!([untold.roots.len(), told.roots.len(), new.roots.len()], [1, 2, 2]);
    assert!(told.leaf.is_signed_by(&untold.roots[0]) && !new.leaf.is_signed_by(&untold.roots[0]));
    for (name, one, other) in [("told", &told, &new), ("untold", &untold, &new), ("old", &untold, &told)] {
        assert_eq!(meet(one, other).await, Ok(()), "{name} dials");
        assert_eq!(meet(other, one).await, Ok(()), "{name} is dialled");
    }
    let stranger = Peer::new(&self::keeper(self::folder().path(), DAY, now), 0, now);
    assert!(meet(&stranger, &new).await.is_err() && meet(&new, &stranger).await.is_err());
}

#[test]
fn when_the_state_cannot_be_written_nothing_is_announced_and_the_former_key_signs_on() {
    let folder = folder();
    let mut keeper = keeper(folder.path(), 1000 * DAY, start());
    let late = start() + 801 * DAY;
    // A folder in the way of the file.
    let way = folder.path().join(format!("next-key.new.{}", std::process::id()));
    std::fs::create_dir(&way).unwrap();
    keeper.look(late);
    assert!(keeper.rotation().next().is_none());
    Peer::new(&keeper, 0, late);
    std::fs::remove_dir(&way).unwrap();
    keeper.look(late + HOUR);
    assert!(keeper.rotation().next().is_some(), "made up for at the next look");
}
