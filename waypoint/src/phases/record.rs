//! What is said of a request (`waypoint.md` 5.1, 5.2): one line at its end, and its counters. Owns the keys of the line
//! and the labels; what happened is told to it. Ends exactly once: by word, or as left by the client when dropped.

mod connection;
mod line;
mod operators;
mod said;
mod spans;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ambit_model::address::{Authority, HopAddr};
use ambit_model::name::{Label, PolicyKey};
use ambit_model::provider::HeaderChanges;
use ambit_model::request_policy::{Opinion, Rehearsal, RuleRef, Verdict};
use ambit_model::route::Plan;
use ambit_model::service::AppProtocol;
use ambit_model::telemetry::Metric;
use ambit_model::trace::TraceId;
use ambit_model::workload::Workload;
use ambit_process::clock::{Instant, now};
use ambit_proxy::side::Side;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use tracing::{Level, enabled, info};

pub(crate) use self::connection::Connection;
use self::said::Said;
pub(super) use self::said::protocol;
use super::authorize;
use super::route::{Pages, Route};
use crate::body::{BodyError, Source};
use crate::grpc_web::GrpcWeb;
use crate::idle::Idle;
use crate::lane::Lane;
use crate::messages::Messages;
use crate::metrics::{AskedLabels, ConnectionLabels, ProcessedLabels, RequestLabels};
use crate::pressure::{self, Measure};
use crate::processor::Processor;
use crate::refused::{Refused, Words};
use crate::room::{Full, Seat};
use crate::stream::Inbound;
use crate::trace::{self, Traced};
use crate::upstream::{Met, endpoint};

/// A request's record.
pub(crate) struct Record {
    inbound: Arc<Inbound>,
    began: Instant,
    method: Method,
    uri: Uri,
    version: Version,
    told: Told,
    grpc: bool,
    /// How its client speaks gRPC, where that is as browsers do and the endpoint does not.
    web: Option<GrpcWeb>,
    source: Source,
    attempts: u32,
    sent_at: Instant,
    status: u16,
    grpc_status: Option<u16>,
    flags: &'static str,
    details: &'static str,
    failure: Option<String>,
    judged: Option<Box<Judged>>,
    /// Who else was asked, and what came of it.
    asked: Option<String>,
    /// What they add to the answer.
    back: HeaderChanges,
    /// What its route says of pages, where it does.
    pages: Option<Box<Pages>>,
    /// By whom it goes.
    processors: Vec<Arc<Processor>>,
    connect_status: Option<u16>,
    /// Where it is tried, as long as nobody has answered.
    tried: Option<Tried>,
    destination: Option<Side>,
    /// Where the endpoint is, once somebody wants to know.
    target: OnceLock<Label>,
    service_time: Option<Duration>,
    sent: u64,
    /// Messages of the answer, where they are of gRPC.
    messages: Messages,
    route: Label,
    deadline: Option<Instant>,
    /// How long a fault has held it up.
    held: Duration,
    ended: bool,
    /// Its trace, where somebody collects them.
    traced: Option<Box<Traced>>,
    /// What is said of what is told of it, where anybody has a say.
    said: Option<Box<Said>>,
    /// Its place among the requests under way; none when there was none left.
    seat: Option<Seat>,
}

/// Where a request is tried.
struct Tried {
    workload: Option<Arc<Workload>>,
    at: At,
}

/// Where an endpoint is.
enum At {
    Authority(Authority),
    Hop(HopAddr),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(authority) => authority.fmt(f),
            Self::Hop(hop) => hop.fmt(f),
        }
    }
}

/// What policies say of a request that is worth a word: all but that it may come in.
#[derive(Default)]
struct Judged {
    /// Which policy denied it, in Envoy's words.
    details: Option<String>,
    /// Its name.
    policy: Option<String>,
    /// Those that want it to be written down.
    audited: Option<String>,
    /// What those would have said that are tried out.
    dry_run: Option<String>,
}

