//! Policies of processors to what waypoints go by (`waypoint.md` 9.1): pure. Owns what is meant where something is left
//! out. What admission refuses and got in all the same is read strictly: a processor whose service does not read is one
//! that never answers, a header that does not read is not shown, an attribute that nobody knows is not told.

use std::time::Duration;

use ambit_cluster::kinds::ext_proc::{
    BodySending, ExtProcPolicy, ForwardHeaders, MutationRules, ProcessingMode, Sending,
};
use ambit_cluster::kinds::route::duration;
use ambit_model::ext_proc::{BODY_MOST, BODY_USUAL, BodyMode, ChangeRules, ExtProc, Modes, PATIENCE, Shown};
use ambit_model::name::PolicyKey;
use ambit_model::provider::Which;
use ambit_model::request_policy::text_match;

use crate::index::World;
use crate::translate::alias;
use crate::translate::demand::rule;
use crate::translate::provider::service;
use crate::translate::target::{Attached, attached};

/// As waypoints go by it; nothing, if it is attached to nothing of theirs.
#[must_use]
pub fn ext_proc(world: &World, object: &ExtProcPolicy) -> Option<ExtProc> {
    let (meta, spec) = (&object.metadata, &object.spec);
    let Attached { targets, routes } = attached(world, &meta.namespace, &spec.target_refs)?;
    let home: &str = &meta.namespace;
    let body_most = spec.max_body_bytes.and_then(|it| usize::try_from(it).ok());
    let modes = modes(&spec.processing_mode, spec.observability_mode);
    let mut policy = ExtProc {
        key: PolicyKey { namespace: meta.namespace.parse().ok()?, name: meta.name.parse().ok()? },
        targets,
        routes,
        rule: rule(&spec.matching, home),
        at: service(world, home, (&spec.service, spec.port)),
        patience: duration(&spec.timeout).filter(|it| *it >= Duration::from_millis(1)).unwrap_or(PATIENCE),
        // What was told without waiting cannot go on without what comes of it.
        fail_open: spec.fail_open && !modes.is_duplex(),
        watches: spec.observability_mode,
        modes,
        may_choose: spec.allow_mode_override && !modes.is_duplex(),
        body_most: body_most.unwrap_or(BODY_USUAL).min(BODY_MOST),
        shown: shown(&spec.forward_headers),
        attributes: spec.attributes.iter().filter_map(|it| it.parse().ok()).collect(),
        changes: changes(&spec.mutation_rules),
    };
    alias::widen_rules([&mut policy.rule], &world.mesh);
    Some(policy)
}

fn modes(given: &ProcessingMode, watches: bool) -> Modes {
    let ProcessingMode {
        request_headers,
        response_headers,
        request_body,
        response_body,
        request_trailers,
        response_trailers,
    } = *given;
    // Nothing is kept for who only watches, and nothing comes of it.
    let is_other = |mode: BodyMode| mode.is_kept() || mode == BodyMode::Duplex;
    let kept = |mode: BodyMode| if watches && is_other(mode) { BodyMode::Streamed } else { mode };
    let is_sent = |it: Option<Sending>, usual| it.map_or(usual, |it| it == Sending::Send);
    let (request_body, response_body) = (kept(body(request_body)), kept(body(response_body)));
    // With a body that streams both ways, all of that way is told.
    let (all_out, all_back) = (request_body == BodyMode::Duplex, response_body == BodyMode::Duplex);
    Modes {
        request_headers: all_out || is_sent(request_headers, true),
        response_headers: all_back || is_sent(response_headers, true),
        request_body,
        response_body,
        request_trailers: all_out || is_sent(request_trailers, false),
        response_trailers: all_back || is_sent(response_trailers, false),
    }
}

const fn body(given: BodySending) -> BodyMode {
    match given {
        BodySending::None => BodyMode::None,
        BodySending::Buffered => BodyMode::Buffered,
        BodySending::BufferedPartial => BodyMode::BufferedPartial,
        BodySending::Streamed => BodyMode::Streamed,
        BodySending::FullDuplexStreamed => BodyMode::Duplex,
    }
}

