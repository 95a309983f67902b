//! Istio's policies, with its field names. Unknown fields are refused: a mistyped condition that is silently
//! dropped would widen the policy.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::meta::{Meta, Texts};
use crate::kinds::scalar::{AccountName, Cidr, NOT_A_PORT, NOT_A_RANGE, Port, PortText, Word};
use crate::kinds::schema;

/// Who may talk to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AuthorizationPolicy {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: AuthorizationSpec,
    /// What became of it.
    pub status: PolicyStatus,
}

/// What is read of a policy's status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PolicyStatus {
    /// What is true of it.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<PolicyCondition>,
}

/// Something that is true or false of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["type", "status"]))]
pub struct PolicyCondition {
    /// What about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// Since when.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// Of which generation of the object it was said; Istio writes it as text.
    #[serde(deserialize_with = "generation")]
    #[schemars(schema_with = "schema::number_or_text")]
    pub observed_generation: i64,
}

/// A number, or one written as text; what is neither was said of no generation.
fn generation<'de, D: serde::Deserializer<'de>>(input: D) -> Result<i64, D::Error> {
    let value = serde_json::Value::deserialize(input)?;
    Ok(value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default())
}

impl AuthorizationPolicy {
    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        let spec = &self.spec;
        if spec.action == PolicyAction::Deny && spec.rules.is_empty() && spec.targets().next().is_none() {
            let remedy = "add rules, or one empty rule {} to deny everything";
            return Err(Wrong::field("spec.action", "DENY", "denies nothing without rules", remedy));
        }
        for (at, rule) in spec.rules.iter().enumerate() {
            for (nth, when) in rule.when.iter().enumerate() {
                when.check(&format!("spec.rules[{at}].when[{nth}]"))?;
            }
        }
        Ok(())
    }
}

/// What is read of an authorization policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AuthorizationSpec {
    /// Which workloads; none: all of the namespace.
    pub selector: Option<Selector>,
    /// One object that enforces it.
    pub target_ref: Option<PolicyTarget>,
    /// Objects that enforce it.
    #[schemars(length(max = 16))]
    pub target_refs: Vec<PolicyTarget>,
    /// What a match means.
    pub action: PolicyAction,
    /// The rules, of which any may match.
    #[schemars(length(max = 512))]
    pub rules: Vec<Rule>,
    /// Who decides for `CUSTOM`.
    pub provider: Option<Provider>,
}

impl AuthorizationSpec {
    /// The objects it is attached to, if it is attached by reference.
    pub fn targets(&self) -> impl Iterator<Item = &PolicyTarget> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

/// An external decider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Its name in the mesh configuration.
    pub name: String,
}

/// Labels that a workload must have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping like {matchLabels: {app: web}}"
)]
pub struct Selector {
    /// The labels; none: every workload of the namespace.
    pub match_labels: Texts,
}

/// An object that a policy is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct PolicyTarget {
    /// The API group.
    #[schemars(length(max = 253))]
    pub group: String,
    /// The kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The namespace; empty: the policy's.
    pub namespace: String,
    /// A part of it.
    #[schemars(length(max = 253))]
    pub section_name: String,
}

/// What a match means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PolicyAction {
    /// Let it in.
    #[default]
    Allow,
    /// Keep it out.
    Deny,
    /// Write it down.
    Audit,
    /// Ask someone else.
    Custom,
}

/// One rule: some `from`, some `to` and every `when`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Sources, of which any may match.
    #[schemars(length(max = 512))]
    pub from: Vec<From>,
    /// Operations, of which any may match.
    #[schemars(length(max = 512))]
    pub to: Vec<To>,
    /// Conditions, which must all hold.
    pub when: Vec<When>,
}

/// A source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct From {
    /// The source.
    pub source: Source,
}

/// Attributes of a peer, which must all match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping like {namespaces: [shop]}"
)]
pub struct Source {
    /// Identities, without `spiffe://`.
    pub principals: Vec<Word>,
    /// Identities that must not match.
    pub not_principals: Vec<Word>,
    /// Identities of a token; HTTP.
    pub request_principals: Vec<Word>,
    /// Identities of a token that must not match; HTTP.
    pub not_request_principals: Vec<Word>,
    /// Namespaces.
    pub namespaces: Vec<Word>,
    /// Namespaces that must not match.
    pub not_namespaces: Vec<Word>,
    /// Service accounts.
    pub service_accounts: Vec<AccountName>,
    /// Service accounts that must not match.
    pub not_service_accounts: Vec<AccountName>,
    /// Peer addresses.
    pub ip_blocks: Vec<Cidr>,
    /// Peer addresses that must not match.
    pub not_ip_blocks: Vec<Cidr>,
    /// Client addresses from headers; HTTP.
    pub remote_ip_blocks: Vec<Cidr>,
    /// Client addresses from headers that must not match; HTTP.
    pub not_remote_ip_blocks: Vec<Cidr>,
    /// Trust domains.
    pub trust_domains: Vec<Word>,
    /// Trust domains that must not match.
    pub not_trust_domains: Vec<Word>,
}

