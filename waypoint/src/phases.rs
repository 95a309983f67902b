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
mod process;
pub(crate) mod record;
mod rewrite;
pub(crate) mod route;

use std::sync::Arc;

use ambit_model::request_policy::Token;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::body::{Download, Source};
use crate::refused::Refused;
use crate::stream::Inbound;
use crate::upstream::Chance;
use answer::Edited;
pub(crate) use ask::NoWord;
use authorize::Seen;
use identify::Asked;
pub(crate) use identify::{HEADERS_MOST, is_last};
pub(crate) use limit::{Limited, NoCount};
use record::Record;
use tokio::time::timeout_at;

/// Answers one request.
pub(crate) async fn serve(inbound: Arc<Inbound>, mut request: Request<Incoming>) -> Response<Download> {
    let upgrade = request.headers().contains_key(http::header::UPGRADE)
        || request.extensions().get::<hyper::ext::Protocol>().is_some();
    let upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let source = Source::new(body, inbound.idle());
    let mut record = Record::begin(inbound, &parts, source.clone());
    match Box::pin(through(&mut record, parts, source)).await {
        Ok(answer) => answer::pass(record, answer, upgrade),
        Err(refused) => answer::own(record, &refused),
    }
}

async fn through(record: &mut Record, mut parts: Parts, source: Source) -> Result<Edited, Refused> {
    record.enter()?;
    let mut asked = identify::identify(&mut parts)?;
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
    let route::Routed { route: mut routed, mut fault } =
        route::route(record.inbound(), &request, &mut Chance);
    // A browser asks without saying who it is, and is told nothing but what pages may ask. Everything else that a
    // route says is for those only who may ask at all.
    let (mut questions, mut processors) = (Vec::new(), Vec::new());
    if !matches!(routed, Err(Refused::Preflight { .. })) {
        let seen = Seen { parts: &parts, asked: &asked, path: &target.path, token: token.as_deref() };
        authorize::authorize(record, &seen)?;
        questions = limit::count(record, &seen)?;
        processors = process::who(record, &seen);
    }
    if !questions.is_empty() {
        Box::pin(limit::ask(record, &mut parts, questions)).await?;
    }
    if !processors.is_empty()
        && Box::pin(process::request((&mut parts, &mut asked), &source, &processors)).await?
    {
        route::Routed { route: routed, fault } = again(record, (&parts, &asked), token.as_deref())?;
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
    let mut answer = answer::edit(record, got, &route);
    if !processors.is_empty() {
        let processed = Box::pin(process::response(record, &mut answer, &processors));
        match record.deadline() {
            Some(at) => timeout_at(at, processed).await.unwrap_or(Err(Refused::TimedOut))?,
            None => processed.await?,
        }
    }
    Ok(answer)
}

/// The route of a request that is no longer addressed as it was. Who may not ask for that gets there by nobody's help.
fn again(
    record: &mut Record,
    (parts, asked): (&Parts, &Asked),
    token: Option<&Token>,
) -> Result<route::Routed, Refused> {
    let target = route::target(parts)?;
    authorize::authorize(record, &Seen { parts, asked, path: &target.path, token })?;
    let request = route::Seen { parts, asked, target: &target, token };
    Ok(route::route(record.inbound(), &request, &mut Chance))
}