fn shown(given: &ForwardHeaders) -> Shown {
    let ForwardHeaders { allow, disallow } = given;
    let allow = if allow.is_empty() { Which::All } else { names(allow) };
    Shown { allow, deny: names(disallow) }
}

fn changes(given: &MutationRules) -> ChangeRules {
    let MutationRules { allow_routing, allow, disallow, disallow_all } = given;
    ChangeRules {
        routing: *allow_routing,
        nothing_else: *disallow_all,
        allow: names(allow),
        deny: names(disallow),
    }
}

fn names(given: &[String]) -> Which {
    Which::These(given.iter().map(|it| text_match(&it.to_ascii_lowercase())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    const POLICY: &str = "
apiVersion: ambit.io/v1alpha1
kind: ExtProcPolicy
metadata: {name: guard, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web}]
  match: {to: [{operation: {paths: [/cart/*]}}]}
  service: guard
  port: 9002
  processingMode: {responseHeaders: SKIP, requestBody: BUFFERED, responseTrailers: SEND}
  forwardHeaders: {disallow: [Cookie]}
  attributes: [source.principal]
  mutationRules: {allowRouting: true, allow: [x-user]}
";

    fn read(text: &str) -> Option<ExtProc> {
        let world = world(text);
        let object = world.space("shop").unwrap().ext_procs.get("guard").cloned().unwrap();
        ext_proc(&world, &object)
    }

    #[test]
    fn a_processor_is_told_with_what_its_author_left_out() {
        let policy = read(POLICY).unwrap();
        assert_eq!(policy.key.to_string(), "shop/guard");
        assert_eq!(policy.at.as_ref().unwrap().to_string(), "shop/guard.shop.svc.cluster.local:9002");
        assert_eq!((policy.patience, policy.fail_open, policy.may_choose), (PATIENCE, false, false));
        assert_eq!((policy.body_most, policy.rule.to.len()), (BODY_USUAL, 1));
        let wanted = Modes {
            response_headers: false,
            request_body: BodyMode::Buffered,
            response_trailers: true,
            ..Modes::default()
        };
        assert_eq!(policy.modes, wanted);
        let header = |text: &str| text.parse().unwrap();
        assert!(policy.shown.holds(&header("x-a")) && !policy.shown.holds(&header("cookie")));
        assert!(policy.changes.routing && policy.changes.allows(&header("x-user"), &[header("x-user")]));
        assert_eq!(policy.attributes, ["source.principal".parse().unwrap()]);
    }

    #[test]
    fn who_only_watches_is_told_of_bodies_as_they_come() {
        let policy = read(&POLICY.replace("port: 9002", "port: 9002\n  observabilityMode: true")).unwrap();
        assert!(policy.watches);
        assert_eq!(policy.modes.request_body, BodyMode::Streamed);
    }

    #[test]
    fn where_nobody_waits_for_the_other_all_of_that_way_is_told_and_nothing_goes_on_without_an_answer() {
        let duplex = POLICY
            .replace("requestBody: BUFFERED", "requestTrailers: SKIP, requestBody: FULL_DUPLEX_STREAMED");
        let open = duplex.replace("port: 9002", "port: 9002\n  failOpen: true\n  allowModeOverride: true");
        let policy = read(&open).unwrap();
        assert_eq!((policy.modes.request_body, policy.modes.request_trailers), (BodyMode::Duplex, true));
        assert_eq!(
            (policy.fail_open, policy.may_choose, policy.modes.response_headers),
            (false, false, false)
        );
        let watching = read(&duplex.replace("port: 9002", "port: 9002\n  observabilityMode: true")).unwrap();
        assert_eq!(watching.modes.request_body, BodyMode::Streamed);
    }

    #[test]
    fn a_processor_that_cannot_be_found_is_one_that_never_answers() {
        let elsewhere = POLICY.replace("service: guard", "service: tools/guard.example");
        assert_eq!(read(&elsewhere).unwrap().at.unwrap().to_string(), "tools/guard.example:9002");
        for wrong in ["service: a b", "service: a/b/c"] {
            assert_eq!(read(&POLICY.replace("service: guard", wrong)).unwrap().at, None, "{wrong}");
        }
        let pod = POLICY.replace("kind: Service, name: web", "kind: Pod, name: web");
        assert_eq!(read(&pod), None);
    }
}
