//! Resource definitions of Istio's kinds that are read here, for clusters where nobody else has installed them, and of
//! our own.
//! Owns names, versions and what `kubectl get` shows. What may be written is said by the types (`schema`).

use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::api::resource;
use crate::kinds::authentication::TokenSpec;
use crate::kinds::destination_rule::DestinationSpec;
use crate::kinds::entry::{EntryEndpoint, ServiceEntrySpec, ServiceEntryStatus, WorkloadEntryStatus};
use crate::kinds::ext_proc::ExtProcSpec;
use crate::kinds::policy::{AuthorizationSpec, PeerSpec, PolicyStatus};
use crate::kinds::rate_limit::RateLimitSpec;
use crate::kinds::schema;
use crate::kinds::telemetry::TelemetrySpec;
use crate::kinds::virtual_service::VirtualServiceSpec;
use crate::object::Kind;

/// What a file of a definition begins with.
const HEAD: &str = "# Generated from the types in crates/cluster/src/kinds by `cargo xtask crds`.\n\
                    # What is not named here is kept, and told of by the mesh.\n";

/// The definition of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The plural of the kind, which its file is called by.
    pub plural: &'static str,
    /// The definition, as it is applied.
    pub object: Value,
}

impl Definition {
    /// As a file.
    ///
    /// # Errors
    /// When it cannot be written as YAML.
    pub fn file(&self) -> Result<String, yaml_serde::Error> {
        Ok(format!("{HEAD}{}", yaml_serde::to_string(&self.object)?))
    }
}

/// How a kind is called, and shown.
struct Shape {
    kind: Kind,
    about: &'static str,
    singular: &'static str,
    short: &'static str,
    /// The newest first, which is stored.
    versions: &'static [&'static str],
    columns: &'static [Column],
}

