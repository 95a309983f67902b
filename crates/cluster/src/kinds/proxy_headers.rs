//! Headers that proxies add, as the mesh's configuration has them (`defaultConfig.proxyHeaders`). Owns how they are written,
//! what that means to a waypoint, and what is wrong with it.

use ambit_model::telemetry::{HeaderWords, ProxyHeader, Server};
use serde::Deserialize;

use crate::fault::Wrong;

/// What is said of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyHeaders {
    /// What becomes of `x-forwarded-client-cert`.
    pub forwarded_client_cert: ForwardedClientCert,
    /// Of `x-request-id`.
    pub request_id: Switch,
    /// Of `server` in answers.
    pub server: ServerSwitch,
    /// Of `x-envoy-attempt-count`.
    pub attempt_count: Switch,
    /// Of the other `x-envoy-…`.
    pub envoy_debug_headers: Switch,
    /// Of `x-forwarded-host`.
    pub x_forwarded_host: Added,
    /// Of `x-forwarded-port`.
    pub x_forwarded_port: Added,
}

/// What is there without a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Switch {
    /// Whether it is left out; none: not said.
    pub disabled: Option<bool>,
}

/// What is not there without a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Added {
    /// Whether it is added; none: not said.
    pub enabled: Option<bool>,
}

/// What answers say of who serves them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerSwitch {
    /// Whether it is left to endpoints.
    pub disabled: Option<bool>,
    /// What they say; empty: not said.
    pub value: String,
}

/// What becomes of `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ForwardedClientCert {
    /// As the waypoint is set.
    #[default]
    #[serde(rename = "UNDEFINED")]
    Undefined,
    /// Nobody is told.
    #[serde(rename = "SANITIZE")]
    Sanitize,
    /// What the client says is passed on.
    #[serde(rename = "FORWARD_ONLY")]
    ForwardOnly,
    /// The client is added to what it says itself.
    #[serde(rename = "APPEND_FORWARD")]
    AppendForward,
    /// The client is told of, in the place of what it says itself.
    #[serde(rename = "SANITIZE_SET")]
    SanitizeSet,
    /// What the client says is passed on, whoever it is.
    #[serde(rename = "ALWAYS_FORWARD_ONLY")]
    AlwaysForwardOnly,
}

impl ProxyHeaders {
    /// What waypoints go by.
    ///
    /// What a client itself says of its certificate is never passed on, whatever is said here: it would be believed.
    ///
    /// # Errors
    /// When what answers are to say cannot be said in a header.
    pub fn words(&self) -> Result<HeaderWords, Wrong> {
        let client = match self.forwarded_client_cert {
            ForwardedClientCert::Undefined => None,
            ForwardedClientCert::SanitizeSet | ForwardedClientCert::AppendForward => Some(true),
            ForwardedClientCert::Sanitize
            | ForwardedClientCert::ForwardOnly
            | ForwardedClientCert::AlwaysForwardOnly => Some(false),
        };
        let on = |it: Switch| it.disabled.map(|it| !it);
        let all = [
            (ProxyHeader::RequestId, on(self.request_id)),
            (ProxyHeader::Attempts, on(self.attempt_count)),
            (ProxyHeader::Details, on(self.envoy_debug_headers)),
            (ProxyHeader::Host, self.x_forwarded_host.enabled),
            (ProxyHeader::Port, self.x_forwarded_port.enabled),
            (ProxyHeader::Client, client),
        ];
        let those = |wanted: bool| {
            all.iter().filter(move |(_, said)| *said == Some(wanted)).map(|(what, _)| *what).collect()
        };
        let ServerSwitch { disabled, value } = &self.server;
        let server = match (disabled, value.as_str()) {
            (Some(true), _) => Some(Server::Untold),
            (_, "") => None,
            (_, text) => Some(Server::Is(text.parse().map_err(|_| {
                let field = "data.mesh: defaultConfig.proxyHeaders.server.value";
                Wrong::field(field, text, "not a header's value", "use printable ASCII")
            })?)),
        };
        Ok(HeaderWords { told: those(true), untold: those(false), server })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(yaml: &str) -> HeaderWords {
        let given: ProxyHeaders = yaml_serde::from_str(yaml).unwrap();
        given.words().unwrap()
    }

    #[test]
    fn each_word_of_headers_is_about_one_of_them_and_without_any_nothing_is_said() {
        use ProxyHeader::{Attempts, Client, Details, Host, Port, RequestId};
        assert!(words("{}").is_empty());
        assert!(
            words(
                "{requestId: {}, server: {}, forwardedClientCert: UNDEFINED, preserveHttp1HeaderCase: true}"
            )
            .is_empty()
        );
        for (yaml, told, untold) in [
            ("{requestId: {disabled: true}}", vec![], vec![RequestId]),
            (
                "{attemptCount: {disabled: true}, envoyDebugHeaders: {disabled: true}}",
                vec![],
                vec![Attempts, Details],
            ),
            ("{attemptCount: {disabled: false}}", vec![Attempts], vec![]),
            ("{xForwardedHost: {enabled: true}, xForwardedPort: {enabled: true}}", vec![Host, Port], vec![]),
            ("{xForwardedPort: {enabled: false}}", vec![], vec![Port]),
            ("{forwardedClientCert: SANITIZE_SET}", vec![Client], vec![]),
            ("{forwardedClientCert: APPEND_FORWARD}", vec![Client], vec![]),
            ("{forwardedClientCert: SANITIZE}", vec![], vec![Client]),
            ("{forwardedClientCert: ALWAYS_FORWARD_ONLY}", vec![], vec![Client]),
        ] {
            assert_eq!(words(yaml), HeaderWords { told, untold, server: None }, "{yaml}");
        }
        assert_eq!(words("{server: {disabled: true, value: x}}").server, Some(Server::Untold));
        assert_eq!(words("{server: {value: shop}}").server, Some(Server::Is("shop".parse().unwrap())));
        let given: ProxyHeaders = yaml_serde::from_str("{server: {value: \"a\\nb\"}}").unwrap();
        assert_eq!(given.words().unwrap_err().field, "data.mesh: defaultConfig.proxyHeaders.server.value");
    }
}
