//! Who is cut by a change, and who is not.

use ambit_model::name::PolicyKey;
use ambit_process::clock::now;

use super::*;
use crate::sample;
use crate::world;

fn admitted(dest: Arc<Workload>, peer: Option<&str>) -> Admitted {
    Admitted {
        peer: peer.map(sample::identity),
        through: None,
        from: ClientAddr::new("10.0.0.1:40000".parse().unwrap()),
        to: OriginalDst::new("10.0.0.2:80".parse().unwrap()),
        dest,
        host: None,
    }
}

fn is_cut(seat: &mut Seat) -> Option<Denial> {
    assert_eq!(seat.cut().why(), seat.denial().map(|_| Why::Revoked));
    seat.denial().cloned()
}

struct Scene {
    world: world::World,
    writer: world::Writer,
    ledger: Ledger,
    page: Arc<Page>,
}

impl Scene {
    fn new() -> Self {
        Self::waiting(Duration::ZERO)
    }

    /// Where a policy that is missing is waited for.
    fn waiting(policy_wait: Duration) -> Self {
        let (world, mut writer) = world::empty("n1".into());
        writer.apply(&sample::world(&["10.0.0.1 client n1", "10.0.0.2 web n1", "10.0.0.3 other n1"]));
        let ledger = Ledger::new(policy_wait);
        let page = ledger.page();
        Self { world, writer, ledger, page }
    }

    fn dest(&self, name: &str) -> Arc<Workload> {
        self.world.local_now(&sample::pod(name)).unwrap()
    }

    fn change(&mut self, delta: &Delta) -> usize {
        self.change_at(delta, now()).cut
    }

    fn change_at(&mut self, delta: &Delta, at: Instant) -> Rejudged {
        let world = self.writer.apply(delta);
        self.ledger.rejudge(&world, delta, at)
    }

    /// The workload, with this policy chosen for it.
    fn choosing(&self, name: &str, policy: &str) -> Delta {
        let mut changed = (*self.dest(name)).clone();
        changed.policies.push(policy.parse().unwrap());
        [Change::Workload(Arc::new(changed))].into_iter().collect()
    }
}

#[test]
fn a_new_deny_cuts_only_the_connections_it_denies() {
    let mut scene = Scene::new();
    let mut guest = scene.page.enter(admitted(scene.dest("web"), Some("guest")));
    let mut friend = scene.page.enter(admitted(scene.dest("web"), Some("friend")));
    assert_eq!(scene.change(&sample::deny("no-guests", "guest")), 1);
    let key: PolicyKey = "shop/no-guests".parse().unwrap();
    assert_eq!(is_cut(&mut guest), Some(Denial::Policy(key)));
    assert_eq!(is_cut(&mut friend), None);
}

#[test]
fn a_workload_that_gains_a_policy_has_its_connections_judged_again() {
    let mut scene = Scene::new();
    let mut web = scene.page.enter(admitted(scene.dest("web"), None));
    let mut other = scene.page.enter(admitted(scene.dest("other"), None));
    let delta = scene.choosing("web", "shop/unknown");
    assert_eq!(scene.change(&delta), 1);
    assert!(matches!(is_cut(&mut web), Some(Denial::PolicyMissing(_))));
    assert_eq!(is_cut(&mut other), None);
}

#[test]
fn a_connection_whose_policy_is_not_known_yet_goes_on_for_the_wait_and_no_longer() {
    let wait = Duration::from_secs(1);
    let mut scene = Scene::waiting(wait);
    let mut web = scene.page.enter(admitted(scene.dest("web"), Some("guest")));
    let began = now();
    let delta = scene.choosing("web", "shop/late");
    assert_eq!(scene.change_at(&delta, began), Rejudged { cut: 0, again_at: Some(began + wait) });
    // A second one that is missing does not lengthen the wait.
    let (later, delta) = (began + wait / 2, scene.choosing("web", "shop/later"));
    assert_eq!(scene.change_at(&delta, later), Rejudged { cut: 0, again_at: Some(began + wait) });
    let just_before = began + wait - Duration::from_millis(1);
    assert_eq!(scene.ledger.resolve(&scene.world.load(), just_before).cut, 0);
    assert_eq!(is_cut(&mut web), None);
}

