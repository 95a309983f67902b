//! May this be asked? Owns which action speaks first (`waypoint.md` 4.3: others are asked, then audit, deny, allow) and
//! what each condition means. Logs nothing: what is to be written down is part of the opinion.

use std::borrow::Borrow;
use std::fmt;

use http::HeaderName;
use ipnet::IpNet;

use super::names::{is_of, is_of_any_case};
use super::{
    AddressOf, Facts, Http, Operation, RequestAction, RequestPolicy, RequestPrincipal, RequestRule,
    Requirement, Source, TextOf, Token,
};
use crate::name::{Identity, Label, PolicyKey};
use crate::policy::{AccountMatch, Condition, TextMatch};

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    /// The policy.
    pub policy: PolicyKey,
    /// Which of its rules, from 0.
    pub rule: usize,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let in; by a rule, unless no policy that allows applies.
    Allow(Option<RuleRef>),
    /// Kept out: 403, or with gRPC status 7.
    Deny(Denial),
}

/// Why a request is kept out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// A rule that denies matched.
    #[error("denied by rule {} of policy {}", .0.rule, .0.policy)]
    Rule(RuleRef),
    /// Policies that allow apply, and none of them matched.
    #[error("denied: no policy that allows matched")]
    NothingAllows,
}

impl Denial {
    /// Whose it is; none where it is that of all that allow.
    #[must_use]
    pub fn policy(&self) -> Option<&PolicyKey> {
        match self {
            Self::Rule(rule) => Some(&rule.policy),
            Self::NothingAllows => None,
        }
    }
}

/// A verdict, and what else there is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// What is enforced.
    pub verdict: Verdict,
    /// Policies that want the request to be written down.
    pub audited: Vec<PolicyKey>,
    /// What policies in dry run would have said.
    pub dry_run: Vec<Rehearsal>,
}

/// What policies in dry run would have said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rehearsal {
    /// This rule would have denied.
    WouldDeny(RuleRef),
    /// This rule would have allowed.
    WouldAllow(RuleRef),
    /// None of those that allow would have, and so it would have been denied.
    NothingWouldAllow,
}

impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldDeny(by) => write!(f, "denied by rule {} of policy {}", by.rule, by.policy),
            Self::WouldAllow(by) => write!(f, "allowed by rule {} of policy {}", by.rule, by.policy),
            Self::NothingWouldAllow => f.write_str("denied: no policy that allows matched"),
        }
    }
}

/// Who else has to be asked first, each once, and the first rule that wants it; an error where that is somebody whom
/// nobody knows. Nothing is known of tokens yet, so what is demanded of them is in doubt.
pub fn asks<'p>(
    policies: &'p [impl Borrow<RequestPolicy>],
    facts: &Facts<'_>,
) -> Result<Vec<(&'p Label, RuleRef)>, Denial> {
    let mut asked: Vec<(&Label, RuleRef)> = Vec::new();
    for policy in policies.iter().map(Borrow::borrow).filter(|policy| !policy.dry_run) {
        let RequestAction::Custom { provider } = &policy.action else { continue };
        let Some(rule) = matched(policy, facts) else { continue };
        match provider {
            None => return Err(Denial::Rule(rule)),
            Some(provider) if asked.iter().any(|(before, _)| *before == provider) => {}
            Some(provider) => asked.push((provider, rule)),
        }
    }
    Ok(asked)
}

/// Judges a request by the policies of where it goes. Their order decides only which of several is named.
#[must_use]
pub fn judge(policies: &[impl Borrow<RequestPolicy>], facts: &Facts<'_>) -> Opinion {
    let of = |action: RequestAction, dry_run: bool| {
        let all = policies.iter().map(Borrow::<RequestPolicy>::borrow);
        all.filter(move |it| it.action == action && it.dry_run == dry_run)
    };
    let first = |action, dry_run| of(action, dry_run).find_map(|policy| matched(policy, facts));
    let audited = of(RequestAction::Audit, false).filter(|policy| matched(policy, facts).is_some());
    let audited = audited.map(|policy| policy.key.clone()).collect();
    let mut dry_run: Vec<Rehearsal> =
        first(RequestAction::Deny, true).map(Rehearsal::WouldDeny).into_iter().collect();
    match first(RequestAction::Allow, true) {
        Some(rule) => dry_run.push(Rehearsal::WouldAllow(rule)),
        None if of(RequestAction::Allow, true).next().is_some() => dry_run.push(Rehearsal::NothingWouldAllow),
        None => {}
    }
    let verdict = match first(RequestAction::Deny, false) {
        Some(rule) => Verdict::Deny(Denial::Rule(rule)),
        None => match first(RequestAction::Allow, false) {
            Some(rule) => Verdict::Allow(Some(rule)),
            None if of(RequestAction::Allow, false).next().is_none() => Verdict::Allow(None),
            None => Verdict::Deny(Denial::NothingAllows),
        },
    };
    Opinion { verdict, audited, dry_run }
}

