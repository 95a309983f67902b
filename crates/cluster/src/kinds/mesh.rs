//! The mesh's configuration, which Istio keeps as YAML inside a config map: what of it bears on records.
//! What is not named here is ignored: most of it is for proxies of another kind.

use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::collector::{DefaultProviders, ProxyConfig};
use crate::kinds::line::AccessLog;
use crate::kinds::meta::{LabelSelector, Meta};
use crate::kinds::pem::Pem;
use crate::kinds::provider::{self, ExtensionProvider};

/// A config map; the mesh's configuration is read, and certificates of those who vouch for servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConfigMap {
    /// Metadata.
    pub metadata: Meta,
    /// Its texts.
    pub data: ConfigData,
}

/// The texts that are read of a config map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConfigData {
    /// The mesh's configuration, as YAML.
    pub mesh: Option<String>,
    /// Certificates of those who vouch for servers.
    #[serde(rename = "ca.crt")]
    pub roots: Option<Pem>,
}

impl ConfigMap {
    /// The mesh's configuration, if it is a config map for that.
    ///
    /// # Errors
    /// When it is, and does not read.
    pub fn mesh(&self) -> Result<Option<MeshConfig>, Wrong> {
        let name = self.metadata.name.as_str();
        let text = self.data.mesh.as_deref().filter(|_| name == "istio" || name.starts_with("istio-"));
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        let config: MeshConfig = yaml_serde::from_str(text).map_err(|error| {
            let message = error.to_string();
            let (problem, remedy) = message.split_once("; ").unwrap_or((&message, "correct the YAML there"));
            Wrong::field("data.mesh", "", problem, remedy)
        })?;
        config.check()?;
        Ok(Some(config))
    }

    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        self.mesh().map(drop)
    }
}

/// What is read of the mesh's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// Who vouches for identities.
    pub trust_domain: Option<String>,
    /// Other names of it.
    pub trust_domain_aliases: Vec<String>,
    /// The namespace whose policies are for everyone.
    pub root_namespace: Option<String>,
    /// Which namespaces are looked at; empty: all.
    pub discovery_selectors: Vec<LabelSelector>,
    /// Who may see which service entries; none: everybody all of them.
    pub service_entry_visibility: Option<EntryVisibility>,
    /// Services that waypoints ask or tell about requests.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Which of them are told of all requests.
    pub default_providers: DefaultProviders,
    /// What all proxies are told.
    pub default_config: ProxyConfig,
    /// Lines of access logs.
    #[serde(flatten)]
    pub access_log: AccessLog,
}

impl MeshConfig {
    fn check(&self) -> Result<(), Wrong> {
        let own = self.trust_domain.iter().map(|it| ("data.mesh: trustDomain", it));
        let aliases = self.trust_domain_aliases.iter().map(|it| ("data.mesh: trustDomainAliases", it));
        if let Some((field, domain)) = own.chain(aliases).find(|(_, it)| !is_domain(it)) {
            let remedy = "use lower-case letters, digits, '-', '_' and '.'";
            return Err(Wrong::field(field, domain, "not a trust domain", remedy));
        }
        provider::check(&self.extension_providers)?;
        self.access_log.format()?;
        self.default_config.tracing.check()?;
        self.default_config.proxy_headers.words()?;
        let selectors = self.discovery_selectors.iter();
        let policies = self.service_entry_visibility.iter().flat_map(|it| &it.policies);
        let rules = policies.flat_map(|it| &it.matching_rules).map(|it| &it.namespace_selector);
        selectors.chain(rules).try_for_each(|selector| selector.check("data.mesh"))
    }
}

/// What SPIFFE allows as a trust domain.
fn is_domain(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 255 && text.chars().all(letter)
}

/// Who may see which service entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntryVisibility {
    /// For those that no policy is about.
    pub default_visibility: Visible,
    /// The first that applies counts.
    pub policies: Vec<VisibilityPolicy>,
}

/// For whom an entry is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Visible {
    /// Not said: everybody.
    #[default]
    #[serde(rename = "VISIBILITY_UNSPECIFIED", alias = "UNSPECIFIED")]
    Unspecified,
    /// Everybody.
    #[serde(rename = "PUBLIC")]
    Public,
    /// Its own namespace.
    #[serde(rename = "NAMESPACE")]
    Namespace,
    /// Nobody.
    #[serde(rename = "NONE")]
    None,
}

/// The visibility of some entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VisibilityPolicy {
    /// For whom they are.
    pub visibility: Visible,
    /// All must match; none: every entry.
    pub matching_rules: Vec<MatchingRule>,
}

