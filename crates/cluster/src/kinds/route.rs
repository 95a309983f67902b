//! Routes of the Gateway API, with its field names: which requests go where. Types and defaults are here, the rules that
//! span fields in `check`. A word that is not known (a type of filter, of a match) is kept as it stands: what it means
//! that nobody here carries it out is for whoever translates it to say.

mod check;
pub mod connection;
mod external;

use std::time::Duration;

use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::meta::Meta;
use crate::kinds::policy::PolicyCondition;
use crate::kinds::scalar::Port;
use crate::object::Kind;
pub use external::{ExternalAuth, ForwardBody, GrpcAuth, HttpAuth};

/// Who we are among those who say something of routes.
pub const CONTROLLER: &str = "istio.io/gateway-controller";

/// The most that a duration may have of hours, minutes, seconds and milliseconds.
const PARTS: usize = 4;

/// A duration as routes write it: `1h30m`, `100ms`. Of up to four parts, each of up to five digits (GEP-2257).
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut whole = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|count| (1..=5).contains(count))?;
        let (number, unit) = rest.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        let (name, ms) = units.into_iter().find(|(name, _)| unit.starts_with(name))?;
        whole += Duration::from_millis(number * ms);
        rest = unit.strip_prefix(name)?;
        parts += 1;
    }
    (1..=PARTS).contains(&parts).then_some(whole)
}

/// A route of HTTP requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HttpRoute {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: HttpRouteSpec,
    /// What is.
    pub status: RouteStatus,
}

impl HttpRoute {
    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        check::http(&self.spec)
    }
}

/// What is asked of HTTP requests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// Hosts; of no account where it is attached to a service.
    pub hostnames: Vec<String>,
    /// The rules.
    pub rules: Vec<HttpRule>,
}

impl Default for HttpRouteSpec {
    /// A route without a word on rules has one that takes everything.
    fn default() -> Self {
        Self { parent_refs: Vec::new(), hostnames: Vec::new(), rules: vec![HttpRule::default()] }
    }
}

/// What a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentRef {
    /// Its API group; a gateway's when it is left out.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace; the route's own when it is left out.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// One of its sections.
    pub section_name: Option<String>,
    /// One of its ports.
    pub port: Option<Port>,
}

impl ParentRef {
    /// The kind of what it names, if that is the mesh's to serve: what is said of gateways is others' business.
    #[must_use]
    pub fn kind_in_mesh(&self) -> Option<Kind> {
        match (self.group.as_str(), self.kind.as_str()) {
            ("" | "core", "Service") => Some(Kind::Service),
            ("networking.istio.io", "ServiceEntry") => Some(Kind::ServiceEntry),
            _ => None,
        }
    }
}

impl Default for ParentRef {
    fn default() -> Self {
        Self {
            group: "gateway.networking.k8s.io".into(),
            kind: "Gateway".into(),
            namespace: None,
            name: String::new(),
            section_name: None,
            port: None,
        }
    }
}

/// A rule of HTTP requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRule {
    /// Its name.
    pub name: String,
    /// Requests that it is for, any of these; none: all.
    pub matches: Vec<HttpMatch>,
    /// What is done with them.
    pub filters: Vec<Filter>,
    /// Where they go.
    pub backend_refs: Vec<BackendRef>,
    /// How long they may take.
    pub timeouts: Timeouts,
    /// How they are tried again.
    pub retry: Option<Retry>,
    /// How a client is kept with one endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// How a client is kept with one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionPersistence {
    /// What the token is kept under, as older versions of the API have it.
    pub session_name: Option<String>,
    /// `Cookie`, which it is where nothing is said, or `Header`.
    #[serde(rename = "type")]
    pub kind: String,
    /// After this another endpoint may be chosen.
    pub absolute_timeout: Option<String>,
    /// After this without a request, too.
    pub idle_timeout: Option<String>,
    /// The cookie.
    pub cookie: Option<SessionCookie>,
    /// The cookie, as older versions of the API have it.
    pub cookie_config: Option<SessionCookie>,
    /// The header.
    pub header: Option<SessionHeader>,
}

/// A cookie that keeps a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionCookie {
    /// Its name.
    pub name: String,
    /// The path that it is for.
    pub path: String,
    /// `Session`, which it is where nothing is said, or `Permanent`.
    pub lifetime_type: String,
}

/// A header that keeps a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SessionHeader {
    /// Its name.
    pub name: String,
}

impl SessionPersistence {
    /// What the token is kept under, if that is said for either.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.session_name.as_deref().filter(|it| !it.is_empty())
    }

    /// What is said of the cookie, in either way.
    #[must_use]
    pub fn cookie(&self) -> SessionCookie {
        self.cookie.clone().or_else(|| self.cookie_config.clone()).unwrap_or_default()
    }
}

/// Requests of a kind: all that is said must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// By path.
    pub path: Option<PathMatch>,
    /// By headers.
    pub headers: Vec<NamedMatch>,
    /// By parameters of the query.
    pub query_params: Vec<NamedMatch>,
    /// By method.
    pub method: Option<String>,
}

/// A path, or many.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PathMatch {
    /// `Exact`, `PathPrefix`, `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The path.
    pub value: String,
}

impl Default for PathMatch {
    fn default() -> Self {
        Self { kind: "PathPrefix".into(), value: "/".into() }
    }
}

