//! A waypoint as an object: a Gateway of a class of waypoints, with labels and conditions. Pure.

use ambit_cluster::kinds::waypoint::{CLASSES, FOR, FOR_ACCOUNT, WaypointClass};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::label;
use crate::cluster::dump::text;

/// Where gateways are.
pub(super) const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/gateways";
/// Which control plane sees to it.
const REVISION: &str = "istio.io/rev";
/// The class that is asked for: the one that users know.
const CLASS: &str = CLASSES[0].name;

/// The traffic that a waypoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Traffic {
    /// To services and to workloads.
    All,
    /// To services.
    Service,
    /// To workloads by their own addresses.
    Workload,
    /// None, for now.
    None,
}

impl Traffic {
    fn label(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Service => "service",
            Self::Workload => "workload",
            Self::None => "none",
        }
    }
}

/// A waypoint that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Design {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) traffic: Option<Traffic>,
    pub(super) account: Option<String>,
    pub(super) revision: Option<String>,
}

impl Design {
    /// The object: nothing is in it that was not said.
    pub(super) fn object(&self) -> Value {
        let mut metadata = json!({"name": self.name});
        let mut say = |at: &str, value: Value| {
            if let Some(members) = metadata.as_object_mut() {
                members.insert(at.to_owned(), value);
            }
        };
        if let Some(namespace) = &self.namespace {
            say("namespace", json!(namespace));
        }
        let labels = [
            self.traffic.map(|it| (FOR.to_owned(), json!(it.label()))),
            self.revision.as_ref().map(|it| (REVISION.to_owned(), json!(it))),
        ];
        let labels: serde_json::Map<String, Value> = labels.into_iter().flatten().collect();
        if !labels.is_empty() {
            say("labels", labels.into());
        }
        if let Some(account) = &self.account {
            say("annotations", json!({FOR_ACCOUNT: account}));
        }
        let listener = json!({"name": "mesh", "port": 15008, "protocol": "HBONE"});
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata,
               "spec": {"gatewayClassName": CLASS, "listeners": [listener]}})
    }
}

/// Where the gateways of a namespace are.
pub(super) fn collection(namespace: &str) -> String {
    format!("/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways")
}

/// A class of gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    name: String,
    controller: String,
    traffic: Option<String>,
}

impl Class {
    pub(super) fn of(object: &Value) -> Self {
        let at = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            name: at("/metadata/name"),
            controller: at("/spec/controllerName"),
            traffic: label(object, FOR).map(Into::into),
        }
    }
}

/// A waypoint that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Waypoint {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) class: String,
    pub(super) revision: String,
    /// As it is in force: also what its class says, or what holds where nobody says anything.
    pub(super) traffic_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_account: Option<String>,
    /// Whether it is there: `True`, `False`, or `Unknown`.
    pub(super) programmed: String,
    pub(super) addresses: Vec<String>,
    pub(super) conditions: Vec<Said>,
}

/// A condition of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Said {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether it is said of the object as it is now.
    #[serde(skip)]
    is_now: bool,
}

impl Waypoint {
    /// Of a gateway; none, if it is no waypoint.
    pub(super) fn of(object: &Value, classes: &[Class]) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let class = object.pointer("/spec/gatewayClassName")?.as_str()?;
        let made = classes.iter().find(|it| it.name == class);
        WaypointClass::of(class, made.map(|it| it.controller.as_str())).filter(|it| it.is_ours)?;
        let account = object.pointer("/metadata/annotations").and_then(|it| it.get(FOR_ACCOUNT));
        let account = account.and_then(Value::as_str).map(str::to_owned);
        let usual = if account.is_some() { "all" } else { "service" };
        let traffic = label(object, FOR).or_else(|| made?.traffic.as_deref()).unwrap_or(usual);
        let addresses = object.pointer("/status/addresses").and_then(Value::as_array);
        let mut waypoint = Self {
            namespace: text(metadata, "namespace").into(),
            name: text(metadata, "name").into(),
            class: class.into(),
            revision: label(object, REVISION).unwrap_or("default").into(),
            traffic_type: traffic.into(),
            service_account: account,
            programmed: String::new(),
            addresses: addresses.into_iter().flatten().map(|it| text(it, "value").into()).collect(),
            conditions: conditions(object),
        };
        waypoint.programmed = waypoint.condition("Programmed").status;
        Some(waypoint)
    }

    /// Whether it is there, as it is asked for now.
    pub(super) fn is_ready(&self) -> bool {
        self.programmed == "True"
    }

    /// What decides whether it is there: the first that says no, else that it is there.
    pub(super) fn verdict(&self) -> Said {
        let accepted = self.condition("Accepted");
        if accepted.status == "False" { accepted } else { self.condition("Programmed") }
    }

    /// What is said of it now; what was said of the object as it was before counts for nothing.
    fn condition(&self, kind: &str) -> Said {
        let said = self.conditions.iter().find(|it| it.kind == kind);
        match said {
            Some(said) if said.is_now => said.clone(),
            Some(_) => unknown(kind, "the control plane has not seen its last change yet"),
            None => unknown(kind, "no control plane has said anything of it yet"),
        }
    }
}