/// Which entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchingRule {
    /// By the labels of their namespace.
    pub namespace_selector: LabelSelector,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(mesh: &str) -> Result<Option<MeshConfig>, Wrong> {
        let metadata = Meta { name: "istio".into(), ..Meta::default() };
        ConfigMap { metadata, data: ConfigData { mesh: Some(mesh.into()), ..ConfigData::default() } }.mesh()
    }

    #[test]
    fn what_bears_on_records_is_read_and_the_rest_ignored() {
        let read = config(
            "accessLogFile: /dev/stdout\ndefaultConfig: {discoveryAddress: x}\ntrustDomain: a.example\n\
             trustDomainAliases: [old.example]\n\
             discoverySelectors:\n- matchLabels: {mesh: yes-it-is}\n- matchExpressions:\n  - {key: env, operator: In, values: [a, b]}\n\
             serviceEntryVisibility:\n  defaultVisibility: NAMESPACE\n  policies:\n  - visibility: PUBLIC\n    matchingRules:\n    - namespaceSelector: {matchLabels: {trusted: 'true'}}\n",
        );
        let read = read.unwrap().unwrap();
        assert_eq!(read.trust_domain.as_deref(), Some("a.example"));
        assert_eq!(read.trust_domain_aliases, ["old.example"]);
        assert_eq!(read.discovery_selectors.len(), 2);
        let visibility = read.service_entry_visibility.unwrap();
        assert_eq!(visibility.default_visibility, Visible::Namespace);
        assert_eq!(visibility.policies[0].visibility, Visible::Public);
    }

    #[test]
    fn providers_are_read_and_those_of_other_kinds_passed_over() {
        let read = config(
            "extensionProviders:\n- {name: else, skywalking: {service: a, port: 1}}\n- name: grpc\n  envoyExtAuthzGrpc: \
             {service: shop/authz.example, port: 9000, timeout: 1.5s, failOpen: true, statusOnError: '503', \
             includeRequestBodyInCheck: {maxRequestBytes: 10, packAsBytes: true}}\n- name: http\n  envoyExtAuthzHttp: \
             {service: a.b, port: 80, timeout: 1m, statusOnError: 500, includeHeadersInCheck: [cookie]}\n",
        );
        let all = read.unwrap().unwrap().extension_providers;
        let [other, grpc, http] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((other.name.as_str(), &other.envoy_ext_authz_grpc), ("else", &None));
        let grpc = grpc.envoy_ext_authz_grpc.as_ref().unwrap();
        assert_eq!(grpc.timeout.unwrap().0, std::time::Duration::from_millis(1500));
        assert_eq!((grpc.status_on_error.unwrap().0, grpc.fail_open), (503, true));
        assert!(grpc.include_request_body_in_check.unwrap().pack_as_bytes);
        let http = http.envoy_ext_authz_http.as_ref().unwrap();
        assert_eq!(http.timeout.unwrap().0, std::time::Duration::from_secs(60));
        assert_eq!(http.headers_shown().collect::<Vec<_>>(), ["cookie"]);
    }

    #[test]
    fn what_is_wrong_in_it_is_said_and_other_config_maps_may_say_anything() {
        for (mesh, told) in [
            ("trustDomain: [", "data.mesh"),
            ("trustDomain: a b", "trustDomain"),
            ("trustDomainAliases: [a, B]", "trustDomainAliases"),
            ("discoverySelectors: [{matchExpressions: [{key: a, operator: In}]}]", "values"),
            ("discoverySelectors: [{matchExpressions: [{key: a, operator: Like}]}]", "Like"),
            ("serviceEntryVisibility: {defaultVisibility: SECRET}", "SECRET"),
            ("extensionProviders: [{}]", "extensionProviders[0].name"),
            ("extensionProviders: [{name: a}, {name: a}]", "used twice"),
            ("extensionProviders: [{name: a, envoyExtAuthzGrpc: {port: 1}}]", "envoyExtAuthzGrpc.service"),
            ("extensionProviders: [{name: a, envoyExtAuthzHttp: {service: a}}]", "envoyExtAuthzHttp.port 0"),
            ("extensionProviders: [{name: a, opentelemetry: {service: a}}]", "opentelemetry.port 0"),
            ("extensionProviders: [{name: a, zipkin: {service: a, port: 1, path: x}}]", "zipkin.path x"),
            (
                "extensionProviders: [{name: a, opentelemetry: {service: a, port: 1, http: {path: /, headers: [{name: a b}]}}}]",
                "http.headers a b",
            ),
            ("defaultConfig: {tracing: {sampling: 101}}", "101"),
            ("defaultConfig: {proxyHeaders: {server: {value: \"a\\nb\"}}}", "proxyHeaders.server.value"),
            ("defaultConfig: {proxyHeaders: {forwardedClientCert: SOME}}", "SOME"),
            ("defaultConfig: {tracing: {customTags: {a: {header: {name: ''}}}}}", "customTags.a.header.name"),
            (
                "extensionProviders: [{name: a, envoyExtAuthzHttp: {service: a, port: 1, pathPrefix: x}}]",
                "pathPrefix x",
            ),
            (
                "extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: a, port: 1, timeout: soon}}]",
                "soon",
            ),
            (
                "extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: a, port: 1, statusOnError: '42'}}]",
                "42",
            ),
            (
                "extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: a, port: 1, includeRequestBodyInCheck: {}}}]",
                "maxRequestBytes 0",
            ),
        ] {
            let wrong = config(mesh).unwrap_err();
            let text = format!("{} {} {} {}", wrong.field, wrong.value, wrong.problem, wrong.remedy);
            assert!(text.contains(told), "{text}");
        }
        let metadata = Meta { name: "my-app".into(), ..Meta::default() };
        let other =
            ConfigMap { metadata, data: ConfigData { mesh: Some("[".into()), ..ConfigData::default() } };
        assert_eq!(other.mesh(), Ok(None));
    }
}
