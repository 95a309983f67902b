//! What a request goes through, in this order, a file each. Owns the order; a phase that refuses ends it with our own
//! answer, and every request ends in one record.

mod answer;
mod ask;
mod authenticate;
pub(crate) mod authorize;
mod fault;
mod filled;
mod forward;
mod hedge;
mod identify;
mod kept;
mod limit;
pub(crate) mod mirror;
mod process;
pub(crate) mod record;
mod rewrite;
pub(crate) mod route;

use std::sync::Arc;

use ambit_model::request_policy::Token;
use ambit_process::clock::Instant;
use http::request::Parts;
use http::{Request, Response};

use crate::body::{Arriving, Download, Source};
use crate::grpc_web::GrpcWeb;
use crate::refused::Refused;
use crate::stream::Inbound;
use crate::upgrade::Upgrade;
use crate::upstream::Chance;
use answer::Edited;
pub(crate) use ask::NoWord;
use authorize::Seen;
use identify::Asked;
pub(crate) use identify::{HEADERS_MOST, is_last, take_out};
pub(crate) use limit::{Limited, NoCount};
use process::Processors;
use record::Record;
use tokio::time::timeout_at;

/// Answers one request. `upgrade` is there if it may lead to another protocol.
pub(crate) async fn serve(
    inbound: Arc<Inbound>,
    request: Request<Arriving>,
    upgrade: Option<Upgrade>,
) -> Response<Download> {
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
    let former = former.filter(|_| token.is_none());
    let mut routed = {
        let former = former.map(|headers| {
            let mut former = parts.clone();
            former.headers = headers;
            former
        });
        let by = former.as_ref().unwrap_or(&parts);
        let request = route::Seen { parts: by, asked: &asked, target: &target, token: token.as_deref() };
        route::route(record.inbound(), &request, &mut Chance)
    };
    record.told_to_pages(routed.pages(&parts.headers));
    // A browser asks without saying who it is, and is told nothing but what pages may ask. Everything else that a
    // route says is for those only who may ask at all.
    let mut processors = Processors::new();
    if !matches!(routed.route, Err(Refused::Preflight { .. })) {
        let seen = Seen { parts: &parts, asked: &asked, path: &target.path, token: token.as_deref() };
        authorize::authorize(record, &seen)?;
        let others = self::others(record, &seen, std::slice::from_ref(&routed.by))?;
        if let Some(web) = record.web() {
            // Policies judge what was asked (`waypoint.md` 1.5); from here on all see what the endpoint gets.
            GrpcWeb::ask(&mut parts.headers);
            source.translate(web.asks_in_text());
        }
        if !others.is_nobody() {
            let coming = Coming { parts: &mut parts, asked: &mut asked, token: token.as_deref() };
            Box::pin(go_by(record, coming, &source, (&mut routed, others), &mut processors)).await?;
        }
    }
    if let Some(fault) = routed.fault {
        Box::pin(fault::inject(record, &fault)).await?;
    }
    let mut route = routed.route?;
    record.routed(&route);
    if let Some(whom) = route.asks() {
        let deadline = record.deadline();
        let asking = ask::ask_of_route(record, &mut parts, (&asked, &source), (&mut route, whom));
        by(deadline, Box::pin(asking)).await?;
    }
    let outgoing = rewrite::rewrite(record, parts, asked, &route);
    let got = forward::forward(record, &outgoing, &source, &route).await?;
    let mut answer = answer::edit(record, got, &route);
    if !processors.is_empty() {
        let processed = process::response(record, &mut answer, &processors);
        by(record.deadline(), Box::pin(processed)).await?;
    }
    Ok(answer)
}

/// What has to be over by then, where its route says so.
async fn by<T>(
    deadline: Option<Instant>,
    step: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    match deadline {
        Some(at) => timeout_at(at, step).await.unwrap_or(Err(Refused::TimedOut)),
        None => step.await,
    }
}

/// Who else has a say about a request that may come in.
struct Others {
    /// Who counts.
    questions: Vec<limit::Question>,
    /// Who sees it.
    processors: Processors,
}

impl Others {
    fn is_nobody(&self) -> bool {
        self.questions.is_empty() && self.processors.is_empty()
    }
}

/// Counts a request, and says who else has a say: those of the last rule that it is of, and had none before.
fn others(record: &mut Record, seen: &Seen<'_>, rules: &[Option<route::By>]) -> Result<Others, Refused> {
    let questions = limit::count(record, seen, rules)?;
    Ok(Others { questions, processors: process::who(record, seen, rules) })
}

/// A request that others change on its way.
struct Coming<'a> {
    parts: &'a mut Parts,
    asked: &'a mut Asked,
    token: Option<&'a Token>,
}

/// Has a request go by others. Where one addresses it anew, policies judge it again - who may not ask for that gets there
/// by nobody's help - and those of its new route have their say as well, each once: so this ends.
async fn go_by(
    record: &mut Record,
    coming: Coming<'_>,
    source: &Source,
    (routed, mut others): (&mut route::Routed, Others),
    processors: &mut Processors,
) -> Result<(), Refused> {
    let Coming { parts, asked, token } = coming;
    let mut rules = vec![routed.by.clone()];
    loop {
        let deadline = routed.route.as_ref().ok().and_then(|route| record.due(route));
        if !others.questions.is_empty() {
            by(deadline, limit::ask(record, parts, others.questions)).await?;
        }
        let processed = process::request((&mut *parts, &mut *asked), source, &others.processors);
        let is_addressed_anew = by(deadline, processed).await?;
        processors.append(&mut others.processors);
        if !is_addressed_anew {
            return Ok(());
        }
        let target = route::target(parts)?;
        let seen = Seen { parts: &*parts, asked: &*asked, path: &target.path, token };
        authorize::authorize(record, &seen)?;
        let request = route::Seen { parts: &*parts, asked: &*asked, target: &target, token };
        *routed = route::route(record.inbound(), &request, &mut Chance);
        record.told_to_pages(routed.pages(&parts.headers));
        rules.push(routed.by.clone());
        others = self::others(record, &seen, &rules)?;
    }
}
