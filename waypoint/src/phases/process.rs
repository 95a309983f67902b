//! Others who see requests and answers on the way, and change or end them (`waypoint.md` 9.1). Owns who they are for a
//! request, what they are told in which order, and what is done with what they say. The conversation is `processor`'s;
//! what they may say and change, the model's; pieces of bodies are `pieces`'.
//!
//! After policies and limits have let a request in, so that these judge what the client has sent, and ahead of the route.
//! Requests go by all of them in the order of their policies, answers the other way round. Only what an endpoint answers
//! goes by them, nothing that we say ourselves.

mod flow;
mod pieces;

use std::sync::Arc;

use ambit_model::ext_proc::{BodyMode, Onward, Part, Step, Way};
use ambit_model::request_policy::{Http, fires};
use ambit_wire::process::{self, First, Head};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Uri};

use super::answer::Edited;
use super::authorize::{Seen, facts};
use super::identify::{self, Asked, scheme_of};
use super::record::Record;
use super::route::{self, By};
use crate::body::{Coming, Source};
use crate::processor::{NoReply, Processor, Stopped};
use crate::refused::Refused;

/// By whom a request goes.
pub(crate) type Processors = Vec<Arc<Processor>>;

/// By whom a request goes; nobody, where no policy is. Those are the last rule's, but for those that were another's before.
pub(crate) fn who(record: &mut Record, seen: &Seen<'_>, rules: &[Option<By>]) -> Processors {
    let inbound = record.inbound();
    let world = inbound.lane.shared.world.load();
    let policies = route::only_last(rules, |rule| world.ext_procs_of(&inbound.targets, rule));
    if policies.is_empty() {
        return Vec::new();
    }
    let Seen { parts, asked, path, token } = *seen;
    let http = Http { host: asked.host(), method: &parts.method, path, headers: &parts.headers, token };
    let facts = facts(inbound, Some(http));
    // What policies judge, and what only the mesh says of tokens.
    let judged = world.request_policies_of(&inbound.targets);
    let judged = judged.iter().flat_map(|it| it.headers()).cloned();
    let believed = world.authentications_of(&inbound.targets);
    let believed = believed.iter().flat_map(|it| &it.rules).flat_map(|it| it.headers()).cloned();
    let apart: Vec<HeaderName> = judged.chain(believed).collect();
    let concerned = policies.into_iter().filter(|it| fires(&it.rule, &facts));
    let all: Processors = concerned
        .map(|policy| {
            let known =
                |it: &ambit_model::rate_limit::Attribute| Some((it.to_string(), it.of(&facts)?.into_owned()));
            let attributes = policy.attributes.iter().filter_map(known).collect();
            let lane = Arc::clone(&inbound.lane);
            Arc::new(Processor::new(lane, Arc::clone(policy), apart.clone(), attributes))
        })
        .collect();
    record.processed_by(&all);
    all
}

/// Has a request go by them. Whether its route is to be chosen again.
pub(crate) async fn request(
    (parts, asked): (&mut Parts, &mut Asked),
    source: &Source,
    all: &Processors,
) -> Result<bool, Refused> {
    let mut reroute = false;
    for one in all {
        let mut exchange = Request { one, parts, asked, source };
        reroute |= exchange.go().await.map_err(|failed| failed.refused(one))?;
    }
    Ok(reroute)
}

/// Why something does not go on.
enum Failed {
    /// The processor's conversation knows why.
    Stopped,
    /// What it would have seen is at fault.
    Refused(Refused),
}

impl From<Stopped> for Failed {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl Failed {
    fn refused(self, by: &Processor) -> Refused {
        match self {
            Self::Stopped => by.stopped(),
            Self::Refused(refused) => refused,
        }
    }
}

/// A request and a processor.
struct Request<'a> {
    one: &'a Arc<Processor>,
    parts: &'a mut Parts,
    asked: &'a mut Asked,
    source: &'a Source,
}

const fn step(way: Way, part: Part) -> Step {
    Step { way, part }
}

