//! Others that a route wants to be asked whether requests may go on (`waypoint.md` 2.10).

use serde::Deserialize;

use super::BackendRef;
use crate::fault::Wrong;

/// Somebody is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExternalAuth {
    /// `GRPC` or `HTTP`.
    pub protocol: String,
    /// Who.
    pub backend_ref: BackendRef,
    /// What is shown by gRPC.
    pub grpc: Option<GrpcAuth>,
    /// What is shown and told by HTTP.
    pub http: Option<HttpAuth>,
    /// How much of a body is shown.
    pub forward_body: Option<ForwardBody>,
}

/// What is shown by gRPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcAuth {
    /// Headers; none: all of them.
    pub allowed_headers: Vec<String>,
}

/// What is shown and told by HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpAuth {
    /// Put before the path.
    pub path: String,
    /// Headers beside those that are always shown.
    pub allowed_headers: Vec<String>,
    /// Headers of a yes that requests go on with; none: all of them.
    pub allowed_response_headers: Vec<String>,
}

/// How much of a body is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ForwardBody {
    /// At most this many bytes; of more, nothing goes on.
    pub max_size: u16,
}

impl ExternalAuth {
    pub(super) fn check(&self, at: &str) -> Result<(), Wrong> {
        let together = |member: &str| {
            let text = format!("given with the protocol {}", self.protocol);
            Err(Wrong::field(format!("{at}.{member}"), "", text, "remove it, or change the protocol"))
        };
        match self.protocol.as_str() {
            "GRPC" if self.http.is_some() => return together("http"),
            "HTTP" if self.grpc.is_some() => return together("grpc"),
            "GRPC" | "HTTP" => {}
            other => {
                let field = format!("{at}.protocol");
                return Err(Wrong::field(field, other, "not a protocol", "write GRPC or HTTP"));
            }
        }
        if self.backend_ref.name.is_empty() {
            let field = format!("{at}.backendRef.name");
            return Err(Wrong::field(field, "", "missing", "name the service that is asked"));
        }
        let prefix = self.http.as_ref().map(|it| it.path.as_str()).unwrap_or_default();
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
        if prefix.is_empty() || prefix.starts_with('/') && prefix.chars().all(plain) {
            return Ok(());
        }
        let remedy = "begin it with /, without a query";
        Err(Wrong::field(format!("{at}.http.path"), prefix, "not a path", remedy))
    }
}
