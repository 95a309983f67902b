//! What is said of BackendTLSPolicies (`waypoint.md` 2.19), for each of the targets that go through a waypoint of ours. What
//! goes through none is for others to speak of.

use ambit_cluster::ObjectRef;
use ambit_cluster::kinds::backend_tls::{BackendTarget, BackendTlsPolicy};
use ambit_cluster::kinds::route::ParentRef;

use super::route::ACCEPTED;
use super::{Condition, RESOLVED_REFS, bound};
use crate::index::World;
use crate::index::secured::target_kind;
use crate::translate::destination::secured::{Reading, Standing, read, standing};
use crate::translate::waypoint::{Asker, Attachment, attach, class_of};

/// All that is to be said of a policy now, by what TLS is begun to.
#[must_use]
pub fn said(world: &World, policy: &BackendTlsPolicy) -> Vec<(ParentRef, Vec<Condition>)> {
    let reading = read(world, policy);
    let mut all: Vec<(ParentRef, Vec<Condition>)> = Vec::new();
    for target in &policy.spec.target_refs {
        let about = reference(policy, target);
        let is_new = all.iter().all(|(it, _)| *it != about);
        if let Some(conditions) = of_target(world, policy, (&reading, target)).filter(|_| is_new) {
            all.push((about, conditions));
        }
    }
    all
}

fn reference(policy: &BackendTlsPolicy, target: &BackendTarget) -> ParentRef {
    ParentRef {
        group: if target.group == "core" { String::new() } else { target.group.clone() },
        kind: target.kind.clone(),
        namespace: Some(policy.metadata.namespace.clone()),
        name: target.name.clone(),
        section_name: target.section_name.clone(),
        port: None,
    }
}

fn of_target(
    world: &World,
    policy: &BackendTlsPolicy,
    (reading, target): (&Reading, &BackendTarget),
) -> Option<Vec<Condition>> {
    let at = ObjectRef::new(target_kind(target)?, &policy.metadata.namespace, &target.name);
    let refuse = |reason, text: String| Condition::new(ACCEPTED, "False", reason, text);
    let standing = standing(world, policy, (target, &at));
    let accepted = if standing == Standing::NotThere {
        let section = target.section_name.as_ref();
        let port = section.map(|it| format!(" with a port {it:?}")).unwrap_or_default();
        refuse("TargetNotFound", format!("there is no {} {}{port}", target.kind, target.name))
    } else {
        let waypoint = match attach(world, Asker::of(world, &at)?) {
            Attachment::Unasked => return None,
            Attachment::Unbound(it) => {
                let (reason, why) = bound::why(it.fault, it.waypoint);
                return Some(vec![refuse(reason, format!("nobody begins TLS: {why}")), resolved(reading)]);
            }
            Attachment::Bound(it) => it.waypoint,
        };
        let gateway = world.space(waypoint.namespace).and_then(|it| it.gateways.get(waypoint.name))?;
        if !class_of(world, gateway).is_some_and(|class| class.is_ours) {
            return None;
        }
        match (standing, &reading.begun) {
            (Standing::Behind(other), _) => {
                refuse("Conflicted", format!("the BackendTLSPolicy {other} goes before it"))
            }
            (_, Err(unfit)) => {
                let text = format!("nothing is sent, requests are answered with an error: {}", unfit.text);
                refuse(unfit.reason, text)
            }
            (_, Ok(_)) => {
                let notes = reading.notes.iter().map(|it| format!("; {it}"));
                let text = format!("waypoint \"{waypoint}\" begins TLS{}", notes.collect::<String>());
                Condition::new(ACCEPTED, "True", ACCEPTED, text)
            }
        }
    };
    Some(vec![accepted, resolved(reading)])
}

fn resolved(reading: &Reading) -> Condition {
    match &reading.unresolved {
        None => Condition::new(RESOLVED_REFS, "True", RESOLVED_REFS, "all that it refers to is there"),
        Some((reason, text)) => Condition::new(RESOLVED_REFS, "False", reason, text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    const WORLD: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: way, namespace: shop}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}, status: {addresses: [{type: IPAddress, value: 10.0.0.9}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop, labels: {istio.io/use-waypoint: way}}, spec: {ports: [{name: one, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: waits, namespace: shop, labels: {istio.io/use-waypoint: none-yet}}, spec: {ports: [{name: one, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: others, namespace: shop}, spec: {ports: [{name: one, port: 80}]}}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: out, namespace: shop, labels: {istio.io/use-waypoint: way}}, spec: {hosts: [out.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: first, namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z'}, spec: {targetRefs: [{group: '', kind: Service, name: api, sectionName: one}, {group: networking.istio.io, kind: ServiceEntry, name: out}, {group: '', kind: Service, name: others}, {group: example.com, kind: Backend, name: b}], validation: {hostname: a.example, wellKnownCACertificates: System}, options: {a: b}}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: BackendTLSPolicy, metadata: {name: second, namespace: shop, creationTimestamp: '2026-01-02T00:00:00Z'}, spec: {targetRefs: [{group: '', kind: Service, name: api, sectionName: one}, {group: '', kind: Service, name: api, sectionName: none}, {group: '', kind: Service, name: waits}, {group: '', kind: Service, name: nobody}], validation: {hostname: a.example, caCertificateRefs: [{group: '', kind: Secret, name: s}]}}}
";

    #[test]
    fn a_policy_reads_what_became_of_it_at_each_of_its_targets_that_is_ours_to_speak_of() {
        let world = world(WORLD);
        let said = |name: &str| {
            let all = said(&world, &world.space("shop").unwrap().backend_tls[name]);
            let word = |it: &Condition| format!("{}={} {}", it.kind, it.status, it.reason);
            let one = |(about, conditions): &(ParentRef, Vec<Condition>)| {
                let words = conditions.iter().map(word).collect::<Vec<_>>().join(", ");
                format!("{} {}: {words}", about.name, about.section_name.as_deref().unwrap_or("-"))
            };
            all.iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(
            said("first"),
            [
                "api one: Accepted=True Accepted, ResolvedRefs=True ResolvedRefs",
                "out -: Accepted=True Accepted, ResolvedRefs=True ResolvedRefs",
            ]
        );
        assert_eq!(
            said("second"),
            [
                "api one: Accepted=False Conflicted, ResolvedRefs=False InvalidKind",
                "api none: Accepted=False TargetNotFound, ResolvedRefs=False InvalidKind",
                "waits -: Accepted=False WaypointIsNotReady, ResolvedRefs=False InvalidKind",
                "nobody -: Accepted=False TargetNotFound, ResolvedRefs=False InvalidKind",
            ]
        );
        let all = super::said(&world, &world.space("shop").unwrap().backend_tls["first"]);
        assert_eq!(all[0].1[0].message, "waypoint \"shop/way\" begins TLS; spec.options: not gone by");
    }
}
