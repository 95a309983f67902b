//! Members, their parts, and what becomes of those of one who ends.

use std::collections::BTreeSet;

use ambit_process::tasks::Tasks;

use super::*;
use crate::api::tests::{client, fake::FakeApi};
use crate::object::Kind;

const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
const PATIENCE: Duration = Duration::from_secs(60);

fn objects() -> Vec<ObjectRef> {
    (0..3000).map(|it| ObjectRef::new(Kind::Service, "shop", &format!("s{it}"))).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Who has it, by each one's own reckoning.
fn holders(object: &ObjectRef, members: &[&str]) -> Vec<String> {
    let holds = |me: &&&str| Share::new(me, names(members)).holds(object);
    members.iter().filter(holds).map(ToString::to_string).collect()
}

#[test]
fn each_object_is_of_one_member_and_only_those_of_one_who_leaves_change_hands() {
    let mut counts = BTreeMap::new();
    for object in objects() {
        let before = holders(&object, &["a", "b", "c"]);
        let [one] = before.as_slice() else { panic!("{object}: {before:?}") };
        *counts.entry(one.clone()).or_insert(0) += 1;
        let after = holders(&object, &["a", "c"]);
        assert_eq!(after.len(), 1);
        assert!(one == "b" || after == before, "{object} moved from {before:?} to {after:?}");
    }
    assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
    assert!(!Share::new("d", names(&["a", "b"])).holds(&objects()[0]), "who is no member has no part");
    assert!(!Share::default().holds(&objects()[0]));
}

fn lease(name: &str, holder: &str, group: Option<&str>, renewed: u64) -> Lease {
    let mut metadata = json!({"name": name});
    if let Some(group) = group {
        metadata["labels"] = json!({GROUP: group});
    }
    let (holder_identity, renew_time) = (Some(holder.into()), Some(renewed.to_string()));
    Lease { metadata, spec: Term { holder_identity, renew_time, ..Term::default() } }
}

#[test]
fn members_are_those_of_the_leaders_group_that_are_seen_to_renew_their_leases() {
    let (mut roll, begin) = (Roll::default(), clock::now());
    let at = |seconds| begin + Duration::from_secs(seconds);
    let all = |leader: &str, b: u64, a: u64| {
        let members = [("a", "x", a), ("b", "x", b), ("c", "y", a)];
        let members = members.map(|(it, group, renewed)| lease(&format!("m-{it}"), it, Some(group), renewed));
        let others = [lease("lead", leader, None, 0), lease("z", "z", None, 0)];
        others.into_iter().chain(members).collect()
    };
    let share = |roll: &Roll, me: &str, now| roll.share(me, now + TRUST, now);
    roll.look(all("a", 0, 0), "lead", at(0));
    assert_eq!(share(&roll, "a", at(0)), Share::new("a", names(&["a", "b"])));
    assert_eq!(share(&roll, "c", at(0)).members(), 0, "of another group");
    assert_eq!(roll.share("a", at(0), at(0)).members(), 0, "its own lease is not trusted any more");
    // `b` is not renewed: by our clock, whatever its own says.
    for second in [3, 6, 9, 12] {
        roll.look(all("a", 0, second), "lead", at(second));
        assert_eq!(share(&roll, "a", at(second)).members(), 2, "{second}");
    }
    roll.look(all("a", 0, 15), "lead", at(15));
    assert_eq!(share(&roll, "a", at(15)), Share::new("a", names(&["a"])));
    // Nobody leads for a while; then another group does.
    roll.look(all("", 1, 16), "lead", at(16));
    assert_eq!(share(&roll, "a", at(16)).members(), 2);
    roll.look(all("c", 1, 17), "lead", at(17));
    assert_eq!(share(&roll, "a", at(17)).members(), 0);
    assert_eq!(share(&roll, "c", at(17)).members(), 1);
    // One that keeps no lease of its own, as former versions did not, writes alone.
    roll.look(all("former", 1, 18), "lead", at(18));
    assert_eq!(share(&roll, "a", at(18)).members(), 0);
}

#[tokio::test]
async fn who_stops_gives_its_part_to_the_others_at_once() {
    let fake = FakeApi::start().await;
    fake.put(
        LEASES,
        json!({"metadata": {"name": "lead", "namespace": "mesh"}, "spec": {"holderIdentity": "a"}}),
    );
    let mut tasks = Tasks::new(&Stop::new());
    let mut both = Vec::new();
    for identity in ["a", "b"] {
        let (told, share) = watch::channel(Share::default());
        let (client, stop) = (client(&fake).await, Stop::new());
        let member = Member {
            namespace: "mesh".into(),
            leader: "lead".into(),
            prefix: "m-".into(),
            identity: identity.into(),
            group: "default".into(),
            owner: Some(Owner::pod(identity, "uid")),
        };
        let heed = stop.clone();
        tasks.spawn("member", |_| member.attend(client, told, heed));
        both.push((share, stop));
    }
    for (share, _) in &mut both {
        let two = share.wait_for(|share| share.members() == 2);
        tokio::time::timeout(PATIENCE, two).await.unwrap().unwrap();
    }
    let lease = fake.object(LEASES, "mesh", "m-b").unwrap();
    assert_eq!(lease["metadata"]["ownerReferences"][0]["kind"], "Pod", "it goes with its pod: {lease}");
    both[1].1.stop();
    let alone = both[0].0.wait_for(|share| share.members() == 1);
    tokio::time::timeout(PATIENCE, alone).await.unwrap().unwrap();
    assert_eq!(both[1].0.borrow().members(), 0);
    assert_eq!(fake.object(LEASES, "mesh", "m-b"), None);
    let mine: BTreeSet<_> = objects().into_iter().filter(|it| both[0].0.borrow().holds(it)).collect();
    assert_eq!(mine.len(), objects().len());
}
