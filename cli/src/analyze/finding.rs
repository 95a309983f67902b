//! One thing that is wrong, with its code, where it stands, and the remedy. Owns the list of codes.

use std::path::PathBuf;

use ambit_cluster::files::Remark;
use ambit_cluster::kinds::meta::Meta;
use ambit_cluster::{Fault, Kind, ObjectRef};
use serde::Serialize;

/// What a finding is about, and how grave it is. A code never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Code {
    /// `AMB` and four digits.
    pub(crate) id: &'static str,
    /// How grave.
    pub(crate) severity: Severity,
    /// What it says, for the list of codes.
    pub(crate) about: &'static str,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It would be taken, and may not mean what was meant.
    Warning,
    /// The object would be refused, or cannot do what it says.
    Error,
}

impl Severity {
    /// In a line of text.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

const fn error(id: &'static str, about: &'static str) -> Code {
    Code { id, severity: Severity::Error, about }
}

const fn warning(id: &'static str, about: &'static str) -> Code {
    Code { id, severity: Severity::Warning, about }
}

pub(super) const REFUSED: Code =
    error("AMB0001", "an object or a file that cannot be read, or would be refused");
pub(super) const DOUBTFUL: Code =
    warning("AMB0002", "an object that would be taken, and may not mean what was meant");
pub(super) const CONDITION: Code =
    warning("AMB0003", "the mesh says on the object that it is not, or only partly, in force");
pub(super) const SELECTS_NOTHING: Code = warning("AMB0101", "a policy whose selector chooses no workload");
pub(super) const NO_TARGET: Code =
    error("AMB0102", "a policy whose targetRef names an object that is not there");
pub(super) const SAME_SCOPE: Code =
    warning("AMB0103", "two PeerAuthentications for the same workloads; the older one counts");
pub(super) const UNKNOWN_PORT: Code =
    warning("AMB0104", "a port of portLevelMtls on which no service and no container is");
pub(super) const TRUST_DOMAIN: Code =
    warning("AMB0105", "a principal of a trust domain that is not the mesh's");
pub(super) const UNKNOWN_PEER: Code =
    warning("AMB0106", "a source that names a namespace or an account that is not there");
pub(super) const IGNORED_SELECTOR: Code =
    warning("AMB0107", "a PeerAuthentication with a selector in the mesh's namespace, which is ignored");
pub(super) const NOT_ENROLLED: Code = warning("AMB0201", "pods that are to be in the mesh and are not");
pub(super) const UNKNOWN_MODE: Code =
    warning("AMB0202", "a value of istio.io/dataplane-mode that means nothing");
pub(super) const TWO_MODES: Code =
    warning("AMB0203", "a namespace that asks for sidecars and for the mesh without them");
pub(super) const SAME_HOST: Code =
    warning("AMB0301", "a host that a service or another ServiceEntry of the namespace has, which counts");
pub(super) const TWO_PROTOCOLS: Code =
    error("AMB0302", "ServiceEntries that say different protocols for a port of one host");
pub(super) const NO_ENDPOINTS: Code = warning("AMB0303", "a service without a ready endpoint");
pub(super) const NO_WAYPOINT: Code =
    error("AMB0304", "a use-waypoint label that names a Gateway that is not there");

/// All of them.
pub(crate) const CODES: [Code; 17] = [
    REFUSED,
    DOUBTFUL,
    CONDITION,
    SELECTS_NOTHING,
    NO_TARGET,
    SAME_SCOPE,
    UNKNOWN_PORT,
    TRUST_DOMAIN,
    UNKNOWN_PEER,
    IGNORED_SELECTOR,
    NOT_ENROLLED,
    UNKNOWN_MODE,
    TWO_MODES,
    SAME_HOST,
    TWO_PROTOCOLS,
    NO_ENDPOINTS,
    NO_WAYPOINT,
];

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    /// None where it was read from a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<PathBuf>,
    /// Counted from 1; none where the file itself is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) document: Option<usize>,
    pub(crate) object: Option<String>,
    pub(crate) field: String,
    pub(crate) value: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
    /// For choosing by namespace; empty for what is in none.
    #[serde(skip)]
    pub(crate) namespace: String,
}

impl Finding {
    /// About an object.
    pub(super) fn about(code: Code, kind: Kind, meta: &Meta, what: impl Into<String>, remedy: &str) -> Self {
        let object = ObjectRef::new(kind, &meta.namespace, &meta.name);
        let namespace = if kind == Kind::Namespace { &meta.name } else { &meta.namespace };
        Self {
            code: code.id,
            severity: code.severity,
            file: None,
            document: None,
            object: Some(object.to_string()),
            field: String::new(),
            value: String::new(),
            problem: what.into(),
            remedy: remedy.into(),
            namespace: namespace.clone(),
        }
    }

    /// At a field of it.
    pub(super) fn at(mut self, field: impl Into<String>, value: &str) -> Self {
        (self.field, self.value) = (field.into(), value.into());
        self
    }

    fn of(fault: Fault, code: Code) -> Self {
        Self {
            code: code.id,
            severity: code.severity,
            file: (!fault.file.as_os_str().is_empty()).then_some(fault.file),
            document: (fault.document > 0).then_some(fault.document),
            namespace: fault.object.as_ref().map(|it| it.namespace.to_string()).unwrap_or_default(),
            object: fault.object.map(|object| object.to_string()),
            field: fault.wrong.field,
            value: fault.wrong.value,
            problem: fault.wrong.problem,
            remedy: fault.wrong.remedy,
        }
    }
}

impl From<Remark> for Finding {
    fn from(Remark { fault, refused }: Remark) -> Self {
        Self::of(fault, if refused { REFUSED } else { DOUBTFUL })
    }
}

/// Of an object that a cluster holds, and that cannot be read.
impl From<Fault> for Finding {
    fn from(fault: Fault) -> Self {
        Self::of(fault, REFUSED)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_there_once_and_is_documented() {
        let ids: BTreeSet<_> = CODES.iter().map(|code| code.id).collect();
        assert_eq!(ids.len(), CODES.len());
        let page = include_str!("../../../docs/observe.md");
        for code in CODES {
            assert!(page.contains(&format!("| {} |", code.id)), "docs/observe.md has no row for {}", code.id);
        }
    }
}
