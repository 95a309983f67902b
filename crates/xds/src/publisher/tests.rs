//! The server's end alone: first answers, pushes, order, answers, names, limits.

use ambit_model::delta::{Change, Delta};
use ambit_model::provider::{Authorizer, Provider, ProviderKind, Speaks, Which};
use ambit_model::request_policy::RequestPolicy;
use ambit_wire::pb::discovery::DeltaDiscoveryResponse;

use super::*;
use crate::loopback::node;
use crate::sample::{delta, gone, pod, pod_of, policy, route, service};

const ADDRESS: ResourceType = ResourceType::Address;
const POLICIES: ResourceType = ResourceType::Authorization;
const ROUTES: ResourceType = ResourceType::Route;

fn library(delta: &Delta) -> Arc<Library> {
    Arc::new(Library::default().with(delta))
}

fn request(kind: ResourceType) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node("ztunnel", "n1")),
        type_url: kind.url().into(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn sent(actions: Vec<Action>) -> Vec<DeltaDiscoveryResponse> {
    let response = |action| match action {
        Action::Send(response) => Some(response.message().unwrap()),
        Action::WakeAt(_) => None,
    };
    actions.into_iter().filter_map(response).collect()
}

/// Responses as `type +name… -name…`.
fn said(actions: Vec<Action>) -> Vec<String> {
    let short = |name: &str| name.rsplit('/').next().unwrap().to_owned();
    let line = |response: DeltaDiscoveryResponse| {
        let kind = match ResourceType::from_url(&response.type_url).unwrap() {
            ResourceType::Address => "address",
            ResourceType::Authorization => "policy",
            ResourceType::Route => "route",
            ResourceType::Policy => "demand",
            ResourceType::RateLimit => "limit",
            ResourceType::ExtProc => "processor",
            ResourceType::Authentication => "issuer",
            ResourceType::Provider => "provider",
            ResourceType::Traffic => "traffic",
            ResourceType::Credential => "credential",
            ResourceType::Telemetry => "telemetry",
        };
        let added = response.resources.iter().map(|resource| format!(" +{}", short(&resource.name)));
        let removed = response.removed_resources.iter().map(|name| format!(" -{}", short(name)));
        added.chain(removed).fold(kind.to_owned(), |line, part| line + &part)
    };
    sent(actions).into_iter().map(line).collect()
}

/// A publisher whose subscriber wants everything and was told everything.
fn in_step(delta: &Delta) -> (Publisher, Arc<Library>) {
    let library = library(delta);
    let mut publisher = Publisher::new(1, Arc::clone(&library));
    for kind in [ADDRESS, POLICIES] {
        let _ = publisher.on_request(request(kind), Instant::now()).unwrap();
    }
    (publisher, library)
}

#[test]
fn both_types_are_answered_even_when_there_is_nothing() {
    let now = Instant::now();
    let mut publisher = Publisher::new(1, library(&delta([])));
    let _ = publisher.on_request(request(ADDRESS), now).unwrap();
    assert_eq!(said(publisher.on_request(request(POLICIES), now).unwrap()), ["policy", "address"]);
}

#[test]
fn policies_come_first_whatever_is_asked_first() {
    let now = Instant::now();
    let mut publisher = Publisher::new(1, library(&delta([pod("a", 1), policy("p", 1), service("s", 1)])));
    assert_eq!(said(publisher.on_request(request(ADDRESS), now).unwrap()), [""; 0]);
    let answers = publisher.on_request(request(POLICIES), now).unwrap();
    assert_eq!(said(answers), ["policy +p", "address +a +s"]);
}

#[test]
fn a_subscriber_that_asks_for_addresses_only_gets_them_after_a_moment() {
    let now = Instant::now();
    let mut publisher = Publisher::new(1, library(&delta([pod("a", 1)])));
    let actions = publisher.on_request(request(ADDRESS), now).unwrap();
    assert_eq!(actions, [Action::WakeAt(now + POLICIES_FIRST)]);
    assert_eq!(publisher.on_time(now), [Action::WakeAt(now + POLICIES_FIRST)]);
    assert_eq!(said(publisher.on_time(now + POLICIES_FIRST)), ["address +a"]);
}

#[test]
fn a_push_adds_policies_before_and_removes_them_after_the_addresses() {
    let (mut publisher, library) = in_step(&delta([pod("a", 1), policy("old", 1)]));
    let next = library.with(&delta([pod("a", 2), gone(&policy("old", 1)), policy("new", 1)]));
    assert_eq!(said(publisher.on_library(Arc::new(next))), ["policy +new", "address +a", "policy -old"]);
}

#[test]
fn routes_come_after_what_they_point_to_and_what_is_gone_of_it_after_them() {
    let (mut publisher, library) = in_step(&delta([service("old", 1), pod("a", 1), route("r", "old")]));
    let first = publisher.on_request(request(ROUTES), Instant::now()).unwrap();
    assert_eq!(said(first), ["route +r"]);
    let next = delta([service("new", 1), route("r", "new"), gone(&service("old", 1)), policy("p", 1)]);
    let next = library.with(&next).with(&delta([gone(&route("other", "x")), pod("a", 2)]));
    let wanted = ["policy +p", "address +a +new", "route +r", "address -old"];
    assert_eq!(said(publisher.on_library(Arc::new(next.clone()))), wanted);
    let last = next.with(&delta([gone(&service("new", 1)), gone(&route("r", "new"))]));
    assert_eq!(said(publisher.on_library(Arc::new(last))), ["route -r", "address -new"]);
}

#[test]
fn who_is_asked_is_known_before_the_policies_that_name_them_and_as_long() {
    let provider = |name: &str| {
        let at = "authz.shop.svc:9000".parse().unwrap();
        let (speaks, shown, body) = (Speaks::Grpc, Which::All, None);
        let patience = Duration::from_secs(1);
        let whom = Authorizer {
            at,
            speaks,
            shown,
            patience,
            fail_open: false,
            error_status: 403,
            reroute: false,
            body,
        };
        Change::Provider(Arc::new(Provider {
            name: name.into(),
            kind: ProviderKind::Authorizer(Arc::new(whom)),
        }))
    };
    let demand = |name: &str| {
        let key = format!("shop/{name}").parse().unwrap();
        Change::RequestPolicy(Arc::new(RequestPolicy::closed(key)))
    };
    let (mut publisher, library) = in_step(&delta([provider("old"), demand("old")]));
    for (kind, wanted) in [(ResourceType::Policy, "demand +old"), (ResourceType::Provider, "provider +old")] {
        assert_eq!(said(publisher.on_request(request(kind), Instant::now()).unwrap()), [wanted]);
    }
    let next = [gone(&provider("old")), provider("new"), gone(&demand("old")), demand("new")];
    let wanted = ["provider +new", "demand +new", "demand -old", "provider -old"];
    assert_eq!(said(publisher.on_library(Arc::new(library.with(&delta(next))))), wanted);
}

#[test]
fn routes_wait_with_the_addresses_for_policies() {
    let now = Instant::now();
    let mut publisher = Publisher::new(1, library(&delta([service("s", 1), route("r", "s")])));
    assert_eq!(said(publisher.on_request(request(ADDRESS), now).unwrap()), [""; 0]);
    assert_eq!(said(publisher.on_request(request(ROUTES), now).unwrap()), [""; 0]);
    let answers = publisher.on_request(request(POLICIES), now).unwrap();
    assert_eq!(said(answers), ["policy", "address +s", "route +r"]);
}

#[test]
fn who_asks_for_no_routes_is_told_of_none_and_hears_in_one_answer_what_is_new_and_gone() {
    let (mut publisher, library) = in_step(&delta([service("old", 1), route("r", "old")]));
    let next = library.with(&delta([service("new", 1), route("r", "new"), gone(&service("old", 1))]));
    assert_eq!(said(publisher.on_library(Arc::new(next.clone()))), ["address +new -old"]);
    let last = next.with(&delta([route("r", "newer")]));
    assert_eq!(said(publisher.on_library(Arc::new(last))), [""; 0]);
}

#[test]
fn a_push_holds_only_what_differs_and_the_newest_of_it() {
    let (mut publisher, library) = in_step(&delta([pod("a", 1), pod("b", 1), pod("c", 1)]));
    let next = library.with(&delta([pod("b", 2)])).with(&delta([pod("b", 3), gone(&pod("c", 1))]));
    let next = next.with(&delta([pod("d", 1)])).with(&delta([gone(&pod("d", 1))]));
    let actions = publisher.on_library(Arc::new(next.clone()));
    let responses = sent(actions);
    assert_eq!(responses.len(), 1);
    assert_eq!(responses[0].resources.len(), 1);
    assert_eq!(
        *responses[0].resources[0].version,
        *next.record(ADDRESS, "Kubernetes//Pod/ns/b").unwrap().version
    );
    assert_eq!(responses[0].removed_resources, ["Kubernetes//Pod/ns/c"]);
    assert_eq!(said(publisher.on_library(Arc::new(next))), [""; 0], "nothing twice");
}

#[test]
fn a_change_that_was_taken_back_is_not_pushed() {
    let (mut publisher, library) = in_step(&delta([pod("a", 1)]));
    let back = library.with(&delta([pod("a", 2)])).with(&delta([pod("a", 1)]));
    assert_eq!(said(publisher.on_library(Arc::new(back))), [""; 0]);
}

#[test]
fn a_returning_subscriber_gets_only_what_changed() {
    let now = Instant::now();
    let library = library(&delta([pod("a", 1), pod("b", 1), policy("p", 1), policy("q", 1)]));
    let version = |kind, name: &str| library.record(kind, name).unwrap().version.to_string();
    let mut publisher = Publisher::new(1, Arc::clone(&library));
    let mut addresses = request(ADDRESS);
    let uid = |name: &str| format!("Kubernetes//Pod/ns/{name}");
    addresses.initial_resource_versions =
        [(uid("a"), version(ADDRESS, &uid("a"))), (uid("b"), "older".into()), (uid("gone"), "v".into())]
            .into();
    let mut policies = request(POLICIES);
    policies.initial_resource_versions =
        [("ns/p".into(), version(POLICIES, "ns/p")), ("ns/q".into(), String::new())].into();
    let _ = publisher.on_request(addresses, now).unwrap();
    let answers = publisher.on_request(policies, now).unwrap();
    assert_eq!(said(answers), ["policy +q", "address +b -gone"], "without a version it is sent again");
}

#[test]
fn a_refusal_is_recorded_and_not_answered() {
    let (mut publisher, library) = in_step(&delta([pod("a", 1)]));
    let response = sent(publisher.on_library(Arc::new(library.with(&delta([pod("a", 2)]))))).remove(0);
    let mut nack = request(ADDRESS);
    nack.response_nonce = response.nonce.clone();
    nack.error_detail =
        Some(ambit_wire::pb::discovery::Status { message: "a: bad".into(), ..Default::default() });
    assert_eq!(publisher.on_request(nack.clone(), Instant::now()).unwrap(), []);
    let answers = publisher.answers(ADDRESS).unwrap();
    assert_eq!(answers.refused, Some(Nack { generation: 2, text: "a: bad".into() }));
    assert_eq!((answers.nacks, answers.unanswered()), (1, 0), "earlier responses count as answered");
    assert_eq!(publisher.on_request(nack, Instant::now()).unwrap(), []);
    assert_eq!(publisher.answers(ADDRESS).unwrap().stale, 1, "the same nonce again is stale");
}

#[test]
fn on_demand_answers_with_what_was_asked_and_its_aliases() {
    let now = Instant::now();
    let world = delta([
        service("host", 1),
        pod_of("a", 1, "n2", &["host"]),
        pod_of("bb", 1, "n1", &[]),
        policy("p", 1),
    ]);
    let mut publisher = Publisher::new(1, library(&world));
    let mut first = request(ADDRESS);
    first.resource_names_subscribe = texts(&["*"]);
    first.resource_names_unsubscribe = texts(&["*"]);
    let _ = publisher.on_request(request(POLICIES), now).unwrap();
    assert_eq!(said(publisher.on_request(first, now).unwrap()), ["address +bb"], "its own node's, unasked");
    let ask = |names: &[&str]| DeltaDiscoveryRequest {
        type_url: ADDRESS.url().into(),
        resource_names_subscribe: texts(names),
        ..DeltaDiscoveryRequest::default()
    };
    let answers = sent(publisher.on_request(ask(&["/10.1.0.4", "/10.7.7.7"]), now).unwrap());
    assert_eq!(answers[0].removed_resources, ["/10.7.7.7"]);
    let got: Vec<_> =
        answers[0].resources.iter().map(|each| (each.name.as_str(), each.aliases.clone())).collect();
    let wanted =
        [("Kubernetes//Pod/ns/a", vec!["/10.0.0.1".to_owned()]), ("ns/host", vec!["/10.1.0.4".to_owned()])];
    assert_eq!(got, wanted);
}

#[test]
fn on_demand_follows_what_was_asked_for() {
    let now = Instant::now();
    let mut world = Library::default().with(&delta([service("host", 1), pod("other", 1)]));
    let mut publisher = Publisher::new(1, Arc::new(world.clone()));
    let mut first = request(ADDRESS);
    first.resource_names_subscribe = texts(&["ns/host", "/10.0.0.7"]);
    let _ = publisher.on_request(request(POLICIES), now).unwrap();
    assert_eq!(said(publisher.on_request(first, now).unwrap()), ["address +host -10.0.0.7"]);
    for (change, wanted) in [
        (pod_of("a", 1, "", &["host"]), vec!["address +a"]), // joins a service that was asked for
        (pod("seventh", 1), vec!["address +seventh"]),       // gets an address that was asked for in vain
        (pod("other", 2), vec![]),                           // nobody asked
        (gone(&pod("seventh", 1)), vec!["address -seventh"]),
        (pod_of("b", 1, "n1", &[]), vec!["address +b"]), // arrives at the subscriber's node
        (service("host", 2), vec!["address +host"]),
    ] {
        world = world.with(&delta([change]));
        assert_eq!(said(publisher.on_library(Arc::new(world.clone()))), wanted);
    }
    let drop = DeltaDiscoveryRequest {
        type_url: ADDRESS.url().into(),
        resource_names_unsubscribe: texts(&["ns/host"]),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(said(publisher.on_request(drop, now).unwrap()), ["address"], "answered, with nothing");
    world = world.with(&delta([gone(&service("host", 1))]));
    assert_eq!(said(publisher.on_library(Arc::new(world))), [""; 0]);
}

#[test]
fn a_subscriber_to_everything_that_asks_by_name_is_answered() {
    let (mut publisher, _) = in_step(&delta([pod("a", 1), pod("b", 1)]));
    let ask = DeltaDiscoveryRequest {
        type_url: ADDRESS.url().into(),
        resource_names_subscribe: texts(&["Kubernetes//Pod/ns/a", "ns/none"]),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(said(publisher.on_request(ask, Instant::now()).unwrap()), ["address +a -none"]);
}

#[test]
fn large_pushes_are_split_and_the_first_answer_is_not() {
    let big = "x".repeat(1 << 20);
    let many: Delta = (0..8)
        .map(|at| {
            let raw = ambit_wire::pb::workload::Workload {
                uid: format!("u{at}"),
                namespace: "ns".into(),
                name: big.clone(),
                ..Default::default()
            };
            Change::Workload(Arc::new(ambit_wire::convert::workload_from_pb(raw).unwrap()))
        })
        .collect();
    let mut publisher = Publisher::new(1, library(&many));
    let _ = publisher.on_request(request(POLICIES), Instant::now()).unwrap();
    let first = sent(publisher.on_request(request(ADDRESS), Instant::now()).unwrap());
    assert_eq!(first.len(), 1, "one message: having it means being in step");
    let (mut publisher, empty) = in_step(&delta([]));
    let push = sent(publisher.on_library(Arc::new(empty.with(&many))));
    assert_eq!(push.len(), 4);
    for response in &push {
        assert!(prost::Message::encoded_len(response) <= limits::DISCOVERY_RESPONSE_SPLIT);
    }
    let nonces: std::collections::BTreeSet<&str> = push.iter().map(|each| each.nonce.as_str()).collect();
    assert_eq!(nonces.len(), 4);
}

#[test]
fn subscribers_that_do_not_say_who_they_are_are_refused() {
    let bad = |id: &str| DeltaDiscoveryRequest {
        node: Some(Node { id: id.into(), ..Node::default() }),
        ..request(ADDRESS)
    };
    let mut publisher = Publisher::new(1, library(&delta([])));
    let nobody = DeltaDiscoveryRequest { node: None, ..request(ADDRESS) };
    for (request, refusal) in [
        (nobody, Refusal::NoNode),
        (bad(""), Refusal::NoNode),
        (bad("ztunnel"), Refusal::NodeId { id: "ztunnel".into() }),
        (bad("~1~2~3"), Refusal::NodeId { id: "~1~2~3".into() }),
    ] {
        assert_eq!(publisher.on_request(request, Instant::now()), Err(refusal));
    }
}

#[test]
fn nobody_holds_more_names_than_the_limit() {
    let mut publisher = Publisher::new(1, library(&delta([])));
    let mut greedy = request(ADDRESS);
    greedy.resource_names_subscribe = vec!["ns/h".into(); limits::NAMES_PER_REQUEST + 1];
    assert!(matches!(publisher.on_request(greedy, Instant::now()), Err(Refusal::TooManyNames { .. })));
}

#[test]
fn what_many_are_told_is_encoded_once() {
    let contents = |actions: Vec<Action>| -> Vec<_> {
        let content = |action| match action {
            Action::Send(response) => Some(Arc::clone(response.content())),
            Action::WakeAt(_) => None,
        };
        actions.into_iter().filter_map(content).collect()
    };
    let first = library(&delta([pod("a", 1), policy("p", 1)]));
    let next = Arc::new(first.with(&delta([pod("a", 2), gone(&policy("p", 1))])));
    let told = |stream| {
        let mut publisher = Publisher::new(stream, Arc::clone(&first));
        let _ = publisher.on_request(request(ADDRESS), Instant::now()).unwrap();
        let answers = publisher.on_request(request(POLICIES), Instant::now()).unwrap();
        let mut contents_of_both = contents(answers);
        contents_of_both.extend(contents(publisher.on_library(Arc::clone(&next))));
        contents_of_both
    };
    let (one, other) = (told(1), told(2));
    assert_eq!((one.len(), other.len()), (4, 4));
    for (one, other) in one.iter().zip(&other) {
        assert!(Arc::ptr_eq(one, other));
    }
}

#[test]
fn those_who_come_back_with_what_all_had_are_told_the_same_as_if_they_were_compared() {
    let mut libraries = vec![library(&delta([pod("a", 1), pod("b", 1), policy("p", 1), policy("q", 1)]))];
    for change in [delta([pod("a", 2)]), delta([gone(&pod("b", 1)), pod("c", 1)]), delta([policy("p", 2)])] {
        libraries.push(Arc::new(libraries.last().unwrap().with(&change)));
    }
    let newest = libraries.last().unwrap();
    let back = |had: &Library, also: Option<&str>| {
        let mut publisher = Publisher::new(1, Arc::clone(newest));
        let mut answers = Vec::new();
        for kind in [ADDRESS, POLICIES] {
            let mut asked = request(kind);
            let held = had.records(kind).map(|it| (it.name.to_string(), it.version.to_string()));
            asked.initial_resource_versions = held.chain(also.map(|it| (it.into(), "1".into()))).collect();
            answers.extend(said(publisher.on_request(asked, Instant::now()).unwrap()));
        }
        answers
    };
    for (had, told) in libraries.iter().zip([
        ["policy +p", "address +a +c -b"],
        ["policy +p", "address +c -b"],
        ["policy +p", "address"],
        ["policy", "address"],
    ]) {
        assert!(newest.with_print(ADDRESS, print_of(had)).is_some());
        assert_eq!(back(had, None), told);
        // With a name that nobody had, no print is known, and everything is compared.
        let but = |told: &[String]| -> Vec<String> {
            let told = told.iter().map(|it| it.replace(" -zz", "")).filter(|it| it != "policy");
            told.collect()
        };
        assert_eq!(but(&back(had, Some("zz"))), but(&back(had, None)));
    }
}

fn print_of(library: &Library) -> crate::library::Print {
    let mut print = crate::library::Print::default();
    library.records(ADDRESS).for_each(|it| print.add(&it.name, &it.version));
    print
}

#[test]
fn a_credential_is_told_to_its_owner_alone_and_taken_back_when_it_is_no_more() {
    use ambit_model::credential::{Credential, Secret, Shown};
    let who = |account: &str| format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap();
    let credential = |key: &str, owners: &[&str]| {
        Change::Credential(Arc::new(Credential {
            name: "shop/c".into(),
            owners: owners.iter().map(|it| who(it)).collect(),
            shown: Some(Shown { chain: "chain".into(), key: Secret::new(key) }),
            roots: None,
        }))
    };
    let told = |caller: Option<&str>, held: bool| {
        let mut publisher =
            Publisher::new(1, library(&delta([credential("one", &["way"])]))).proven(caller.map(who));
        let mut asked = request(ResourceType::Credential);
        // Whoever says that it has one that is not its own loses it.
        if held {
            asked.initial_resource_versions.insert("shop/c".into(), "0".into());
        }
        let mut all = said(publisher.on_request(asked, Instant::now()).unwrap());
        for next in [credential("two", &["way"]), credential("two", &["other"])] {
            all.extend(said(publisher.on_library(library(&delta([next])))));
        }
        all
    };
    assert_eq!(told(Some("way"), false), ["credential +c", "credential +c", "credential -c"]);
    assert_eq!(told(Some("other"), false), ["credential", "credential +c"]);
    assert_eq!(told(Some("third"), false), ["credential"]);
    assert_eq!(told(None, false), ["credential"]);
    assert_eq!(told(None, true), ["credential", "credential -c"]);
}