/// A column of `kubectl get`: its name, where it is, what it says.
type Column = (&'static str, &'static str, &'static str);

const POLICIES: &[&str] = &["v1", "v1beta1"];
const ENTRIES: &[&str] = &["v1", "v1beta1", "v1alpha3"];

const AUTHORIZATION: Shape = Shape {
    kind: Kind::AuthorizationPolicy,
    about: "Who may talk to whom.",
    singular: "authorizationpolicy",
    short: "ap",
    versions: POLICIES,
    columns: &[("Action", ".spec.action", "What a match means")],
};

const PEER: Shape = Shape {
    kind: Kind::PeerAuthentication,
    about: "Whether peers must prove who they are.",
    singular: "peerauthentication",
    short: "pa",
    versions: POLICIES,
    columns: &[("Mode", ".spec.mtls.mode", "Whether peers must prove who they are")],
};

const TOKENS: Shape = Shape {
    kind: Kind::RequestAuthentication,
    about: "Whose tokens are believed.",
    singular: "requestauthentication",
    short: "ra",
    versions: POLICIES,
    columns: &[],
};

const LIMITS: Shape = Shape {
    kind: Kind::RateLimitPolicy,
    about: "How many requests may come.",
    singular: "ratelimitpolicy",
    short: "rlp",
    versions: &["v1alpha1"],
    columns: &[],
};

const PROCESSING: Shape = Shape {
    kind: Kind::ExtProcPolicy,
    about: "By which processor requests go.",
    singular: "extprocpolicy",
    short: "xpp",
    versions: &["v1alpha1"],
    columns: &[("Service", ".spec.service", "The processor")],
};

const SERVICE: Shape = Shape {
    kind: Kind::ServiceEntry,
    about: "A service outside of Kubernetes.",
    singular: "serviceentry",
    short: "se",
    versions: ENTRIES,
    columns: &[
        ("Hosts", ".spec.hosts", "Its names"),
        ("Location", ".spec.location", "Inside the mesh or outside"),
        ("Resolution", ".spec.resolution", "How its endpoints are found"),
    ],
};

const WORKLOAD: Shape = Shape {
    kind: Kind::WorkloadEntry,
    about: "A workload outside of Kubernetes.",
    singular: "workloadentry",
    short: "we",
    versions: ENTRIES,
    columns: &[("Address", ".spec.address", "Where it is")],
};

const ROUTES: Shape = Shape {
    kind: Kind::VirtualService,
    about: "Which requests go where.",
    singular: "virtualservice",
    short: "vs",
    versions: ENTRIES,
    columns: &[
        ("Gateways", ".spec.gateways", "Who carries it out"),
        ("Hosts", ".spec.hosts", "Whose requests it is for"),
    ],
};

const TRAFFIC: Shape = Shape {
    kind: Kind::DestinationRule,
    about: "How traffic to a host is handled.",
    singular: "destinationrule",
    short: "dr",
    versions: ENTRIES,
    columns: &[("Host", ".spec.host", "Whose traffic it is for")],
};

const TELLING: Shape = Shape {
    kind: Kind::Telemetry,
    about: "What is told of requests.",
    singular: "telemetry",
    short: "telemetry",
    versions: &["v1", "v1alpha1"],
    columns: &[],
};

/// All definitions.
#[must_use]
pub fn all() -> Vec<Definition> {
    vec![
        define::<AuthorizationSpec, PolicyStatus>(&AUTHORIZATION),
        define::<PeerSpec, PolicyStatus>(&PEER),
        define::<TokenSpec, PolicyStatus>(&TOKENS),
        define::<RateLimitSpec, PolicyStatus>(&LIMITS),
        define::<ExtProcSpec, PolicyStatus>(&PROCESSING),
        define::<ServiceEntrySpec, ServiceEntryStatus>(&SERVICE),
        define::<EntryEndpoint, WorkloadEntryStatus>(&WORKLOAD),
        define::<VirtualServiceSpec, PolicyStatus>(&ROUTES),
        define::<DestinationSpec, PolicyStatus>(&TRAFFIC),
        define::<TelemetrySpec, PolicyStatus>(&TELLING),
    ]
}

fn define<Spec: JsonSchema, Status: JsonSchema>(shape: &Shape) -> Definition {
    let (kind, plural) = (shape.kind, resource::plural(shape.kind));
    let versions = shape.versions.iter().enumerate().map(|(at, name)| {
        json!({
            "name": name,
            "served": true,
            "storage": at == 0,
            "subresources": { "status": {} },
            "additionalPrinterColumns": columns(shape),
            "schema": { "openAPIV3Schema": {
                "type": "object",
                "description": shape.about,
                "properties": { "spec": schema::of::<Spec>(), "status": schema::of::<Status>() },
            }},
        })
    });
    let versions: Vec<Value> = versions.collect();
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{}", kind.group()) },
        "spec": {
            "group": kind.group(),
            "scope": if kind.namespaced() { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": kind.name(),
                "listKind": format!("{}List", kind.name()),
                "plural": plural,
                "singular": shape.singular,
                "shortNames": [shape.short],
                "categories": [if kind.is_own() { "ambit-io" } else { "istio-io" }],
            },
            "versions": versions,
        },
    });
    Definition { plural, object }
}

fn columns(shape: &Shape) -> Vec<Value> {
    let own = shape.columns.iter().map(
        |(name, path, about)| json!({"name": name, "type": "string", "jsonPath": path, "description": about}),
    );
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    own.chain([age]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_istios_and_ours_that_is_read_is_defined_and_the_version_asked_for_is_stored() {
        let all = all();
        let wanted: Vec<String> = Kind::ALL
            .into_iter()
            .filter(|kind| kind.group().ends_with("istio.io") || kind.group() == "ambit.io")
            .filter_map(resource::definition)
            .collect();
        let mut names: Vec<&str> =
            all.iter().filter_map(|it| it.object["metadata"]["name"].as_str()).collect();
        names.sort_by_key(|name| wanted.iter().position(|it| it == name));
        assert_eq!(names, wanted);
        for definition in &all {
            let stored = &definition.object["spec"]["versions"][0];
            let is_ours = definition.object["spec"]["group"] == "ambit.io";
            let asked_for = if is_ours { "v1alpha1" } else { "v1" };
            assert_eq!((&stored["name"], &stored["storage"]), (&json!(asked_for), &json!(true)));
        }
    }

    /// So that the chart is never behind, also for who runs no more than the tests.
    #[test]
    fn the_files_of_the_chart_are_what_the_types_say() {
        for definition in all() {
            let name = format!("{}.yaml", definition.plural);
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../deploy/helm/base/files/crds")
                .join(&name);
            let have = std::fs::read_to_string(&path).unwrap();
            assert!(have == definition.file().unwrap(), "{name} is behind: `cargo xtask crds`");
        }
    }
}