/// What a request says that is shown again.
struct Told {
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
}

impl Record {
    /// Begins the record of a request whose head has come.
    pub(crate) fn begin(inbound: Arc<Inbound>, parts: &Parts, source: Source) -> Box<Self> {
        let header = |name: &str| parts.headers.get(name).cloned();
        let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let web = GrpcWeb::asked(parts).filter(|_| inbound.protocol() == AppProtocol::GrpcWeb);
        let grpc = web.is_some() || kind.is_some_and(|kind| kind.starts_with(b"application/grpc"));
        if grpc {
            source.count_messages();
        }
        let began = now();
        let world = inbound.lane.shared.world.load();
        let said = said::begin(&world, &inbound, &parts.headers);
        let of_spans = said.as_deref().map(Said::tracing).unwrap_or_default();
        let mut traced = trace::begin(&world, &parts.headers, of_spans);
        drop(world);
        // Without a span of ours, what comes of the trace goes on as it is.
        if traced.as_ref().is_some_and(|it| it.is_kept()) && pressure::takes(&inbound.lane, Measure::NoSpan) {
            traced = None;
        }
        Box::new(Self {
            traced,
            said,
            inbound,
            began,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            told: Told {
                host: header(HOST.as_str()),
                user_agent: header(USER_AGENT.as_str()),
                forwarded_for: header("x-forwarded-for"),
                request_id: header("x-request-id"),
            },
            grpc,
            web,
            source,
            attempts: 0,
            sent_at: began,
            status: 0,
            grpc_status: None,
            flags: "-",
            details: "downstream_remote_disconnect",
            failure: None,
            judged: None,
            asked: None,
            back: HeaderChanges::default(),
            pages: None,
            processors: Vec::new(),
            connect_status: None,
            destination: None,
            target: OnceLock::new(),
            tried: None,
            service_time: None,
            sent: 0,
            messages: Messages::default(),
            route: Label::default(),
            deadline: None,
            held: Duration::ZERO,
            ended: false,
            seat: None,
        })
    }

    /// Takes its place among the requests under way, until the end of it.
    pub(crate) fn enter(&mut self) -> Result<(), Full> {
        let entered = self.inbound.caller.share.enter();
        if entered.as_ref().is_err_and(|why| *why == Full::Pressed) {
            pressure::count(&self.inbound.lane, Measure::RefuseRequest);
        }
        self.seat = Some(entered?);
        Ok(())
    }

    /// Its target as it may be shown.
    pub(crate) fn show(&mut self, uri: Uri) {
        self.uri = uri;
    }

    pub(crate) fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    pub(crate) fn lane(&self) -> Arc<Lane> {
        Arc::clone(&self.inbound.lane)
    }

    /// Whether another protocol is asked for in HTTP/2's way.
    pub(crate) fn is_upgrade(&self) -> bool {
        self.method == Method::CONNECT
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.grpc
    }

    /// How its client speaks gRPC, if that is otherwise than its endpoint does.
    pub(crate) fn web(&self) -> Option<GrpcWeb> {
        self.web
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.version >= Version::HTTP_2
    }

    /// Whether all of the request's body has gone on.
    pub(crate) fn upload_is_over(&self) -> bool {
        self.source.is_over()
    }

    /// Somebody else was asked; and by which rule, if it goes no further.
    pub(crate) fn asked(&mut self, whom: &AskedLabels, by: Option<&RuleRef>) {
        let before = self.asked.take().map(|before| before + ", ").unwrap_or_default();
        self.asked = Some(format!("{before}{}: {}", whom.provider, whom.outcome.as_str()));
        if let Some(by) = by {
            self.judged.get_or_insert_default().policy = Some(by.policy.to_string());
        }
    }

    /// It goes by these.
    pub(crate) fn processed_by(&mut self, all: &[Arc<Processor>]) {
        self.processors.extend_from_slice(all);
    }

