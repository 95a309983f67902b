//! The times of a stream, on a clock of the test's.

use std::sync::Mutex;

use ambit_model::delta::Delta;
use ambit_wire::pb::discovery::{DeltaDiscoveryRequest, Status};

use super::*;
use crate::library::Moment;
use crate::loopback::node;
use crate::publisher::Publisher;
use crate::sample::{delta, pod, policy};

const ADDRESS: ResourceType = ResourceType::Address;
const POLICIES: ResourceType = ResourceType::Authorization;

struct Scene {
    begin: Instant,
    publisher: Publisher,
    times: Times,
    library: Arc<Library>,
    noted: Arc<Mutex<Vec<Note>>>,
}

impl Scene {
    /// A subscriber that was told everything.
    fn new() -> Self {
        let begin = Instant::now();
        let library = Arc::new(Library::default().with(&delta([pod("web", 1)])));
        let mut publisher = Publisher::new(1, Arc::clone(&library));
        for kind in [POLICIES, ADDRESS] {
            let first = DeltaDiscoveryRequest {
                node: Some(node("ztunnel", "n1")),
                type_url: kind.url().into(),
                ..DeltaDiscoveryRequest::default()
            };
            let _ = publisher.on_request(first, begin).unwrap();
        }
        let noted = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&noted);
        let times = Times::new(Notes::to(move |note| into.lock().unwrap().push(note)), begin);
        Self { begin, publisher, times, library, noted }
    }

    fn at(&self, ms: u64) -> Instant {
        self.begin + Duration::from_millis(ms)
    }

    /// A change that was heard of then, and ready to be told a millisecond later.
    fn changes(&mut self, change: &Delta, ms: u64) {
        let moment = Moment { heard: self.at(ms), ready: self.at(ms + 1) };
        self.library = Arc::new(self.library.with(change).timed(moment));
    }

    /// The stream takes up what is newest; what goes out is answered with its nonces.
    fn takes(&mut self, ms: u64) -> Vec<Response> {
        let told = self.publisher.generation();
        let actions = self.publisher.on_library(Arc::clone(&self.library));
        self.times.taken(&self.library, told, (self.at(ms), &actions));
        let response = |action| match action {
            Action::Send(response) => Some(response),
            Action::WakeAt(_) => None,
        };
        actions.into_iter().filter_map(response).collect()
    }

    fn answers(&mut self, to: &Response, error: Option<Status>, ms: u64) {
        let request = DeltaDiscoveryRequest {
            type_url: to.kind().url().into(),
            response_nonce: to.nonce().into(),
            error_detail: error,
            ..DeltaDiscoveryRequest::default()
        };
        let now = self.at(ms);
        self.times.asked(&request.into(), 10, now);
    }

    fn noted(&self) -> Vec<Note> {
        std::mem::take(&mut *self.noted.lock().unwrap())
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_change_is_timed_from_when_it_was_heard_of_until_it_is_out_and_in_force() {
    let mut scene = Scene::new();
    scene.changes(&delta([policy("deny", 1)]), 10);
    let sent = scene.takes(20);
    let [response] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(scene.noted(), [Note::Queued(ms(9))]);
    scene.times.handed(response, 100, scene.at(21));
    scene.times.gone(scene.at(24));
    scene.times.all_gone(scene.at(24));
    let out = Note::Sent { kind: POLICIES, size: 100, pushed: ms(4), sent: ms(3) };
    assert_eq!(scene.noted(), [out, Note::Told(ms(14))]);
    scene.answers(response, None, 30);
    assert_eq!(scene.noted(), [Note::Asked(10), Note::InForce(ms(20))]);
    scene.answers(response, None, 31);
    scene.times.gone(scene.at(31));
    scene.times.all_gone(scene.at(31));
    assert_eq!(scene.noted(), [Note::Asked(10)], "each is noted once");
}

#[test]
fn of_changes_that_are_told_together_the_oldest_counts_and_of_policies_only_those_of_policies() {
    let mut scene = Scene::new();
    scene.changes(&delta([pod("web", 2)]), 10);
    scene.changes(&delta([policy("deny", 1)]), 20);
    scene.changes(&delta([pod("web", 3)]), 30);
    let sent = scene.takes(40);
    assert_eq!(sent.iter().map(Response::kind).collect::<Vec<_>>(), [POLICIES, ADDRESS]);
    scene.times.all_gone(scene.at(41));
    scene.answers(&sent[0], None, 50);
    scene.answers(&sent[1], None, 51);
    let wanted =
        [Note::Queued(ms(9)), Note::Told(ms(31)), Note::Asked(10), Note::InForce(ms(30)), Note::Asked(10)];
    assert_eq!(scene.noted(), wanted);
}

#[test]
fn what_is_refused_or_says_nothing_is_not_in_force_and_not_told() {
    let mut scene = Scene::new();
    scene.changes(&delta([policy("deny", 1)]), 10);
    let sent = scene.takes(20);
    scene.answers(&sent[0], Some(Status { message: "no".into(), ..Status::default() }), 30);
    assert_eq!(scene.noted(), [Note::Queued(ms(9)), Note::Asked(10)]);
    scene.times.all_gone(scene.at(31));
    scene.noted();
    // The view after a change that was taken back says nothing to anybody.
    scene.changes(&delta([policy("deny", 2)]), 40);
    scene.changes(&delta([policy("deny", 1)]), 50);
    assert_eq!(scene.takes(60), []);
    scene.times.all_gone(scene.at(61));
    assert_eq!(scene.noted(), [Note::Queued(ms(9))]);
}