impl Verdict {
    /// True when let in.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// The first rule of a policy that matches.
#[must_use]
pub fn matched(policy: &RequestPolicy, facts: &Facts<'_>) -> Option<RuleRef> {
    // What cannot be known never allows (nor is it written down), and never keeps from denying or from asking.
    let in_doubt = match policy.action {
        RequestAction::Allow | RequestAction::Audit => false,
        RequestAction::Deny | RequestAction::Custom { .. } => true,
    };
    // Others are asked before tokens are looked at.
    let tokens_are_known = !matches!(policy.action, RequestAction::Custom { .. });
    let eye = Eye { facts, in_doubt, tokens_are_known };
    let rule = policy.rules.iter().position(|rule| eye.rule(rule))?;
    Some(RuleRef { policy: policy.key.clone(), rule })
}

/// Whether a rule matches that nothing unknown keeps from it.
#[must_use]
pub fn fires(rule: &RequestRule, facts: &Facts<'_>) -> bool {
    Eye { facts, in_doubt: true, tokens_are_known: true }.rule(rule)
}

/// Facts, and what is taken for true where they are not known.
struct Eye<'a> {
    facts: &'a Facts<'a>,
    in_doubt: bool,
    tokens_are_known: bool,
}

impl Eye<'_> {
    fn rule(&self, rule: &RequestRule) -> bool {
        let RequestRule { from, to, when } = rule;
        // What is asked tells rules apart sooner than who asks.
        (to.is_empty() || to.iter().any(|it| self.operation(it)))
            && (from.is_empty() || from.iter().any(|it| self.source(it)))
            && when.iter().all(|it| self.requirement(it))
    }

    fn source(&self, source: &Source) -> bool {
        if source.is_empty() {
            return self.in_doubt;
        }
        let Source {
            principals,
            request_principals,
            namespaces,
            service_accounts,
            trust_domains,
            ip_blocks,
            remote_ip_blocks,
        } = source;
        let Facts { peer, from, remote, .. } = *self.facts;
        holds(principals, |it| self.facts.principal().is_some_and(|found| is_of(it, found)))
            && holds(namespaces, |it| peer.is_some_and(|peer| it.is_match(peer.namespace.as_str())))
            && holds(service_accounts, |it| peer.is_some_and(|peer| is_account(it, peer)))
            && holds(trust_domains, |it| peer.is_some_and(|peer| is_of(it, peer.trust_domain.as_str())))
            && holds(ip_blocks, |it| contains(it, from))
            && holds(remote_ip_blocks, |it| contains(it, remote))
            && self.request_principals(request_principals)
    }

    fn operation(&self, operation: &Operation) -> bool {
        let Operation { hosts, ports, methods, paths } = operation;
        // Of the most rules no more than their paths is looked at, and the rest of them never gets near the processor.
        if paths.is_empty() && operation.is_empty() {
            return self.in_doubt;
        }
        self.http(paths, |http, it| it.is_match(http.path.as_str()))
            && holds(ports, |port| *port == self.facts.to.port())
            && self.http(methods, |http, it| is_of(it, http.method.as_str()))
            && self.http(hosts, |http, it| is_of_any_case(it, http.host))
    }

    fn requirement(&self, requirement: &Requirement) -> bool {
        let Facts { peer, from, remote, to, .. } = *self.facts;
        match requirement {
            Requirement::Text { of, values } => self.text(of, values),
            Requirement::Address { of, values } => {
                let address = match of {
                    AddressOf::Source => from,
                    AddressOf::Remote => remote,
                    AddressOf::Destination => to.ip(),
                };
                holds(values, |it| contains(it, address))
            }
            Requirement::Namespace(values) => {
                holds(values, |it| peer.is_some_and(|peer| it.is_match(peer.namespace.as_str())))
            }
            Requirement::ServiceAccount(values) => {
                holds(values, |it| peer.is_some_and(|peer| is_account(it, peer)))
            }
            Requirement::RequestPrincipal(values) => self.request_principals(values),
            Requirement::Port(values) => holds(values, |port| *port == to.port()),
            Requirement::Unknown(_) => self.in_doubt,
        }
    }

    fn text(&self, of: &TextOf, values: &Condition<TextMatch>) -> bool {
        let claims = |path: &[Box<str>]| self.token(values, |token, it| is_any_of(it, &token.texts(path)));
        match of {
            TextOf::Header(name) => self.header(name, values),
            TextOf::Principal => {
                holds(values, |it| self.facts.principal().is_some_and(|found| is_of(it, found)))
            }
            TextOf::TrustDomain => {
                holds(values, |it| self.facts.peer.is_some_and(|peer| is_of(it, peer.trust_domain.as_str())))
            }
            // Of a connection of which nobody looked, nobody knows for whom it is.
            TextOf::Sni if self.facts.sni.is_none() && self.facts.http.is_none() => self.in_doubt,
            TextOf::Sni => holds(values, |it| self.facts.sni.is_some_and(|sni| is_of_any_case(it, sni))),
            TextOf::Audiences => claims(&["aud".into()]),
            TextOf::Presenter => claims(&["azp".into()]),
            TextOf::Claim(path) => claims(path),
        }
    }

    /// Of a header that comes several times, all of them joined are judged, as one line would be, and each alone:
    /// whichever of them the endpoint reads, none hides behind another. Whoever is to be kept out is so for one of them;
    /// whoever is let in is so for all, or by the very list.
    fn header(&self, name: &HeaderName, values: &Condition<TextMatch>) -> bool {
        if values.is_empty() {
            return true;
        }
        let Some(http) = &self.facts.http else { return self.in_doubt };
        let whole = http.header(name);
        let as_whole = holds(values, |it| whole.as_deref().is_some_and(|found| is_of(it, found)));
        let mut each = http.values(name);
        if http.values(name).nth(1).is_none() {
            return as_whole;
        }
        if self.in_doubt {
            return as_whole || each.any(|one| holds(values, |it| is_of(it, &one)));
        }
        let is_list = |it: &TextMatch| matches!(it, TextMatch::Exact(text) if whole.as_deref() == Some(text));
        let by_list = values.any.iter().any(is_list);
        as_whole
            && each.all(|one| {
                let accepted =
                    by_list || values.any.is_empty() || values.any.iter().any(|it| is_of(it, &one));
                accepted && !values.none.iter().any(|it| is_of(it, &one))
            })
    }

    fn request_principals(&self, of: &Condition<RequestPrincipal>) -> bool {
        self.token(of, |token, it| it.is_match(&token.issuer, &token.subject))
    }

    /// A condition on a request's token, where it has been looked at.
    fn token<T>(&self, of: &Condition<T>, hit: impl Fn(&Token, &T) -> bool) -> bool {
        if !self.tokens_are_known && !of.is_empty() {
            return self.in_doubt;
        }
        self.http(of, |http, it| http.token.is_some_and(|token| hit(token, it)))
    }

    /// A condition on a request, where there is one to be seen.
    fn http<T>(&self, of: &Condition<T>, hit: impl Fn(&Http<'_>, &T) -> bool) -> bool {
        match &self.facts.http {
            _ if of.is_empty() => true,
            None => self.in_doubt,
            Some(http) => holds(of, |it| hit(http, it)),
        }
    }
}

/// One of the accepted values (when there are any) and none of the refused ones.
fn holds<T>(of: &Condition<T>, hit: impl Fn(&T) -> bool) -> bool {
    (of.any.is_empty() || of.any.iter().any(&hit)) && !of.none.iter().any(&hit)
}

fn is_any_of(wanted: &TextMatch, found: &[&str]) -> bool {
    found.iter().any(|text| is_of(wanted, text))
}

fn is_account(wanted: &AccountMatch, found: &Identity) -> bool {
    wanted.namespace == found.namespace && wanted.service_account == found.service_account
}

fn contains(range: &IpNet, address: std::net::IpAddr) -> bool {
    range.contains(&address.to_canonical())
}

#[cfg(test)]
mod tests;
