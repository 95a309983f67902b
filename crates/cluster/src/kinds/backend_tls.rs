//! BackendTLSPolicy of the Gateway API, with its field names: TLS that is begun to a service, and who vouches for it. A
//! word that is not known is kept as it stands: that nothing may be sent then is for whoever translates it to say.

use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::meta::Meta;
use crate::kinds::policy::PolicyCondition;
use crate::kinds::route::ParentRef;
use crate::kinds::texts::Texts;

/// Targets, and references to certificates: as many as the API server lets through.
const LIST: usize = 16;

/// TLS that is begun to services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BackendTlsPolicy {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: BackendTlsSpec,
    /// What is.
    pub status: BackendTlsStatus,
}

/// What is read of its specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTlsSpec {
    /// What TLS is begun to, in its own namespace.
    pub target_refs: Vec<BackendTarget>,
    /// Who has to answer.
    pub validation: Validation,
    /// What only some implementations know.
    pub options: Texts,
}

/// Something that TLS is begun to.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendTarget {
    /// Its API group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The name of one of its ports; none: all of them.
    pub section_name: Option<String>,
}

/// Who has to answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Validation {
    /// Objects with the certificates of those who vouch.
    pub ca_certificate_refs: Vec<CertificateRef>,
    /// A word for certificates that are there already.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known: Option<String>,
    /// The name that is asked for.
    pub hostname: String,
    /// Names of which the endpoint proves one; none: the one that is asked for.
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// An object of its namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct CertificateRef {
    /// Its API group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A name that a certificate may hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SubjectAltName {
    /// `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A host's.
    pub hostname: String,
    /// A URI.
    pub uri: String,
}

/// What is said of it, by each controller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BackendTlsStatus {
    /// For each of those that it is about.
    pub ancestors: Vec<AncestorStatus>,
}

/// What is said of it where it is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AncestorStatus {
    /// Where.
    pub ancestor_ref: ParentRef,
    /// Who says so.
    pub controller_name: String,
    /// What is true there.
    pub conditions: Vec<PolicyCondition>,
}

impl BackendTlsPolicy {
    /// What no such policy can be. What could be one that is wrong is read, so that nothing is sent for it.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        let Self { spec: BackendTlsSpec { target_refs, validation, .. }, .. } = self;
        let refs = &validation.ca_certificate_refs;
        let remedy = "write several policies, or name fewer";
        for (field, count) in [
            ("spec.targetRefs", target_refs.len()),
            ("spec.validation.caCertificateRefs", refs.len()),
            ("spec.validation.subjectAltNames", validation.subject_alt_names.len()),
        ] {
            if count > LIST {
                let problem = format!("more than {LIST}");
                return Err(Wrong::field(field, &count.to_string(), problem, remedy));
            }
        }
        let Some(at) = target_refs.iter().position(|it| it.name.is_empty()) else { return Ok(()) };
        let field = format!("spec.targetRefs[{at}].name");
        Err(Wrong::field(field, "", "missing", "name the service that TLS is begun to"))
    }

    /// The config maps of its namespace that it refers to.
    pub fn config_maps(&self) -> impl Iterator<Item = &str> {
        let refs = self.spec.validation.ca_certificate_refs.iter();
        refs.filter(|it| it.is_config_map()).map(|it| it.name.as_str())
    }
}

impl CertificateRef {
    /// Whether it is of the one kind that every implementation knows.
    #[must_use]
    pub fn is_config_map(&self) -> bool {
        matches!(self.group.as_str(), "" | "core") && self.kind == "ConfigMap"
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kinds::read;
    use crate::object::{Body, Kind};

    #[test]
    fn what_could_be_a_policy_reads_and_what_names_nothing_or_too_much_is_refused_with_its_field() {
        let target = json!({"group": "", "kind": "Service", "name": "api", "sectionName": "https"});
        let validation = json!({
            "hostname": "api.example.com", "wellKnownCACertificates": "Magic",
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "roots"}, {"group": "", "kind": "Secret", "name": "no"}],
            "subjectAltNames": [{"type": "URI", "uri": "spiffe://x/y"}],
        });
        let policy = |targets: &serde_json::Value| {
            let spec = json!({"targetRefs": targets, "validation": validation});
            read(
                Kind::BackendTlsPolicy,
                &json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec}),
            )
        };
        let Ok(Body::BackendTlsPolicy(read)) = policy(&json!([target])) else { panic!("it does not read") };
        assert_eq!(read.spec.target_refs[0].section_name.as_deref(), Some("https"));
        assert_eq!(read.config_maps().collect::<Vec<_>>(), ["roots"]);
        assert_eq!(read.spec.validation.well_known.as_deref(), Some("Magic"));
        let refused = |targets: &serde_json::Value| policy(targets).unwrap_err().field;
        assert_eq!(refused(&json!([target, {"kind": "Service"}])), "spec.targetRefs[1].name");
        assert_eq!(refused(&json!(vec![target; 17])), "spec.targetRefs");
    }
}
