//! Does a policy match a connection? Owns the meaning of rules, clauses, matches and single conditions.
//!
//! A range that could not be read is read against the peer: it never makes an allow match and never keeps a
//! deny from matching, whether it stands among the accepted or the refused values.

use std::cell::OnceCell;

use crate::address::{ClientAddr, OriginalDst};
use crate::name::Identity;
use crate::policy::{AccountMatch, Action, Clause, Condition, Match, Policy, RangeMatch, Rule, TextMatch};

/// What policies compare with.
pub(super) struct Facts<'a> {
    peer: Option<&'a Identity>,
    from: ClientAddr,
    to: OriginalDst,
    /// The identity without `spiffe://`; made when first asked for.
    principal: OnceCell<String>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(peer: Option<&'a Identity>, from: ClientAddr, to: OriginalDst) -> Self {
        Self { peer, from, to, principal: OnceCell::new() }
    }

    /// True when any rule of a policy matches.
    pub(super) fn satisfy(&self, policy: &Policy) -> bool {
        policy.rules.iter().any(|rule| self.rule(rule, policy.action))
    }

    fn rule(&self, rule: &Rule, action: Action) -> bool {
        rule.clauses.iter().all(|clause| self.clause(clause, action))
    }

    fn clause(&self, clause: &Clause, action: Action) -> bool {
        clause.matches.is_empty() || clause.matches.iter().any(|m| self.all(m, action))
    }

    fn all(&self, conditions: &Match, action: Action) -> bool {
        let Match {
            namespaces,
            service_accounts,
            principals,
            source_ips,
            destination_ips,
            destination_ports,
        } = conditions;
        let demands_nothing = namespaces.is_empty()
            && service_accounts.is_empty()
            && principals.is_empty()
            && source_ips.is_empty()
            && destination_ips.is_empty()
            && destination_ports.is_empty();
        !demands_nothing
            && holds(namespaces, |m| self.peer.is_some_and(|p| text(m, p.namespace.as_str())))
            && holds(service_accounts, |m| self.peer.is_some_and(|p| account(m, p)))
            && holds(principals, |m| self.principal().is_some_and(|p| text(m, p)))
            && in_ranges(source_ips, self.from.ip(), action)
            && in_ranges(destination_ips, self.to.ip(), action)
            && holds(destination_ports, |port| *port == self.to.port())
    }

    fn principal(&self) -> Option<&str> {
        let peer = self.peer?;
        let text = self.principal.get_or_init(|| {
            format!("{}/ns/{}/sa/{}", peer.trust_domain, peer.namespace, peer.service_account)
        });
        Some(text)
    }
}

/// One of the accepted values (when there are any) and none of the refused ones.
fn holds<T>(condition: &Condition<T>, hit: impl Fn(&T) -> bool) -> bool {
    (condition.any.is_empty() || condition.any.iter().any(&hit)) && !condition.none.iter().any(&hit)
}

fn text(wanted: &TextMatch, found: &str) -> bool {
    match wanted {
        TextMatch::Exact(text) => found == &**text,
        TextMatch::Prefix(text) => found.starts_with(&**text),
        TextMatch::Suffix(text) => found.ends_with(&**text),
        TextMatch::Presence => !found.is_empty(),
    }
}

fn account(wanted: &AccountMatch, found: &Identity) -> bool {
    wanted.namespace == found.namespace && wanted.service_account == found.service_account
}

fn in_ranges(condition: &Condition<RangeMatch>, ip: std::net::IpAddr, action: Action) -> bool {
    let unreadable_accepts = action == Action::Deny;
    let hit = |range: &RangeMatch, unreadable: bool| match range {
        RangeMatch::Range(range) => range.contains(&ip),
        RangeMatch::Unreadable => unreadable,
    };
    (condition.any.is_empty() || condition.any.iter().any(|r| hit(r, unreadable_accepts)))
        && !condition.none.iter().any(|r| hit(r, !unreadable_accepts))
}
