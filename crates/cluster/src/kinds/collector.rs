//! Extension providers that collect spans, and what the mesh's configuration says of traces (`waypoint.md` 4.6, 5.3). Owns
//! how they are written and what is wrong with one.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::provider::{Seconds, check_service};
use super::proxy_headers::ProxyHeaders;
use crate::fault::Wrong;

/// Spans are sent in OpenTelemetry's protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenTelemetry {
    /// The service: `[<namespace>/]<host>`.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// As requests of HTTP; else as calls of gRPC.
    pub http: Option<OverHttp>,
    /// How gRPC is called.
    pub grpc: OverGrpc,
}

/// Spans are sent in requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OverHttp {
    /// Where.
    pub path: String,
    /// How long an answer is waited for.
    pub timeout: Option<Seconds>,
    /// Headers beside those of the request.
    pub headers: Vec<Added>,
}

/// Spans are sent in calls of gRPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OverGrpc {
    /// How long an answer is waited for.
    pub timeout: Option<Seconds>,
    /// Headers beside those of the call.
    pub initial_metadata: Vec<Added>,
}

/// A header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Added {
    /// Its name.
    #[serde(alias = "key")]
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Spans are sent as Zipkin's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Zipkin {
    /// The service: `[<namespace>/]<host>`.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// Where; without a word, `/api/v2/spans`.
    pub path: String,
    /// How long an answer is waited for.
    pub timeout: Option<Seconds>,
}

/// Lines of access logs are sent in OpenTelemetry's protocol, in calls of gRPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OtelAls {
    /// The service: `[<namespace>/]<host>`.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// What the log is called.
    pub log_name: String,
}

/// Who is told of what, unless somebody says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultProviders {
    /// Who collects spans of all requests.
    pub tracing: Vec<String>,
    /// Where lines of all requests go.
    pub access_logging: Vec<String>,
}

/// What is read of the configuration of all proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Of traces.
    pub tracing: Tracing,
    /// Of headers.
    pub proxy_headers: ProxyHeaders,
}

/// Which requests spans are kept of, and what they say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// How many of a hundred.
    pub sampling: Option<Percent>,
    /// Further attributes.
    pub custom_tags: BTreeMap<String, CustomTag>,
}

/// A share from 0 to 100, to hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Percent {
    /// In ten-thousandths.
    pub parts: u32,
}

impl TryFrom<f64> for Percent {
    type Error = String;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number from 0 to 10,000")]
    fn try_from(percent: f64) -> Result<Self, String> {
        if (0.0..=100.0).contains(&percent) {
            Ok(Self { parts: (percent * 100.0).round() as u32 })
        } else {
            Err(format!("{percent} is no percentage; write a number from 0 to 100"))
        }
    }
}

/// An attribute: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CustomTag {
    /// This text.
    pub literal: Option<Literal>,
    /// What a header says.
    pub header: Option<OfHeader>,
}

/// A text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Literal {
    /// It.
    pub value: String,
}

/// A header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OfHeader {
    /// Its name.
    pub name: String,
    /// Where there is none.
    pub default_value: String,
}

impl OpenTelemetry {
    pub(super) fn check(&self, field: &str) -> Result<(), Wrong> {
        check_service(field, (&self.service, self.port))?;
        if let Some(OverHttp { path, headers, .. }) = &self.http {
            check_path(&format!("{field}.http.path"), path)?;
            check_headers(&format!("{field}.http.headers"), headers)?;
        }
        check_headers(&format!("{field}.grpc.initialMetadata"), &self.grpc.initial_metadata)
    }
}

impl OtelAls {
    pub(super) fn check(&self, field: &str) -> Result<(), Wrong> {
        check_service(field, (&self.service, self.port))
    }
}

impl Zipkin {
    pub(super) fn check(&self, field: &str) -> Result<(), Wrong> {
        check_service(field, (&self.service, self.port))?;
        check_path(&format!("{field}.path"), &self.path)
    }
}

impl Tracing {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        for (name, tag) in &self.custom_tags {
            let named = tag.header.as_ref().map_or("x", |it| it.name.as_str());
            if named.parse::<http::HeaderName>().is_err() {
                let field = format!("data.mesh: defaultConfig.tracing.customTags.{name}.header.name");
                return Err(Wrong::field(field, named, "not a header's name", "give one, as x-user"));
            }
        }
        Ok(())
    }
}

fn check_path(field: &str, path: &str) -> Result<(), Wrong> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
    if path.is_empty() || path.starts_with('/') && path.chars().all(plain) {
        return Ok(());
    }
    Err(Wrong::field(field, path, "not a path", "begin it with /, without a query"))
}

fn check_headers(field: &str, headers: &[Added]) -> Result<(), Wrong> {
    let is_none = |it: &&Added| {
        it.name.parse::<http::HeaderName>().is_err() || it.value.parse::<http::HeaderValue>().is_err()
    };
    match headers.iter().find(is_none) {
        None => Ok(()),
        Some(it) => Err(Wrong::field(field, &it.name, "not a header", "give a header's name and its value")),
    }
}
