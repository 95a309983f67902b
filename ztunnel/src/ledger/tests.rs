//! Who is cut by a change, and who is not.

use ambit_model::name::PolicyKey;

use super::*;
use crate::sample;
use crate::world;

fn admitted(dest: Arc<Workload>, peer: Option<&str>) -> Admitted {
    Admitted {
        peer: peer.map(sample::identity),
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
        let (world, mut writer) = world::empty("n1".into());
        writer.apply(&sample::world(&["10.0.0.1 client n1", "10.0.0.2 web n1", "10.0.0.3 other n1"]));
        let ledger = Ledger::default();
        let page = ledger.page();
        Self { world, writer, ledger, page }
    }

    fn dest(&self, name: &str) -> Arc<Workload> {
        self.world.local_now(&sample::pod(name)).unwrap()
    }

    fn change(&mut self, delta: &Delta) -> usize {
        let world = self.writer.apply(delta);
        self.ledger.rejudge(&world, delta)
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
    let mut changed = (*scene.dest("web")).clone();
    changed.policies.push("shop/unknown".parse().unwrap());
    let delta = [Change::Workload(Arc::new(changed))].into_iter().collect();
    assert_eq!(scene.change(&delta), 1);
    assert!(matches!(is_cut(&mut web), Some(Denial::PolicyMissing(_))));
    assert_eq!(is_cut(&mut other), None);
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