/// An operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct To {
    /// The operation.
    pub operation: Operation,
}

/// Attributes of a request, which must all match. All but the ports are HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Operation {
    /// Hosts.
    pub hosts: Vec<Word>,
    /// Hosts that must not match.
    pub not_hosts: Vec<Word>,
    /// Ports.
    pub ports: Vec<PortText>,
    /// Ports that must not match.
    pub not_ports: Vec<PortText>,
    /// Methods.
    pub methods: Vec<Word>,
    /// Methods that must not match.
    pub not_methods: Vec<Word>,
    /// Paths.
    pub paths: Vec<Word>,
    /// Paths that must not match.
    pub not_paths: Vec<Word>,
}

/// A condition on a named attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["key"]))]
pub struct When {
    /// The attribute.
    pub key: String,
    /// Values.
    pub values: Vec<String>,
    /// Values that must not match.
    pub not_values: Vec<String>,
}

impl When {
    pub(super) fn check(&self, path: &str) -> Result<(), Wrong> {
        if self.key.is_empty() {
            return Err(Wrong::field(
                format!("{path}.key"),
                "",
                "missing",
                "name an attribute, like source.ip",
            ));
        }
        if self.values.is_empty() && self.not_values.is_empty() {
            let remedy = "give values or notValues";
            return Err(Wrong::field(path, &self.key, "the condition demands nothing", remedy));
        }
        let problem = match self.key.as_str() {
            "source.ip" | "destination.ip" | "remote.ip" => NOT_A_RANGE,
            "destination.port" => NOT_A_PORT,
            _ => return Ok(()),
        };
        let good = |text: &str| match self.key.as_str() {
            "destination.port" => Port::read(text).is_some(),
            _ => Cidr::read(text).is_some(),
        };
        let named = [("values", &self.values), ("notValues", &self.not_values)];
        for (list, values) in named {
            if let Some((at, bad)) = values.iter().enumerate().find(|(_, value)| !good(value)) {
                let (why, remedy) = problem.split_once("; ").unwrap_or((problem, ""));
                return Err(Wrong::field(format!("{path}.{list}[{at}]"), bad, why, remedy));
            }
        }
        Ok(())
    }
}

/// Whether peers must prove who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PeerAuthentication {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: PeerSpec,
}

impl PeerAuthentication {
    /// The labels it selects by; none when it is for the whole namespace.
    #[must_use]
    pub fn selector(&self) -> Option<&Texts> {
        self.spec.selector.as_ref().map(|it| &it.match_labels).filter(|labels| !labels.is_empty())
    }

    /// The mode for all ports.
    #[must_use]
    pub fn mode(&self) -> MtlsMode {
        self.spec.mtls.mode
    }

    /// The rules that span several fields.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        if self.spec.port_level_mtls.is_empty() || self.selector().is_some() {
            return Ok(());
        }
        let remedy = "add selector.matchLabels, or remove portLevelMtls";
        Err(Wrong::field(
            "spec.portLevelMtls",
            "",
            "ports can only be set for workloads chosen by a selector",
            remedy,
        ))
    }
}

/// What is read of a peer authentication.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PeerSpec {
    /// Which workloads; none: all of the namespace.
    pub selector: Option<Selector>,
    /// For all ports.
    pub mtls: Mtls,
    /// For single ports of the workload.
    #[schemars(with = "BTreeMap<String, Mtls>", extend("minProperties" = 1))]
    pub port_level_mtls: BTreeMap<PortKey, Mtls>,
}

/// A port number as a key of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey(pub u16);

impl<'de> Deserialize<'de> for PortKey {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        Port::read(&text).map(|port| Self(port.0)).ok_or_else(|| serde::de::Error::custom(NOT_A_PORT))
    }
}

/// A demand on peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping like {mode: STRICT}")]
pub struct Mtls {
    /// The demand.
    pub mode: MtlsMode,
}

/// Whether peers must prove who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MtlsMode {
    /// As the next wider policy says.
    #[default]
    Unset,
    /// They need not.
    Disable,
    /// They may.
    Permissive,
    /// They must.
    Strict,
}
