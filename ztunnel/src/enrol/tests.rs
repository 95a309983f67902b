//! Pods come, go and fail; agents slip, vanish and return.

use super::*;
use crate::sample;

type Machine = Enrol<u32>;

fn uid(text: &str) -> PodUid {
    PodUid::new(text).unwrap()
}

fn add(machine: &mut Machine, name: &str, netns: u32) -> Vec<Action<u32>> {
    machine.on_packet(Ok(Request::Add { uid: uid(name), info: sample::pod(name) }), vec![netns])
}

fn start(name: &str, netns: u32) -> Action<u32> {
    Action::Start { uid: uid(name), info: sample::pod(name), netns }
}

fn stop(name: &str) -> Action<u32> {
    Action::Stop { uid: uid(name) }
}

fn ask(machine: &mut Machine, request: Request) -> Vec<Action<u32>> {
    machine.on_packet(Ok(request), Vec::new())
}

fn vouch(name: &str) -> Action<u32> {
    Action::Vouch { uid: uid(name) }
}

const DONE: Action<u32> = Action::Answer(Response::Done);

fn hung_up(actions: &[Action<u32>]) -> bool {
    matches!(actions, [Action::Answer(Response::Failed(_)), Action::HangUp])
}

/// Connected, with these pods served and the snapshot complete.
fn serving(pods: &[(&str, u32)]) -> Machine {
    let mut machine = Machine::new();
    machine.on_connected();
    for (name, netns) in pods {
        assert_eq!(add(&mut machine, name, *netns), [start(name, *netns)]);
        assert_eq!(machine.on_started(&uid(name), Ok(())), [vouch(name)]);
    }
    assert_eq!(ask(&mut machine, Request::SnapshotSent), [DONE]);
    machine
}

#[test]
fn a_pod_is_acknowledged_only_after_its_listeners_are_bound() {
    let mut machine = Machine::new();
    machine.on_connected();
    assert_eq!(add(&mut machine, "a", 1), [start("a", 1)]);
    assert!(!machine.is_ready());
    assert_eq!(machine.on_started(&uid("a"), Ok(())), [vouch("a")]);
    assert_eq!(ask(&mut machine, Request::SnapshotSent), [DONE]);
    assert!(machine.is_ready());
}

#[test]
fn a_pod_that_cannot_be_bound_is_refused_and_tried_again_without_an_answer() {
    let mut machine = serving(&[]);
    add(&mut machine, "a", 1);
    let refused = machine.on_started(&uid("a"), Err("in use".into()));
    assert_eq!(refused, [Action::Answer(Response::Failed("in use".into()))]);
    assert!(!machine.is_ready(), "a pod that failed after the snapshot counts");
    assert_eq!(machine.on_retry(), [start("a", 1)]);
    assert_eq!(machine.on_started(&uid("a"), Ok(())), []);
    assert!(machine.is_ready());
    assert_eq!(machine.on_retry(), []);
}

#[test]
fn adding_a_pod_again_does_nothing_in_the_same_namespace_and_restarts_it_in_another() {
    let mut machine = serving(&[("a", 1)]);
    assert_eq!(add(&mut machine, "a", 1), [vouch("a")]);
    assert_eq!(add(&mut machine, "a", 2), [stop("a"), start("a", 2)]);
    assert_eq!(machine.on_started(&uid("a"), Ok(())), [vouch("a")]);
}

#[test]
fn losing_the_agent_keeps_every_pod_and_the_next_snapshot_settles_who_stays() {
    let mut machine = serving(&[("added", 1), ("kept", 2), ("gone", 3), ("deleted", 4)]);
    machine.on_disconnected();
    assert_eq!(machine.pods().count(), 4);
    assert!(!machine.is_ready());
    machine.on_connected();
    assert_eq!(add(&mut machine, "added", 1), [vouch("added")]);
    assert_eq!(add(&mut machine, "deleted", 4), [vouch("deleted")]);
    assert_eq!(ask(&mut machine, Request::Keep { uid: uid("kept") }), [DONE]);
    assert_eq!(ask(&mut machine, Request::Del { uid: uid("deleted") }), [DONE]);
    assert_eq!(ask(&mut machine, Request::SnapshotSent), [stop("deleted"), stop("gone"), DONE]);
    assert!(machine.is_ready());
}

#[test]
fn a_deleted_pod_stops_at_once_and_an_unknown_one_is_fine() {
    let mut machine = serving(&[("a", 1)]);
    assert_eq!(ask(&mut machine, Request::Del { uid: uid("a") }), [stop("a"), DONE]);
    assert_eq!(ask(&mut machine, Request::Del { uid: uid("a") }), [DONE]);
}

#[test]
fn a_slip_of_the_agent_is_refused_and_costs_the_connection_only() {
    for (what, request, netns) in [
        ("keep after the snapshot", Request::Keep { uid: uid("a") }, vec![]),
        ("a second end of the snapshot", Request::SnapshotSent, vec![]),
        ("a descriptor with a deletion", Request::Del { uid: uid("a") }, vec![9]),
        ("an add without namespace", Request::Add { uid: uid("b"), info: sample::pod("b") }, vec![]),
        ("an add with two", Request::Add { uid: uid("b"), info: sample::pod("b") }, vec![8, 9]),
    ] {
        let mut machine = serving(&[("a", 1)]);
        let actions = machine.on_packet(Ok(request), netns);
        assert!(hung_up(&actions), "{what}: {actions:?}");
        assert_eq!(machine.pods().count(), 1, "{what}");
    }
    let mut machine = serving(&[("a", 1)]);
    assert!(hung_up(&machine.on_packet(Err(LinkError::NoPayload), vec![])));
}