fn unknown(kind: &str, message: &str) -> Said {
    let (status, reason) = ("Unknown".into(), "Pending".into());
    Said { kind: kind.into(), status, reason, message: message.into(), is_now: true }
}

fn conditions(object: &Value) -> Vec<Said> {
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
    let list = object.pointer("/status/conditions").and_then(Value::as_array);
    let said = list.into_iter().flatten().map(|it| Said {
        kind: text(it, "type").into(),
        status: text(it, "status").into(),
        reason: text(it, "reason").into(),
        message: text(it, "message").into(),
        is_now: it.get("observedGeneration").and_then(Value::as_i64).is_none_or(|it| it >= generation),
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(class: &str, more: &str) -> Value {
        let mut object = json!({"metadata": {"namespace": "shop", "name": "w", "generation": 2},
                                "spec": {"gatewayClassName": class}});
        let more: Value = yaml_serde::from_str(more).unwrap();
        for (part, fields) in more.as_object().into_iter().flatten() {
            for (key, value) in fields.as_object().unwrap() {
                object[part][key] = value.clone();
            }
        }
        object
    }

    #[test]
    fn what_is_asked_for_is_in_the_object_and_nothing_else() {
        let mut design =
            Design { name: "w".into(), namespace: None, traffic: None, account: None, revision: None };
        assert_eq!(design.object()["metadata"], json!({"name": "w"}));
        assert_eq!(
            design.object()["spec"],
            json!({"gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]})
        );
        design.namespace = Some("shop".into());
        design.traffic = Some(Traffic::All);
        design.account = Some("cart".into());
        design.revision = Some("blue".into());
        let wanted = json!({"name": "w", "namespace": "shop", "labels": {FOR: "all", REVISION: "blue"},
                            "annotations": {FOR_ACCOUNT: "cart"}});
        assert_eq!(design.object()["metadata"], wanted);
    }

    #[test]
    fn a_waypoint_is_what_its_class_makes_one_and_tells_what_is_in_force() {
        let classes = [
            Class {
                name: "own".into(),
                controller: CLASSES[0].controller.into(),
                traffic: Some("workload".into()),
            },
            Class { name: "istio-waypoint".into(), controller: "example.com/other".into(), traffic: None },
        ];
        let traffic = |object: &Value| Waypoint::of(object, &classes).map(|it| it.traffic_type);
        for (object, is) in [
            (gateway("own", "{}"), Some("workload")),
            (gateway("own", "metadata: {labels: {istio.io/waypoint-for: all}}"), Some("all")),
            (gateway("ambit-waypoint", "{}"), Some("service")),
            (
                gateway("ambit-waypoint", "metadata: {annotations: {istio.io/for-service-account: a}}"),
                Some("all"),
            ),
            // Somebody has made the class his own.
            (gateway("istio-waypoint", "{}"), None),
            (gateway("nginx", "{}"), None),
        ] {
            assert_eq!(traffic(&object).as_deref(), is, "{object}");
        }
    }

    #[test]
    fn only_what_is_said_of_the_object_as_it_is_now_makes_it_ready() {
        let say = |kind: &str, status: &str, of: i64| {
            format!(
                "{{type: {kind}, status: '{status}', reason: Because, message: m, observedGeneration: {of}}}"
            )
        };
        let look = |list: &[String]| {
            let status = format!("status: {{conditions: [{}]}}", list.join(", "));
            let it = Waypoint::of(&gateway("istio-waypoint", &status), &[]).unwrap();
            let verdict = it.verdict();
            (it.is_ready(), verdict.kind, verdict.status)
        };
        let owned = |ready, kind: &str, status: &str| (ready, kind.to_owned(), status.to_owned());
        assert_eq!(look(&[]), owned(false, "Programmed", "Unknown"));
        assert_eq!(look(&[say("Programmed", "True", 1)]), owned(false, "Programmed", "Unknown"));
        assert_eq!(look(&[say("Programmed", "True", 2)]), owned(true, "Programmed", "True"));
        let refused = [say("Programmed", "False", 2), say("Accepted", "False", 2)];
        assert_eq!(look(&refused), owned(false, "Accepted", "False"));
    }
}