impl Request<'_> {
    async fn go(&mut self) -> Result<bool, Failed> {
        if self.one.modes().request_body == BodyMode::Duplex {
            return Box::pin(self.flow()).await;
        }
        let mut reroute = false;
        if self.one.modes().request_headers
            && let Some(onward) = self.tell_headers().await?
        {
            self.one.change(&onward.headers, &mut self.parts.headers, true).await?;
            reroute = self.reroute(&onward).await?;
            if onward.last {
                if let Some(body) = onward.body {
                    self.source.replace(body.into());
                    self.resize();
                }
                return Ok(reroute);
            }
        }
        // What follows an upgrade is no body.
        if self.asked.upgrade.is_none() && !self.source.is_end() {
            Box::pin(self.body()).await?;
        }
        Ok(reroute)
    }

    async fn tell_headers(&self) -> Result<Option<Box<Onward>>, Stopped> {
        let is_end = self.source.is_end();
        let message = |first: Option<&_>| self.head(is_end, first);
        self.one.tell(step(Way::Request, Part::Headers), message).await
    }

    /// What it is told of the headers.
    fn head(&self, is_end: bool, first: Option<&First>) -> Bytes {
        let Self { one, parts, asked, .. } = self;
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let pseudo = [
            (":method", parts.method.as_str()),
            (":path", path),
            (":authority", asked.host()),
            (":scheme", scheme_of(&parts.uri)),
        ];
        // What only proxies say is not the client's to say, here either.
        let is_shown =
            |name: &HeaderName| *name != HOST && !identify::is_ours(name) && one.policy.shown.holds(name);
        let headers = shown(&parts.headers, is_shown);
        process::headers(Way::Request, Head { pseudo: &pseudo, headers: &headers }, is_end, first)
    }

    async fn body(&mut self) -> Result<(), Failed> {
        let rest = self.one.modes().rest(Way::Request);
        if rest.body.is_kept() {
            let most = self.one.policy.body_most;
            let (bytes, is_whole) =
                self.source.beginning(most).await.map_err(|why| Failed::Refused(why.into()))?;
            if !is_whole && rest.body == BodyMode::Buffered {
                return Err(Failed::Refused(Refused::TooLarge));
            }
            let read = bytes.len();
            let trailers = self.source.trailers().filter(|_| is_whole);
            let is_end = is_whole && trailers.is_none();
            let message = |first: Option<&_>| process::body(Way::Request, bytes, is_end, first);
            if let Some(onward) = self.one.tell(step(Way::Request, Part::Body), message).await? {
                self.one.change(&onward.headers, &mut self.parts.headers, true).await?;
                if let Some(body) = onward.body {
                    self.source.replace_beginning(read, body.into());
                    self.resize();
                }
                if onward.last {
                    return Ok(());
                }
            }
            if let Some(mut trailers) = trailers.filter(|_| rest.trailers) {
                pieces::trailers(self.one, Way::Request, &mut trailers).await?;
                self.source.replace_trailers(trailers);
            }
        } else if rest.body == BodyMode::Streamed || rest.trailers {
            let (from, to) = self.source.divert();
            if !self.one.policy.watches {
                self.parts.headers.remove(CONTENT_LENGTH);
            }
            pieces::pump(self.one, Way::Request, (from, to));
        }
        Ok(())
    }

    /// Says how long the body has become; nothing, where that is not known.
    fn resize(&mut self) {
        let had_length = self.parts.headers.remove(CONTENT_LENGTH).is_some();
        if let Some(length) = self.source.length().filter(|length| had_length || *length > 0) {
            self.parts.headers.insert(CONTENT_LENGTH, length.into());
        }
    }

    /// Changes where the request goes, where that is allowed and the route is to be chosen again.
    async fn reroute(&mut self, onward: &Onward) -> Result<bool, Stopped> {
        if !(onward.reroute && self.one.policy.changes.routing) {
            return Ok(false);
        }
        match self.readdress(onward) {
            Ok(()) => Ok(true),
            Err(why) => self.one.break_off(NoReply::Malformed(why)).await.map(|()| false),
        }
    }

    fn readdress(&mut self, onward: &Onward) -> Result<(), &'static str> {
        let Self { parts, asked, .. } = self;
        let said = &onward.headers;
        let method = said.pseudo(":method").map(str::parse).transpose().map_err(|_| "the method is none")?;
        let target: Option<PathAndQuery> =
            said.pseudo(":path").map(str::parse).transpose().map_err(|_| "the path is none")?;
        let authority = said.pseudo(":authority").map(str::parse).transpose();
        let authority: Option<http::uri::Authority> = authority.map_err(|_| "the authority is none")?;
        let mut changed = parts.clone();
        let mut uri = parts.uri.clone().into_parts();
        uri.path_and_query = target.or(uri.path_and_query);
        if uri.authority.is_some() {
            uri.authority = authority.clone().or(uri.authority);
        }
        changed.uri = Uri::from_parts(uri).map_err(|_| "the target is none")?;
        // Another protocol is asked for by one method only.
        changed.method = method.filter(|_| asked.upgrade.is_none()).unwrap_or(changed.method);
        if let Some(authority) = &authority {
            let host = authority.as_str().parse().map_err(|_| "the authority is none")?;
            changed.headers.insert(HOST, host);
        }
        identify::is_sound(&changed)?;
        **parts = changed;
        asked.authority = authority.or_else(|| asked.authority.take());
        Ok(())
    }
}

