//! What a request goes through, in this order, a file each. Owns the order; a phase that refuses ends it with our own
//! answer, and every request ends in one record.

mod answer;
mod ask;
mod authenticate;
pub(crate) mod authorize;
mod fault;
mod forward;
mod hedge;
mod identify;
mod limit;
pub(crate) mod mirror;
pub(crate) mod record;
mod rewrite;
pub(crate) mod route;

use std::sync::Arc;

use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::body::{Download, Source};
use crate::refused::Refused;
use crate::stream::Inbound;
use crate::upstream::{Chance, Got};
pub(crate) use ask::NoWord;
use authorize::Seen;
pub(crate) use identify::{HEADERS_MOST, is_last};
pub(crate) use limit::{Limited, NoCount};
use record::Record;
use route::Route;

/// Answers one request.
pub(crate) async fn serve(inbound: Arc<Inbound>, mut request: Request<Incoming>) -> Response<Download> {
    let upgrade = request.headers().contains_key(http::header::UPGRADE)
        || request.extensions().get::<hyper::ext::Protocol>().is_some();
    let upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let source = Source::new(body, inbound.idle());
    let mut record = Record::begin(inbound, &parts, source.clone());
    match Box::pin(through(&mut record, parts, source)).await {
        Ok((got, route)) => answer::pass(record, got, (&route, upgrade)),
        Err(refused) => answer::own(record, &refused),
    }
}

async fn through(record: &mut Record, mut parts: Parts, source: Source) -> Result<(Got, Route), Refused> {
    record.enter()?;
    let asked = identify::identify(&mut parts)?;
    authenticate::unforge(record, &mut parts);
    let others = ask::who(record.inbound(), &parts, &asked)?;
    let former = match others.as_slice() {
        [] => None,
        others => Box::pin(ask::ask(record, &mut parts, (&asked, &source), others)).await?,
    };
    // Ahead of the routes: they may go by headers that only the mesh sets.
    let token = Box::pin(authenticate::authenticate(record, &mut parts)).await?;
    let target = route::target(&parts)?;
    // Routes go by what others have changed only if those say so, or if they go by a token.
    let former = former.filter(|_| token.is_none()).map(|headers| {
        let mut former = parts.clone();
        former.headers = headers;
        former
    });
    let by = former.as_ref().unwrap_or(&parts);
    let request = route::Seen { parts: by, asked: &asked, target: &target, token: token.as_deref() };
    let route::Routed { route: routed, fault } = route::route(record.inbound(), &request, &mut Chance);
    // A browser asks without saying who it is, and is told nothing but what pages may ask. Everything else that a
    // route says is for those only who may ask at all.
    let mut questions = Vec::new();
    if !matches!(routed, Err(Refused::Preflight { .. })) {
        let seen = Seen { parts: &parts, asked: &asked, path: &target.path, token: token.as_deref() };
        authorize::authorize(record, &seen)?;
        questions = limit::count(record, &seen)?;
    }
    if !questions.is_empty() {
        Box::pin(limit::ask(record, &mut parts, questions)).await?;
    }
    if let Some(fault) = fault {
        Box::pin(fault::inject(record, &fault)).await?;
    }
    let mut route = routed?;
    record.routed(&route);
    if let Some(whom) = route.asks() {
        Box::pin(ask::ask_of_route(record, &mut parts, (&asked, &source), (&mut route, whom))).await?;
    }
    let outgoing = rewrite::rewrite(record.inbound(), parts, asked, &route);
    let got = forward::forward(record, &outgoing, &source, &route).await?;
    Ok((got, route))
}