#[test]
fn after_the_wait_a_connection_is_cut_for_the_policy_that_is_missing() {
    let wait = Duration::from_secs(1);
    let mut scene = Scene::waiting(wait);
    let mut web = scene.page.enter(admitted(scene.dest("web"), Some("guest")));
    let mut other = scene.page.enter(admitted(scene.dest("other"), Some("guest")));
    let delta = scene.choosing("web", "shop/late");
    let at = scene.change_at(&delta, now()).again_at.unwrap();
    let resolved = scene.ledger.resolve(&scene.world.load(), at);
    assert_eq!(resolved, Rejudged { cut: 1, again_at: None });
    assert_eq!(is_cut(&mut web), Some(Denial::PolicyMissing("shop/late".parse().unwrap())));
    assert_eq!(is_cut(&mut other), None);
}

#[test]
fn a_policy_that_comes_within_the_wait_decides_at_once() {
    for (denied, cut) in [("somebody", 0), ("guest", 1)] {
        let mut scene = Scene::waiting(Duration::from_secs(1));
        let mut web = scene.page.enter(admitted(scene.dest("web"), Some("guest")));
        let began = now();
        let delta = scene.choosing("web", "shop/late");
        let again_at = scene.change_at(&delta, began).again_at.unwrap();
        let late = scene.change_at(&sample::deny("late", denied), began);
        assert_eq!(late, Rejudged { cut, again_at: None }, "{denied}");
        assert_eq!(scene.ledger.resolve(&scene.world.load(), again_at).cut, 0, "{denied}");
        assert_eq!(is_cut(&mut web).is_some(), cut == 1, "{denied}");
    }
}

#[test]
fn a_connection_that_enters_before_a_change_is_either_cut_or_judged_by_the_new_world() {
    // Both orders of the race: the change before the judgement, and after it.
    let mut scene = Scene::new();
    let seat = admitted(scene.dest("web"), Some("guest"));
    let entered = scene.page.enter(seat.clone());
    scene.change(&sample::deny("no-guests", "guest"));
    assert!(!seat.judge(&scene.world.load()).verdict.is_allowed());
    drop(entered);
    let mut scene = Scene::new();
    let mut entered = scene.page.enter(seat.clone());
    assert!(seat.judge(&scene.world.load()).verdict.is_allowed());
    scene.change(&sample::deny("no-guests", "guest"));
    assert!(is_cut(&mut entered).is_some());
}

#[test]
fn a_workload_that_leaves_the_world_takes_no_connection_along() {
    let mut scene = Scene::new();
    let mut seat = scene.page.enter(admitted(scene.dest("web"), None));
    let uid = scene.dest("web").uid.clone();
    assert_eq!(scene.change(&[Change::WorkloadGone(uid)].into_iter().collect()), 0);
    assert_eq!(is_cut(&mut seat), None);
}

#[test]
fn a_seat_given_up_is_gone_from_the_table() {
    let scene = Scene::new();
    let seat = scene.page.enter(admitted(scene.dest("web"), None));
    assert_eq!(scene.page.dump().0.len(), 1);
    drop(seat);
    assert_eq!(scene.page.dump().0.len(), 0);
}

#[test]
fn a_stop_cuts_all_connections_and_those_that_come_too_late() {
    let scene = Scene::new();
    let mut before = scene.page.enter(admitted(scene.dest("web"), None));
    scene.page.end();
    let mut after = scene.page.enter(admitted(scene.dest("web"), None));
    assert_eq!((before.cut().why(), after.cut().why()), (Some(Why::Stopped), Some(Why::Stopped)));
}