fn shown(headers: &HeaderMap, is_shown: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut some = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers.iter().filter(|(name, _)| is_shown(name)) {
        some.append(name.clone(), value.clone());
    }
    some
}

/// Has an answer go by them, the other way round.
pub(crate) async fn response(record: &Record, answer: &mut Edited, all: &Processors) -> Result<(), Refused> {
    for one in all.iter().rev() {
        // The request was stopped while it was on its way.
        if let Some(refused) = one.refusal() {
            return Err(refused);
        }
        Box::pin(Response { one, record, answer }.go()).await.map_err(|failed| failed.refused(one))?;
    }
    Ok(())
}

/// An answer and a processor.
struct Response<'a> {
    one: &'a Arc<Processor>,
    record: &'a Record,
    answer: &'a mut Edited,
}

impl Response<'_> {
    async fn go(&mut self) -> Result<(), Failed> {
        if self.one.modes().response_body == BodyMode::Duplex {
            return Box::pin(self.flow()).await;
        }
        if self.one.modes().response_headers
            && let Some(onward) = self.tell_headers().await?
        {
            self.change(&onward).await?;
            if onward.last {
                if let Some(body) = onward.body {
                    self.answer.replace(body.into(), None, None);
                }
                return Ok(());
            }
        }
        if self.answer.protocol.is_some() {
            self.one.over().await;
        } else if !self.answer.body.is_end_stream() {
            Box::pin(self.body()).await?;
        }
        Ok(())
    }

    async fn tell_headers(&self) -> Result<Option<Box<Onward>>, Stopped> {
        let is_end = self.answer.body.is_end_stream();
        let message = |first: Option<&_>| self.head(is_end, first);
        self.one.tell(step(Way::Response, Part::Headers), message).await
    }

    /// What it is told of the headers.
    fn head(&self, is_end: bool, first: Option<&First>) -> Bytes {
        let Self { one, answer, .. } = self;
        let status = answer.response.status();
        let pseudo = [(":status", status.as_str())];
        let headers = shown(answer.response.headers(), |name| one.policy.shown.holds(name));
        process::headers(Way::Response, Head { pseudo: &pseudo, headers: &headers }, is_end, first)
    }

    async fn change(&mut self, onward: &Onward) -> Result<(), Stopped> {
        let head = &mut self.answer.response;
        self.one.change(&onward.headers, head.headers_mut(), false).await?;
        // One that begins another protocol stays one.
        if let Some(status) = onward.headers.status().filter(|_| self.answer.protocol.is_none()) {
            *head.status_mut() = status;
        }
        Ok(())
    }

    async fn body(&mut self) -> Result<(), Failed> {
        let rest = self.one.modes().rest(Way::Response);
        if rest.body.is_kept() {
            return self.kept(rest.body == BodyMode::Buffered, rest.trailers).await;
        }
        if rest.body == BodyMode::Streamed || rest.trailers {
            let (to, by) = crate::body::pipe();
            let from = std::mem::replace(&mut self.answer.body, by);
            self.answer.response.headers_mut().remove(CONTENT_LENGTH);
            pieces::pump(self.one, Way::Response, (from.into(), to));
        }
        Ok(())
    }

    async fn kept(&mut self, is_whole: bool, tells_trailers: bool) -> Result<(), Failed> {
        let body = std::mem::replace(&mut self.answer.body, Coming::nothing());
        let most = self.one.policy.body_most;
        let kept = pieces::collect(body, most, self.record.idle()).await.map_err(Failed::Refused)?;
        if is_whole && kept.after.is_some() {
            return Err(Failed::Refused(Refused::AnswerTooLarge));
        }
        let pieces::Kept { bytes, mut trailers, after } = kept;
        let (is_end, told) = (after.is_none() && trailers.is_none(), bytes.clone());
        let message = |first: Option<&_>| process::body(Way::Response, told, is_end, first);
        let onward = self.one.tell(step(Way::Response, Part::Body), message).await?;
        let last = onward.as_ref().is_some_and(|it| it.last);
        if let Some(trailers) = trailers.as_mut().filter(|_| tells_trailers && !last) {
            pieces::trailers(self.one, Way::Response, trailers).await?;
        }
        let mut changed = None;
        if let Some(onward) = onward {
            self.change(&onward).await?;
            changed = onward.body.map(Bytes::from);
        }
        match changed {
            Some(changed) => self.answer.replace(changed, trailers, after),
            None => self.answer.body = Coming::kept(bytes, trailers, after),
        }
        Ok(())
    }
}
