//! Both ends against each other, with messages lost, delayed and streams cut at any moment: in the end they agree.

use std::collections::BTreeMap;

use ambit_model::delta::{Change, Delta};
use ambit_wire::convert::{ResourceKey, ResourceType, encode};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::sample::{demand, gone, pod_of, policy, route, service};

/// What one subscriber holds: the world a node would have.
#[derive(Debug, Default, PartialEq)]
struct World(BTreeMap<ResourceKey, Change>);

impl World {
    fn apply(&mut self, delta: &Delta) {
        for change in &delta.changes {
            let (key, encoded) = encode(change);
            match encoded {
                Some(_) => drop(self.0.insert(key, change.clone())),
                None => drop(self.0.remove(&key)),
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<Change>),
    /// Many generations at once, more than the server remembers.
    Churn,
    Up,
    Down,
    Apply,
    Cut,
    Open,
    Tick,
    Demand(String),
}

fn change() -> impl Strategy<Value = Change> {
    let name = proptest::sample::select(vec!["a", "b", "cc", "ddd"]);
    (name, 0u32..4, 0..10usize).prop_map(|(name, revision, kind)| match kind {
        0 => gone(&pod_of(name, 0, "", &[])),
        1 => gone(&service(name, 0)),
        2 => gone(&policy(name, 0)),
        3 => pod_of(
            name,
            revision,
            if revision == 3 { "n1" } else { "" },
            &["a", "b"][..revision as usize % 3],
        ),
        4 => service(name, revision),
        6 => gone(&route(name, "x")),
        8 => gone(&demand(name, 0)),
        9 => demand(name, revision),
        7 => route(name, ["a", "b", "cc", "ddd"][revision as usize]),
        _ => policy(name, revision),
    })
}

fn step() -> impl Strategy<Value = Step> {
    let demand = proptest::sample::select(vec![
        "ns/a",
        "ns/b",
        "/10.0.0.1",
        "/10.0.0.3",
        "/10.1.0.2",
        "Kubernetes//Pod/ns/cc",
        "ns/never",
    ]);
    prop_oneof![
        6 => vec(change(), 1..4).prop_map(Step::Publish),
        1 => Just(Step::Churn),
        6 => Just(Step::Up),
        6 => Just(Step::Down),
        6 => Just(Step::Apply),
        2 => Just(Step::Cut),
        3 => Just(Step::Open),
        1 => Just(Step::Tick),
        2 => demand.prop_map(|name| Step::Demand(name.into())),
    ]
}

struct Mesh {
    link: Loopback,
    library: Library,
    world: World,
    now: Instant,
    wanted: Vec<String>,
}

impl Mesh {
    fn new(mode: Mode) -> Self {
        Self {
            link: Loopback::new(node("ztunnel", "n1"), mode),
            library: Library::default(),
            world: World::default(),
            now: Instant::now(),
            wanted: Vec::new(),
        }
    }

    fn of_a_waypoint() -> Self {
        let mut mesh = Self::new(Mode::Wildcard);
        mesh.link = mesh.link.asking(&ResourceType::ALL);
        mesh
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish(changes) => {
                self.library = self.library.with(&Delta { changes });
                self.link.publish(Arc::new(self.library.clone()));
            }
            Step::Churn => {
                for revision in 0..300 {
                    self.library = self.library.with(&Delta { changes: vec![policy("churn", revision % 2)] });
                }
                self.link.publish(Arc::new(self.library.clone()));
            }
            Step::Up => drop(self.link.deliver_up(self.now)),
            Step::Down => drop(self.link.deliver_down()),
            Step::Apply => {
                if let Some(batch) = self.link.batches.front() {
                    self.world.apply(&batch.delta);
                    self.link.applied();
                }
            }
            Step::Cut => self.link.cut(self.now),
            Step::Open => {
                self.now += Duration::from_secs(30);
                self.link.open(Arc::new(self.library.clone()), self.now);
            }
            Step::Tick => {
                self.now += Duration::from_millis(60);
                self.link.tick(self.now);
            }
            Step::Demand(name) => {
                for action in self.link.subscriber.on_demand(&name) {
                    let subscriber::Action::Send(request) = action else { panic!("only requests") };
                    self.link.up.push_back(*request);
                }
                self.wanted.push(name);
            }
        }
    }

    /// No more faults: everything arrives.
    fn end(&mut self) {
        self.take(Step::Open);
        self.link.publish(Arc::new(self.library.clone()));
        let world = &mut self.world;
        self.link.settle(self.now, |batch| world.apply(&batch.delta));
        assert_eq!(self.link.refused, None);
    }

    fn truth(&self, kind: ResourceType) -> World {
        let keys = self.library.records(kind).map(|record| (record.key.clone(), record.body.clone()));
        let read = |(key, value): (ResourceKey, bytes::Bytes)| {
            let payload = ambit_wire::pb::discovery::Payload { type_url: kind.url().into(), value };
            let decoded = ambit_wire::convert::decode(kind, &key.to_string(), Some(payload)).unwrap();
            (key, decoded.change)
        };
        World(keys.map(read).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_lost_in_between_a_subscriber_to_everything_ends_with_everything(steps in vec(step(), 0..80)) {
        let mut mesh = Mesh::new(Mode::Wildcard);
        steps.into_iter().for_each(|step| mesh.take(step));
        mesh.end();
        let mut truth = mesh.truth(ResourceType::Address);
        truth.0.extend(mesh.truth(ResourceType::Authorization).0); // and no routes
        prop_assert_eq!(&mesh.world, &truth);
        prop_assert!(mesh.link.subscriber.is_in_step());
        prop_assert_eq!(mesh.link.subscriber.retained(), truth.0.len());
    }

    #[test]
    fn whatever_is_lost_in_between_a_subscriber_on_demand_ends_with_what_it_demanded(steps in vec(step(), 0..80)) {
        let mut mesh = Mesh::new(Mode::OnDemand);
        steps.into_iter().for_each(|step| mesh.take(step));
        mesh.end();
        let truth = mesh.truth(ResourceType::Address);
        for name in &mesh.wanted {
            for record in mesh.library.find(name) {
                prop_assert_eq!(mesh.world.0.get(&record.key), truth.0.get(&record.key), "{}", name);
            }
        }
        for (key, change) in &mesh.world.0 {
            if key.kind() == ResourceType::Address {
                prop_assert_eq!(Some(change), truth.0.get(key), "nothing stale is held");
            }
        }
    }

    #[test]
    fn whatever_is_lost_in_between_a_waypoint_ends_with_everything(steps in vec(step(), 0..80)) {
        let mut mesh = Mesh::of_a_waypoint();
        steps.into_iter().for_each(|step| mesh.take(step));
        mesh.end();
        let truth = ResourceType::ALL.into_iter().flat_map(|kind| mesh.truth(kind).0);
        prop_assert_eq!(&mesh.world, &World(truth.collect()));
        prop_assert!(mesh.link.subscriber.is_in_step());
    }

    #[test]
    fn on_an_open_stream_no_route_is_held_that_points_to_nothing(revisions in vec(0..3usize, 1..20)) {
        // Each generation moves the route to another service and takes the former one away.
        let mut mesh = Mesh::of_a_waypoint();
        mesh.take(Step::Open);
        let mut former = None;
        for host in revisions.into_iter().map(|at| ["a", "b", "cc"][at]) {
            let gone = former.replace(host).filter(|former| *former != host).map(|host| gone(&service(host, 0)));
            mesh.take(Step::Publish([service(host, 0), route("r", host)].into_iter().chain(gone).collect()));
            let world = &mut mesh.world;
            let mut sound = true;
            mesh.link.settle(mesh.now, |batch| {
                world.apply(&batch.delta);
                sound &= points_somewhere(world);
            });
            prop_assert!(sound, "{:?}", mesh.world);
        }
        prop_assert_eq!(mesh.world.0.len(), 2);
    }

    #[test]
    fn a_workload_is_never_held_without_the_policies_published_with_it(steps in vec(step(), 0..60)) {
        // Every generation publishes a pod and a policy of the same revision: the pod must never be ahead.
        let mut mesh = Mesh::new(Mode::Wildcard);
        let mut revision = 0;
        for step in steps {
            match step {
                Step::Publish(_) | Step::Churn => {
                    revision += 1;
                    mesh.take(Step::Publish(vec![pod_of("a", revision, "", &[]), policy("p", revision)]));
                }
                // The wait for a request that asks for policies is bounded; here that request always comes in time.
                Step::Tick => {}
                step => mesh.take(step),
            }
            prop_assert!(pod_revision(&mesh.world) <= policy_revision(&mesh.world));
        }
    }

    #[test]
    fn a_service_is_never_held_without_what_is_demanded_of_its_requests(steps in vec(step(), 0..60)) {
        let mut mesh = Mesh::of_a_waypoint();
        let mut revision = 0;
        for step in steps {
            match step {
                Step::Publish(_) | Step::Churn => {
                    revision += 1;
                    mesh.take(Step::Publish(vec![service("a", revision), demand("d", revision)]));
                }
                step => mesh.take(step),
            }
            let served = mesh.world.0.values().filter_map(|change| match change {
                Change::Service(it) => it.name.as_str().parse().ok(),
                _ => None,
            });
            let demanded = mesh.world.0.values().filter_map(|change| match change {
                Change::RequestPolicy(it) => Some(it.rules.len()),
                _ => None,
            });
            prop_assert!(served.max().unwrap_or(0usize) <= demanded.max().unwrap_or(0));
        }
    }
}

fn points_somewhere(world: &World) -> bool {
    let targets = world.0.values().filter_map(|change| match change {
        Change::Route(route) => Some(ResourceKey::Service(route.parents[0].service.clone())),
        _ => None,
    });
    targets.into_iter().all(|service| world.0.contains_key(&service))
}

fn pod_revision(world: &World) -> usize {
    world
        .0
        .values()
        .map(|change| match change {
            Change::Workload(pod) => pod.canonical_revision.as_str().parse().unwrap(),
            _ => 0,
        })
        .max()
        .unwrap_or(0)
}

fn policy_revision(world: &World) -> usize {
    world
        .0
        .values()
        .map(|change| match change {
            Change::Policy(policy) => policy.rules.len(),
            _ => 0,
        })
        .max()
        .unwrap_or(0)
}
