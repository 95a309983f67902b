//! Extension providers of the mesh's configuration (`waypoint.md` 4.8): services that waypoints ask or tell about
//! requests. Owns how they are written and what is wrong with one; kinds that nobody here uses are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::collector::{OpenTelemetry, OtelAls, Zipkin};
use super::line::FileLog;
use super::route::duration;
use crate::fault::Wrong;

/// Of a body nobody is shown more than this.
const BODY_MOST: u32 = 4 << 20;

/// One provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// Its name, by which policies refer to it.
    pub name: String,
    /// It is asked by gRPC whether requests may come in.
    pub envoy_ext_authz_grpc: Option<Box<ExtAuthz>>,
    /// It is asked by HTTP.
    pub envoy_ext_authz_http: Option<Box<ExtAuthz>>,
    /// It collects spans, in OpenTelemetry's protocol.
    pub opentelemetry: Option<Box<OpenTelemetry>>,
    /// It collects spans, as Zipkin's.
    pub zipkin: Option<Box<Zipkin>>,
    /// It takes lines of access logs, in OpenTelemetry's protocol.
    pub envoy_otel_als: Option<Box<OtelAls>>,
    /// Lines of access logs are written by the waypoint itself.
    pub envoy_file_access_log: Option<FileLog>,
}

/// Somebody who is asked whether requests may come in. Fields of HTTP mean nothing for gRPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtAuthz {
    /// The service: `[<namespace>/]<host>`.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// How long an answer is waited for.
    pub timeout: Option<Seconds>,
    /// Whether requests go on without an answer.
    pub fail_open: bool,
    /// Whether routes are chosen by what it changes.
    pub clear_route_cache: bool,
    /// What is answered without one.
    pub status_on_error: Option<StatusText>,
    /// How much of a body it is shown.
    pub include_request_body_in_check: Option<BodyInCheck>,
    /// Put before the path.
    pub path_prefix: String,
    /// Headers that it is shown.
    pub include_request_headers_in_check: Vec<String>,
    /// The same, by its name of old.
    pub include_headers_in_check: Vec<String>,
    /// Headers beside those of the request.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// Headers of a yes that the request goes on with.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of a yes that the client is answered with.
    pub headers_to_downstream_on_allow: Vec<String>,
    /// Headers of a no that the client is answered with.
    pub headers_to_downstream_on_deny: Vec<String>,
}

/// How much of a body is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BodyInCheck {
    /// At most this many bytes.
    pub max_request_bytes: u32,
    /// Whether of more the beginning is shown.
    pub allow_partial_message: bool,
    /// Whether as bytes.
    pub pack_as_bytes: bool,
}

/// A duration as protobuf writes it in JSON (`1.5s`), or as routes do (`1m30s`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Seconds(pub Duration);

impl TryFrom<String> for Seconds {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let seconds = || text.strip_suffix('s')?.parse().ok().map(Duration::try_from_secs_f64)?.ok();
        duration(&text)
            .or_else(seconds)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no duration; write 10s"))
    }
}

/// A status of an answer, which is written as a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct StatusText(pub u16);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u16),
    Text(String),
}

impl TryFrom<Written> for StatusText {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let (code, text) = match written {
            Written::Number(code) => (Some(code), code.to_string()),
            Written::Text(text) => (text.parse().ok(), text),
        };
        let is_status = |code: &u16| (200..600).contains(code);
        let refuse = || format!("{text:?} is no status of an answer; write one from 200 to 599");
        code.filter(is_status).map(Self).ok_or_else(refuse)
    }
}

/// What is wrong with a list of them.
pub(super) fn check(all: &[ExtensionProvider]) -> Result<(), Wrong> {
    let mut names = BTreeSet::new();
    for (at, provider) in all.iter().enumerate() {
        let field = |rest: &str| format!("data.mesh: extensionProviders[{at}].{rest}");
        if provider.name.is_empty() {
            return Err(Wrong::field(field("name"), "", "missing", "give it a name that policies can use"));
        }
        if !names.insert(provider.name.as_str()) {
            let remedy = "give each provider a name of its own";
            return Err(Wrong::field(field("name"), &provider.name, "used twice", remedy));
        }
        for (kind, ask) in [
            ("envoyExtAuthzGrpc", &provider.envoy_ext_authz_grpc),
            ("envoyExtAuthzHttp", &provider.envoy_ext_authz_http),
        ] {
            if let Some(ask) = ask {
                ask.check(&field(kind))?;
            }
        }
        provider.opentelemetry.iter().try_for_each(|it| it.check(&field("opentelemetry")))?;
        provider.zipkin.iter().try_for_each(|it| it.check(&field("zipkin")))?;
        provider.envoy_otel_als.iter().try_for_each(|it| it.check(&field("envoyOtelAls")))?;
        let files = provider.envoy_file_access_log.iter();
        files.map(|it| it.format(&field("envoyFileAccessLog"))).try_for_each(|it| it.map(drop))?;
    }
    Ok(())
}

impl ExtAuthz {
    /// Headers that it is shown, by either name.
    pub fn headers_shown(&self) -> impl Iterator<Item = &String> {
        self.include_request_headers_in_check.iter().chain(&self.include_headers_in_check)
    }

    fn check(&self, field: &str) -> Result<(), Wrong> {
        check_service(field, (&self.service, self.port))?;
        let named = |name: &str| format!("{field}.{name}");
        let prefix = &self.path_prefix;
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
        if !(prefix.is_empty() || prefix.starts_with('/') && prefix.chars().all(plain)) {
            let remedy = "begin it with /, without a query";
            return Err(Wrong::field(named("pathPrefix"), prefix, "not a path", remedy));
        }
        let most = self.include_request_body_in_check.map(|it| it.max_request_bytes);
        if let Some(most) = most.filter(|most| !(1..=BODY_MOST).contains(most)) {
            let field = named("includeRequestBodyInCheck.maxRequestBytes");
            let remedy = "give a number of bytes from 1 to 4194304";
            return Err(Wrong::field(field, &most.to_string(), "out of range", remedy));
        }
        for (name, value) in &self.include_additional_headers_in_check {
            if name.parse::<http::HeaderName>().is_err() || value.parse::<http::HeaderValue>().is_err() {
                let field = named("includeAdditionalHeadersInCheck");
                return Err(Wrong::field(field, name, "not a header", "give a header's name and its value"));
            }
        }
        Ok(())
    }
}

/// A service's host and port, which every provider has that is called.
pub(super) fn check_service(field: &str, (service, port): (&str, u32)) -> Result<(), Wrong> {
    let (namespace, host) =
        service.split_once('/').map_or((None, service), |(namespace, host)| (Some(namespace), host));
    let is_name = |text: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        !text.is_empty() && text.chars().all(letter)
    };
    if !is_name(host) || !namespace.is_none_or(is_name) {
        let remedy = "give the service's whole name, as authz.shop.svc.cluster.local";
        return Err(Wrong::field(format!("{field}.service"), service, "not a service", remedy));
    }
    if !(1..=65535).contains(&port) {
        let remedy = "give the service's port, from 1 to 65535";
        return Err(Wrong::field(format!("{field}.port"), &port.to_string(), "not a port", remedy));
    }
    Ok(())
}