    /// Why somebody whom it goes by has stopped it.
    pub(crate) fn stopped(&self) -> Option<Refused> {
        self.processors.iter().find_map(|one| one.refusal())
    }

    /// What the client is answered has these changes, whoever answers.
    pub(crate) fn answer_with(&mut self, back: HeaderChanges) {
        self.back.extend(back);
    }

    /// What its route says of pages of other origins.
    pub(crate) fn told_to_pages(&mut self, pages: Option<Pages>) {
        self.pages = pages.map(Box::new);
    }

    /// Says it in an answer of our own.
    pub(crate) fn tell_pages(&self, answer: &mut HeaderMap) {
        if let Some(pages) = &self.pages {
            pages.mark(answer);
        }
    }

    /// Changes an answer as others have said.
    pub(crate) fn finish(&mut self, answer: &mut HeaderMap) {
        self.back.apply(answer);
        if let Some(said) = &mut self.said {
            said.answered(answer);
        }
    }

    /// Policies have been asked.
    pub(crate) fn judged(&mut self, opinion: &Opinion) {
        let Opinion { verdict, audited, dry_run } = opinion;
        if verdict.is_allowed() && audited.is_empty() && dry_run.is_empty() {
            return;
        }
        let denial = match verdict {
            Verdict::Allow(_) => None,
            Verdict::Deny(denial) => Some(denial),
        };
        let listed = |list: Vec<String>| (!list.is_empty()).then(|| list.join(", "));
        self.judged = Some(Box::new(Judged {
            details: denial.map(authorize::details),
            policy: denial.and_then(|it| it.policy()).map(PolicyKey::to_string),
            audited: listed(audited.iter().map(PolicyKey::to_string).collect()),
            dry_run: listed(dry_run.iter().map(Rehearsal::to_string).collect()),
        }));
    }

    /// A fault holds it up for so long, which does not count where its time is limited.
    pub(crate) fn held(&mut self, time: Duration) {
        self.held = time;
        self.flags = "DI";
    }

    /// Where it goes is known.
    pub(crate) fn routed(&mut self, route: &Route) {
        self.route = route.name.clone();
        self.deadline = self.due(route);
    }

    /// When all of it must be over, if it goes by this route.
    pub(crate) fn due(&self, route: &Route) -> Option<Instant> {
        route.timeouts().request.after().map(|limit| self.began + self.held + limit)
    }

    /// When all of it must be over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How long the endpoint took to answer.
    pub(crate) fn upstream_took(&self) -> Duration {
        self.service_time.unwrap_or_default()
    }

    /// An attempt begins.
    pub(crate) fn tried(&mut self, plan: &Plan, attempt: u32) {
        self.attempts = attempt;
        self.sent_at = now();
        let at = match plan {
            Plan::Tunnel(to) | Plan::ViaWaypoint(to) => At::Authority(to.authority.clone()),
            Plan::ViaGateway(to) => At::Authority(to.outer.authority.clone()),
            Plan::Direct(to) => At::Hop(to.hop),
        };
        (self.tried, self.destination) = (Some(Tried { workload: endpoint(plan).cloned(), at }), None);
        self.target = OnceLock::new();
    }

