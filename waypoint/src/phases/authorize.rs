//! May this be asked (`waypoint.md` 4.3)? Owns what is known of a request, or of a connection that is none of HTTP, when
//! policies judge it, and whose policies these are. Decides nothing (`model::request_policy`).
//!
//! Requests are judged once, when they come; a connection that is only carried is judged again whenever the world
//! changes, for it may outlive any policy.

use ambit_model::http_path::NormalPath;
use ambit_model::request_policy::{Denial, Facts, Http, Opinion, Token, Verdict, asks, judge, remote};
use http::request::Parts;

use super::identify::Asked;
use super::record::Record;
use crate::refused::Refused;
use crate::stream::Inbound;

/// A request, as policies see it.
pub(crate) struct Seen<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) asked: &'a Asked,
    /// In the form by which it is routed and sent on.
    pub(crate) path: &'a NormalPath<'a>,
    /// A token of it that is believed.
    pub(crate) token: Option<&'a Token>,
}

/// Judges a request.
pub(crate) fn authorize(record: &mut Record, seen: &Seen<'_>) -> Result<(), Refused> {
    let Seen { parts, asked, path, token } = *seen;
    let host = asked.host();
    let http = Http { host, method: &parts.method, path, headers: &parts.headers, token };
    let Some(opinion) = opinion(record.inbound(), Some(http))? else {
        return Ok(());
    };
    record.judged(&opinion);
    match opinion.verdict {
        Verdict::Allow(_) => Ok(()),
        Verdict::Deny(denial) => Err(Refused::Denied(denial)),
    }
}

/// Judges a connection of which only its ends are known, and the server that it asks for if that was heard. What policies
/// say of requests is read strictly.
pub(crate) fn admit(inbound: &Inbound) -> Result<(), Refused> {
    match opinion(inbound, None)?.map(|opinion| opinion.verdict) {
        None | Some(Verdict::Allow(_)) => Ok(()),
        Some(Verdict::Deny(denial)) => Err(Refused::Denied(denial)),
    }
}

/// Waits until a connection may be no longer.
pub(crate) async fn until_denied(inbound: &Inbound) -> Refused {
    let mut world = inbound.lane.shared.world.clone();
    loop {
        if let Err(refused) = admit(inbound) {
            return refused;
        }
        if !world.changed().await {
            // The last world there will be lets it in.
            std::future::pending::<()>().await;
        }
    }
}

/// What the policies in force say; nothing where there are none.
fn opinion(inbound: &Inbound, http: Option<Http<'_>>) -> Result<Option<Opinion>, Refused> {
    let world = inbound.lane.shared.world.load();
    let policies = world.request_policies_of(&inbound.targets);
    if policies.is_empty() {
        return Ok(None);
    }
    let facts = facts(inbound, http);
    // Whoever has to be asked about a request was asked when it came; about a connection nobody is.
    if facts.http.is_none()
        && let Some((provider, _)) = asks(&policies, &facts).map_err(Refused::Denied)?.first()
    {
        return Err(Refused::Unasked(provider.to_string()));
    }
    Ok(Some(judge(&policies, &facts)))
}

/// What is known when policies judge.
pub(super) fn facts<'a>(inbound: &'a Inbound, http: Option<Http<'a>>) -> Facts<'a> {
    let client = &inbound.client;
    let from = client.from.ip();
    let mut facts = Facts::new(client.identity.as_ref(), from, inbound.dialled);
    // Whom a stranger came by is only its own word.
    let passed_on = http.as_ref().filter(|_| client.identity.is_some());
    facts.remote = passed_on.and_then(|http| remote(http.headers)).unwrap_or(from);
    facts.sni = inbound.server().filter(|_| http.is_none());
    facts.http = http;
    facts
}

/// How a denial is called in records (`waypoint.md` 4.3).
pub(super) fn details(denial: &Denial) -> String {
    match denial {
        Denial::NothingAllows => "rbac_access_denied_matched_policy[none]".into(),
        Denial::Rule(by) => {
            let (namespace, name) = (&by.policy.namespace, &by.policy.name);
            format!("rbac_access_denied_matched_policy[{namespace}-{name}-policy[{}]]", by.rule)
        }
    }
}
