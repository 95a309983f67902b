//! From a root of our own to material that is given, to other material, and back: as its users see it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::super::cert::Cert;
use super::super::keeper::{Keeper, Place};
use super::super::plugged::tests::{Authority, files, put, start};
use super::super::rotation::tests::{Peer, meet};
use super::*;
use crate::metrics::Metrics;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A control plane's folder, and the one that somebody else keeps beside it.
struct Bench {
    folder: TempDir,
    lifetime: Duration,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), lifetime: 3650 * DAY }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, now: SystemTime) -> Keeper {
        let recipe = Recipe { lifetime: self.lifetime, ..Recipe::new("cluster.local".parse().unwrap()) };
        let place = Place { state: self.path("state"), plugged: Some(self.path("cacerts")), recipe };
        Keeper::open(place, Metrics::default(), now).unwrap()
    }

    fn give(&self, signer: &Authority, root: &Authority) {
        put(&self.path("cacerts"), &files(signer, &signer.key(), &root.pem));
    }

    fn take_away(&self) {
        std::fs::remove_dir_all(self.path("cacerts")).unwrap();
    }
}

fn signer(keeper: &Keeper) -> Cert {
    keeper.rotation().current().certificate().clone()
}

fn is_file(path: &Path) -> bool {
    path.exists()
}

#[test]
fn from_own_to_given_to_other_and_back_peers_of_any_age_believe_each_other_all_the_while() {
    let (first, second) = (Authority::root("first"), Authority::root("second"));
    let middle = first.below("middle", 2000);
    let (one, two) = (middle.below("one", 1000), second.below("two", 1000));
    // Never started again; started again all the time, so also with the folder changed while nothing ran.
    for restarts in [false, true] {
        let bench = Bench::new();
        let mut keeper = bench.open(start());
        let lives = [24 * 3600, 4 * 3600, 48 * 3600];
        let mut peers: Vec<Peer> = lives.iter().map(|life| Peer::new(&keeper, *life, start())).collect();
        let mut signers = vec![signer(&keeper)];
        for step in 0..(17 * 12_u32) {
            let now = start() + step * 2 * HOUR;
            match step {
                3 => {
                    bench.give(&one, &first);
                    let chain = one.pem.clone() + &middle.pem;
                    put(&bench.path("cacerts"), &[("cert-chain.pem", &chain)]);
                }
                55 => bench.give(&two, &second),
                130 => bench.take_away(),
                _ => {}
            }
            if restarts {
                keeper = bench.open(now);
            }
            keeper.look(now);
            for (peer, life) in peers.iter_mut().zip(lives) {
                if now >= peer.renew_at {
                    *peer = Peer::new(&keeper, life, now);
                }
            }
            for (one, other) in peers.iter().flat_map(|one| peers.iter().map(move |other| (one, other))) {
                assert!(one.believes(other, now), "hour {step} * 2, restarts: {restarts}");
            }
            if signers.last() != Some(&signer(&keeper)) {
                signers.push(signer(&keeper));
            }
        }
        assert_eq!(signers.len(), 4, "each followed the other, restarts: {restarts}");
        assert_eq!(signers[1..3], [one.cert(), two.cert()]);
        assert_ne!(signers[3], signers[0], "the former root of our own was forgotten");
        assert_eq!(keeper.rotation().believed().len(), 1, "and so were the others");
    }
}