    /// An endpoint has answered.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap, met: &Met) {
        self.seated();
        self.status = status.as_u16();
        self.details = "via_upstream";
        self.service_time = Some(self.sent_at.elapsed());
        (self.tried, self.destination) = (None, met.side.clone());
        self.target = met.target.clone().into();
        // An answer without a body says it in its head.
        self.trailers(headers);
    }

    /// An endpoint's answer goes on, with this status.
    pub(crate) fn passes(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// We have answered ourselves.
    pub(crate) fn refused(&mut self, refused: &Refused, words: &Words) {
        self.seated();
        self.status = words.status.as_u16();
        self.flags = words.flags;
        self.details = words.details;
        self.failure = Some(ambit_proxy::fault::chain(refused));
        if let Refused::Upstream(failure) = refused {
            self.connect_status = failure.connect_status();
        }
        self.sent = u64::try_from(words.body.len()).unwrap_or(u64::MAX);
        self.ended = true;
    }

    /// What gRPC was told in our own answer.
    pub(crate) fn grpc(&mut self, status: u16) {
        self.grpc_status = Some(status);
        self.status = StatusCode::OK.as_u16();
    }

    /// Bytes of the answer have gone on.
    pub(crate) fn passed(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// Some of the answer's body has gone on.
    pub(crate) fn saw(&mut self, data: &[u8]) {
        if self.grpc {
            self.messages.see(data);
        }
    }

    /// Trailers have come.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        let status = trailers.get("grpc-status").filter(|_| self.grpc);
        self.grpc_status = status.and_then(|status| status.to_str().ok()?.parse().ok()).or(self.grpc_status);
    }

    /// A processor does not let the rest of the answer go on.
    pub(crate) fn unprocessed(&mut self) {
        self.flags = "UPEX";
        self.details = "ext_proc_error";
        self.failure = self.stopped().as_ref().map(|why| ambit_proxy::fault::chain(why));
        self.ended = true;
    }

    /// The endpoint broke off in the middle of its answer.
    pub(crate) fn broken(&mut self, error: &BodyError) {
        self.flags = "UC";
        self.failure = Some(ambit_proxy::fault::chain(error));
        self.ended = true;
    }

    /// How long the answer may stand still.
    pub(crate) fn idle(&self) -> Idle {
        self.source.idle()
    }

    /// Nothing of the answer has come for too long.
    pub(crate) fn stood_still(&mut self) {
        self.flags = "SI";
        self.details = "stream_idle_timeout";
        self.ended = true;
    }

    /// The answer took too long.
    pub(crate) fn timed_out(&mut self) {
        self.flags = "UT";
        self.details = "response_timeout";
        self.ended = true;
    }

    /// The answer has gone on to its end.
    pub(crate) fn complete(&mut self) {
        self.ended = true;
    }

    fn seated(&mut self) {
        if let Some(seat) = &mut self.seat {
            seat.answered();
        }
    }

    /// Where the endpoint is that has answered, or was tried last.
    fn target(&self) -> Option<&str> {
        let tried = || {
            let tried = self.tried.as_ref()?;
            Some(self.target.get_or_init(|| tried.at.to_string().into()))
        };
        self.target.get().or_else(tried).map(Label::as_str)
    }

    fn labels(&mut self) -> RequestLabels {
        let service = self.inbound.service();
        let unknown = || Side {
            namespace: service.map(|service| service.namespace.as_str().into()).unwrap_or_default(),
            ..Side::default()
        };
        let tried = || {
            let workload = self.tried.as_ref()?.workload.as_ref()?;
            Some(Side::of(workload, Label::default()))
        };
        let ends = ConnectionLabels {
            source: self.inbound.source.clone(),
            destination: self.destination.take().or_else(tried).unwrap_or_else(unknown),
            service: self.inbound.names.clone(),
            protocol: if self.grpc { "grpc" } else { "http" },
            flags: self.flags,
            others: None,
        };
        RequestLabels { ends, code: self.status, grpc: self.grpc_status }
    }

    fn count(&self, labels: &RequestLabels) {
        let metrics = &self.inbound.lane.shared.metrics;
        for one in &self.processors {
            let labels = ProcessedLabels { policy: one.name.clone(), outcome: one.outcome() };
            metrics.processed.get_or_create(&labels).inc();
        }
        let counted = |metric: Metric| self.counts(metric).then(|| self.labels_of(metric, labels));
        let took = self.began.elapsed().as_secs_f64() * 1000.0;
        let (received, sent) = (float(self.source.bytes()), float(self.sent));
        if self.said.as_deref().is_none_or(|said| !said.changes_counters()) {
            let counts = self.inbound.recent.of(metrics, labels);
            counts.requests.inc();
            counts.duration.observe(took);
            counts.request_bytes.observe(received);
            counts.response_bytes.observe(sent);
        } else {
            if let Some(labels) = counted(Metric::Requests) {
                metrics.requests.get_or_create(&labels).inc();
            }
            for (metric, family, value) in [
                (Metric::Duration, &metrics.duration, took),
                (Metric::RequestSize, &metrics.request_bytes, received),
                (Metric::ResponseSize, &metrics.response_bytes, sent),
            ] {
                if let Some(labels) = counted(metric) {
                    family.get_or_create(&labels).observe(value);
                }
            }
        }
        for (metric, family, count) in [
            (Metric::RequestMessages, &metrics.request_messages, self.source.messages()),
            (Metric::ResponseMessages, &metrics.response_messages, self.messages.count()),
        ] {
            if let Some(labels) = self.grpc.then(|| counted(metric)).flatten() {
                family.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// By whom it went, and what came of it.
    fn processors_said(&self) -> Option<String> {
        let said = |one: &Arc<Processor>| format!("{}: {}", one.name, one.outcome().as_str());
        let all: Vec<_> = self.processors.iter().map(said).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    fn say(&self, labels: &RequestLabels, trace: Option<TraceId>) {
        let text =
            |value: &Option<HeaderValue>| value.as_ref().and_then(|v| v.to_str().ok()).map(str::to_owned);
        let filled = |label: &Label| Some(label.to_string()).filter(|text| !text.is_empty());
        let ends = &labels.ends;
        let authority = self.uri.authority().map(|a| a.as_str().to_owned());
        let service_time = self.service_time.map(|took| took.as_millis());
        let (source, destination) = (&ends.source, &ends.destination);
        let duration = format!("{}ms", self.began.elapsed().as_millis());
        let judged = self.judged.as_deref();
        info!(target: "access", {
            method = %self.method,
            path = self.uri.path_and_query().map(|path| path.as_str()),
            protocol = ?self.version,
            response_code = self.status,
            response_flags = self.flags,
            response_code_details = judged.and_then(|it| it.details.as_deref()).unwrap_or(self.details),
            policy = judged.and_then(|it| it.policy.as_deref()),
            audited_by = judged.and_then(|it| it.audited.as_deref()),
            dry_run = judged.and_then(|it| it.dry_run.as_deref()),
            ext_authz = self.asked.as_deref(),
            ext_proc = self.processors_said(),
            connect_status = self.connect_status,
            bytes_received = self.source.bytes(),
            bytes_sent = self.sent,
            duration = duration,
            upstream_service_time = service_time.map(|ms| ms.to_string()),
            upstream_attempts = self.attempts,
            x_forwarded_for = text(&self.told.forwarded_for),
            user_agent = text(&self.told.user_agent),
            request_id = text(&self.told.request_id),
            trace_id = trace.map(|it| it.to_string()),
            authority = authority.or_else(|| text(&self.told.host)),
            upstream_host = self.target(),
            upstream_cluster = filled(&ends.service[0]),
            route_name = filled(&self.route),
            downstream_local_address = self.inbound.asked,
            downstream_remote_address = %self.inbound.client.from,
            source_principal = self.inbound.principal(),
            source_workload = filled(&source.workload),
            destination_principal = filled(&destination.principal),
            destination_workload = filled(&destination.workload),
            grpc_status = labels.grpc,
            error = self.failure.as_deref(),
        }, "request complete");
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.flags = "DC";
            self.details = "downstream_remote_disconnect";
        }
        let labels = self.labels();
        self.count(&labels);
        let id = self.traced.as_ref().filter(|it| it.is_kept()).map(|it| it.id());
        self.end_trace(&labels);
        self.tell_line(&labels, id);
        if enabled!(target: "access", Level::INFO) && self.say_as_asked(&labels, id) {
            self.say(&labels, id);
        }
    }
}

/// Counts are shown, not calculated with.
#[expect(clippy::cast_precision_loss, reason = "a histogram keeps sums as floating point numbers")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}