/// A header or a parameter, and its value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NamedMatch {
    /// `Exact`, `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Default for NamedMatch {
    fn default() -> Self {
        Self { kind: "Exact".into(), name: String::new(), value: String::new() }
    }
}

/// Something that is done with requests or answers. One of the members beside the type is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    /// Which it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Headers of requests are changed.
    pub request_header_modifier: Option<HeaderChanges>,
    /// Headers of answers are changed.
    pub response_header_modifier: Option<HeaderChanges>,
    /// The client is sent elsewhere.
    pub request_redirect: Option<Redirect>,
    /// Host or path are changed.
    #[serde(rename = "urlRewrite")]
    pub url_rewrite: Option<Rewrite>,
    /// A copy goes elsewhere.
    pub request_mirror: Option<Mirror>,
    /// Scripts of other origins may ask.
    pub cors: Option<Cors>,
    /// Somebody is asked whether they may go on.
    pub external_auth: Option<ExternalAuth>,
}

/// Changes of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HeaderChanges {
    /// In the place of what was there.
    pub set: Vec<Header>,
    /// Beside what was there.
    pub add: Vec<Header>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// A header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where a client is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathChange>,
    /// The port.
    pub port: Option<Port>,
    /// With which status; 302 when it is left out.
    pub status_code: Option<u16>,
}

/// How host and path are changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rewrite {
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathChange>,
}

/// How a path is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathChange {
    /// `ReplaceFullPath`, `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// In the place of all of it.
    pub replace_full_path: Option<String>,
    /// In the place of what the match is about.
    pub replace_prefix_match: Option<String>,
}

/// Where a copy goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mirror {
    /// Whereto.
    pub backend_ref: BackendRef,
    /// Of how many in a hundred.
    pub percent: Option<u32>,
    /// Of how many.
    pub fraction: Option<Fraction>,
}

/// A part of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Fraction {
    /// So many.
    pub numerator: u32,
    /// Of so many.
    pub denominator: u32,
}

impl Default for Fraction {
    fn default() -> Self {
        Self { numerator: 0, denominator: 100 }
    }
}

/// Which scripts of other origins may ask what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cors {
    /// Of which origins.
    pub allow_origins: Vec<String>,
    /// With cookies and the like.
    pub allow_credentials: bool,
    /// By which methods.
    pub allow_methods: Vec<String>,
    /// With which headers.
    pub allow_headers: Vec<String>,
    /// Headers of answers that they may see.
    pub expose_headers: Vec<String>,
    /// For how many seconds a browser may remember that.
    pub max_age: Option<u32>,
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BackendRef {
    /// Its API group; empty: the core group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; the route's own when it is left out.
    pub namespace: Option<String>,
    /// Its port.
    pub port: Option<Port>,
    /// How many of all go there, among the weights of all.
    pub weight: u32,
    /// What is done with those.
    pub filters: Vec<Filter>,
}

impl Default for BackendRef {
    fn default() -> Self {
        Self {
            group: String::new(),
            kind: "Service".into(),
            name: String::new(),
            namespace: None,
            port: None,
            weight: 1,
            filters: Vec::new(),
        }
    }
}

/// How long requests may take, as `10s` or `1h30m`; `0s`: as long as they like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// All of it.
    pub request: Option<String>,
    /// One attempt.
    pub backend_request: Option<String>,
}

/// How requests are tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Answers with these are tried again.
    pub codes: Vec<u16>,
    /// How often.
    pub attempts: Option<u32>,
    /// At least this long before each.
    pub backoff: Option<String>,
}

/// A route of gRPC calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GrpcRoute {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: GrpcRouteSpec,
    /// What is.
    pub status: RouteStatus,
}

impl GrpcRoute {
    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        check::grpc(&self.spec)
    }
}

/// What is asked of gRPC calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// Hosts; of no account where it is attached to a service.
    pub hostnames: Vec<String>,
    /// The rules.
    pub rules: Vec<GrpcRule>,
}

/// A rule of gRPC calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRule {
    /// Its name.
    pub name: String,
    /// Calls that it is for, any of these; none: all.
    pub matches: Vec<GrpcMatch>,
    /// What is done with them.
    pub filters: Vec<Filter>,
    /// Where they go.
    pub backend_refs: Vec<BackendRef>,
    /// How a client is kept with one endpoint.
    pub session_persistence: Option<SessionPersistence>,
}

/// Calls of a kind: all that is said must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GrpcMatch {
    /// By what is called.
    pub method: Option<MethodMatch>,
    /// By headers.
    pub headers: Vec<NamedMatch>,
}

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MethodMatch {
    /// `Exact`, `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The service; empty: any.
    pub service: String,
    /// The method; empty: any.
    pub method: String,
}

impl Default for MethodMatch {
    fn default() -> Self {
        Self { kind: "Exact".into(), service: String::new(), method: String::new() }
    }
}

/// What is true of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RouteStatus {
    /// By what it is attached to, and by who says it.
    pub parents: Vec<ParentStatus>,
}

/// What somebody says of a route and one of its parents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentStatus {
    /// The parent.
    pub parent_ref: ParentRef,
    /// Who says it.
    pub controller_name: String,
    /// What is true.
    pub conditions: Vec<PolicyCondition>,
}