#[test]
fn whatever_signs_is_kept_where_nobody_else_reads_it_and_nothing_else_is() {
    let root = Authority::root("root");
    let one = root.below("one", 1000);
    let bench = Bench::new();
    let mut keeper = bench.open(start());
    bench.give(&one, &root);
    keeper.look(start() + HOUR);
    assert!(is_file(&bench.path("state/ca-key.pem")), "the former key signs on");
    assert!(!is_file(&bench.path("state/given.json")));
    keeper.look(start() + 50 * HOUR);
    assert_eq!(signer(&keeper), one.cert());
    assert!(!is_file(&bench.path("state/ca-key.pem")) && !is_file(&bench.path("state/ca-cert.pem")));
    let mode = std::fs::metadata(bench.path("state/given.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    bench.take_away();
    let back = start() + 60 * HOUR;
    keeper.look(back);
    assert!(is_file(&bench.path("state/next-key.pem")), "a root of our own is announced");
    keeper.look(back + 48 * HOUR);
    assert!(!is_file(&bench.path("state/given.json")) && !is_file(&bench.path("state/next-key.pem")));
    assert!(is_file(&bench.path("state/ca-key.pem")));
}

#[test]
fn what_is_taken_away_and_put_back_in_time_changes_nothing() {
    let root = Authority::root("root");
    let one = root.below("one", 1000);
    let bench = Bench::new();
    bench.give(&one, &root);
    let mut keeper = bench.open(start());
    bench.take_away();
    keeper.look(start() + HOUR);
    assert_eq!(keeper.rotation().believed().len(), 2, "announced");
    bench.give(&one, &root);
    keeper.look(start() + 2 * HOUR);
    assert!(keeper.rotation().next().is_none() && !is_file(&bench.path("state/next-key.pem")));
    keeper.look(start() + 100 * HOUR);
    assert_eq!((signer(&keeper), keeper.rotation().believed().len()), (one.cert(), 1));
}

#[test]
fn what_was_given_and_taken_away_before_it_signed_is_forgotten() {
    let root = Authority::root("root");
    let one = root.below("one", 1000);
    let bench = Bench::new();
    let mut keeper = bench.open(start());
    let own = signer(&keeper);
    bench.give(&one, &root);
    keeper.look(start() + HOUR);
    bench.take_away();
    keeper.look(start() + 2 * HOUR);
    assert!(keeper.rotation().next().is_none());
    keeper.look(start() + 100 * HOUR);
    assert_eq!((signer(&keeper), keeper.rotation().believed().len()), (own, 1));
}

#[test]
fn files_of_a_switch_that_was_cut_short_are_gone_on_with() {
    let root = Authority::root("root");
    let one = root.below("one", 1000);
    // Back to a root of our own, with some of the files as they are after the switch.
    for moved in [
        &["rotation.json"][..],
        &["rotation.json", "ca-key.pem"],
        &["rotation.json", "ca-key.pem", "ca-cert.pem"],
        &["rotation.json", "ca-key.pem", "ca-cert.pem", "given.json"],
    ] {
        let bench = Bench::new();
        bench.give(&one, &root);
        let mut keeper = bench.open(start());
        bench.take_away();
        keeper.look(start());
        let names = ["given.json", "next-key.pem", "next-cert.pem", "next-bridge.pem", "rotation.json"];
        let read = |name: &str| std::fs::read_to_string(bench.path("state").join(name)).unwrap();
        let before: Vec<_> = names.iter().map(|name| (*name, read(name))).collect();
        let now = start() + 48 * HOUR;
        keeper.look(now);
        let own = signer(&keeper);
        let state = State::open(&bench.path("state")).unwrap();
        for name in ["ca-key.pem", "ca-cert.pem"].into_iter().filter(|name| !moved.contains(name)) {
            state.remove(name).unwrap();
        }
        for (name, text) in before.iter().filter(|(name, _)| !moved.contains(name)) {
            state.write(name, text).unwrap();
        }
        let again = bench.open(now);
        assert_eq!(signer(&again), own, "{moved:?}");
        assert!(again.rotation().next().is_none() && again.rotation().believed().len() == 2, "{moved:?}");
        assert!(!is_file(&bench.path("state/next-key.pem")) && !is_file(&bench.path("state/given.json")));
    }
}

#[test]
fn given_material_that_ended_while_nothing_ran_is_followed_at_once() {
    let root = Authority::root("root");
    let (short, long) = (root.below("short", 1), root.below("long", 1000));
    let bench = Bench::new();
    bench.give(&short, &root);
    drop(bench.open(start()));
    bench.give(&long, &root);
    assert_eq!(signer(&bench.open(start() + 2 * DAY)), long.cert());
}

/// Both have so little left that nobody can be waited for.
#[tokio::test]
async fn who_was_not_told_of_a_given_root_still_connects_by_the_bridge_in_both_directions() {
    let now = ambit_process::clock::now_system();
    let days = u32::try_from(now.duration_since(start()).unwrap().as_secs() / DAY.as_secs()).unwrap();
    let root = Authority::root("root");
    let (brief, long) = (root.below("brief", days + 3), root.below("long", 3000));
    let bench = Bench { lifetime: 200 * HOUR, ..Bench::new() };
    let mut keeper = bench.open(now - 190 * HOUR);
    let untold = Peer::new(&keeper, 80 * DAY.as_secs(), now - 25 * HOUR);
    bench.give(&long, &root);
    keeper.look(now - 24 * HOUR);
    keeper.look(now);
    let new = Peer::new(&keeper, 0, now);
    assert_eq!((untold.roots.len(), signer(&keeper)), (1, long.cert()));
    assert_eq!(meet(&untold, &new).await, Ok(()));
    assert_eq!(meet(&new, &untold).await, Ok(()));

    let bench = Bench::new();
    bench.give(&brief, &root);
    let mut keeper = bench.open(now);
    let untold = Peer::new(&keeper, 80 * DAY.as_secs(), now);
    bench.take_away();
    keeper.look(now);
    let later = now + 2 * DAY;
    keeper.look(later);
    assert_ne!(signer(&keeper), brief.cert());
    // The clock of handshakes is the machine's.
    let new = Peer::new(&keeper, 0, now + HOUR / 100);
    assert_eq!(untold.roots.len(), 1);
    assert_eq!(meet(&untold, &new).await, Ok(()));
    assert_eq!(meet(&new, &untold).await, Ok(()));
}
