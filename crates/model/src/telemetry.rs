//! What is told of requests, where somebody has a say in it (`waypoint.md` 4.6): which spans, which lines of the access
//! log, which counters, which headers. Owns whom a say is for, which of several counts, the conditions of lines (`filter`) and the values
//! of labels. What spans, lines and counters are is the waypoint's.

mod filter;
mod headers;
mod label;
mod levels;

use std::sync::Arc;

use crate::name::{Label, Namespace, PolicyKey, ServiceKey};
use crate::provider::{Tag, Traced};
use crate::trace::Sampling;
pub use filter::{Attribute, Facts, Filter, FilterError, Formula, Value};
pub use headers::{HeaderWords, ProxyHeader, Server};
pub use label::{LabelWord, OTHER, Relabel, UNKNOWN, is_label_name};
pub use levels::{Levels, TracingSaid};

/// What one object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Its name.
    pub key: PolicyKey,
    /// Whose requests it is about: at each of these it is the only one.
    pub scopes: Vec<Scope>,
    /// Of spans.
    pub tracing: Option<Tracing>,
    /// Of lines of the access log, in this order.
    pub logging: Vec<LogWord>,
    /// Counters that are not kept.
    pub uncounted: Vec<Metric>,
    /// Counters that are kept, whatever was said where it is less special.
    pub counted: Vec<Metric>,
    /// Labels of counters that are otherwise than usual; of two words about one label the later one counts.
    pub labels: Vec<LabelWord>,
    /// Headers that waypoints add.
    pub headers: HeaderWords,
}

/// Whose requests something is about, from the least to the most special.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// All of the mesh, where nobody says anything: what its configuration says.
    Usual,
    /// All of the mesh.
    Mesh,
    /// Those through the waypoints of a namespace, and those to its services.
    Namespace(Namespace),
    /// Those through any waypoint of our class.
    Class,
    /// Those through one waypoint.
    Waypoint {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: Label,
    },
    /// Those to one service.
    Service(ServiceKey),
}

/// What is said of spans; what is not said is as it is where it is less special.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracing {
    /// Who is told.
    pub providers: Option<Vec<Label>>,
    /// How many of those of which nobody has decided.
    pub sampling: Option<Sampling>,
    /// Whether nobody is told.
    pub disabled: Option<bool>,
    /// Further attributes.
    pub tags: Option<Vec<(Label, Tag)>>,
    /// Whether there are those that only meshes know.
    pub istio_tags: Option<bool>,
    /// What the mesh wants where nobody says anything.
    pub usual: Traced,
}

/// What is said of lines of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogWord {
    /// Where they go; empty: it is about all of them.
    pub to: Vec<Sink>,
    /// Whether there are none.
    pub disabled: Option<bool>,
    /// Of which requests there are some.
    pub filter: Option<Arc<Filter>>,
}

/// Where lines of the access log go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// To the log of the program, in its own form.
    Log,
    /// To the log of the program, as the provider of this name has lines.
    File(Label),
    /// To a collector.
    Collector(Label),
}

/// What is counted of requests, and of connections that are not HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// How many.
    Requests,
    /// How long they took.
    Duration,
    /// How large they are.
    RequestSize,
    /// How large their answers are.
    ResponseSize,
    /// Messages of calls of gRPC.
    RequestMessages,
    /// Messages of their answers.
    ResponseMessages,
    /// Connections begun that are not HTTP.
    Opened,
    /// Those that ended.
    Closed,
    /// Their bytes from client to server.
    Received,
    /// Their bytes from server to client.
    Sent,
}

/// What is said of one by those that are named for a no, and for a yes.
fn said_of<T: PartialEq>(no: &[T], yes: &[T], of: &T) -> Option<bool> {
    if no.contains(of) { Some(false) } else { yes.contains(of).then_some(true) }
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Requests,
        Self::Duration,
        Self::RequestSize,
        Self::ResponseSize,
        Self::RequestMessages,
        Self::ResponseMessages,
        Self::Opened,
        Self::Closed,
        Self::Received,
        Self::Sent,
    ];

    /// What objects call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "REQUEST_COUNT",
            Self::Duration => "REQUEST_DURATION",
            Self::RequestSize => "REQUEST_SIZE",
            Self::ResponseSize => "RESPONSE_SIZE",
            Self::RequestMessages => "GRPC_REQUEST_MESSAGES",
            Self::ResponseMessages => "GRPC_RESPONSE_MESSAGES",
            Self::Opened => "TCP_OPENED_CONNECTIONS",
            Self::Closed => "TCP_CLOSED_CONNECTIONS",
            Self::Received => "TCP_RECEIVED_BYTES",
            Self::Sent => "TCP_SENT_BYTES",
        }
    }

    /// The one of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}
