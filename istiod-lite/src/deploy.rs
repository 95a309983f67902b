//! Pods for waypoints: the leader has an account, a service and a deployment be there for each gateway of our classes, and
//! the classes themselves. Looks at what is asked for, not at what happened; what belongs to a gateway that is gone goes
//! with it, for it is its owner. Owns when something is written; what is in `plan`.

pub mod maps;
pub mod overlay;
pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ambit_cluster::api::{ApiError, Client, Made};
use ambit_cluster::kinds::waypoint::{MANAGED, WaypointClass};
use ambit_process::stop::Stop;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::deploy::plan::{Planned, Template, plan, surplus};
use crate::translate::waypoint::Known;

/// What somebody else changed or took away is put back after this long at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The name under which fields are written: upstream's, so that what it wrote before and we do not say is taken back.
const MANAGER: &str = "istio.io/gateway-controller";

/// Where classes are.
const CLASSES: &str = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";

/// What a class says of itself. The API takes no more than 64 characters.
const DESCRIPTION: &str = "Waypoints of the mesh: HTTP for those who ask for it.";
const _: () = assert!(DESCRIPTION.len() <= 64, "GatewayClass.spec.description is too long");

/// Makes what waypoints need.
pub struct Deployer {
    client: Client,
    leading: watch::Receiver<bool>,
    known: watch::Receiver<std::sync::Arc<Known>>,
    template: Template,
}

impl Deployer {
    /// Makes what is known to be asked for, while `leading`.
    #[must_use]
    pub fn new(
        client: Client,
        leading: watch::Receiver<bool>,
        known: watch::Receiver<std::sync::Arc<Known>>,
        template: Template,
    ) -> Self {
        Self { client, leading, known, template }
    }

    /// Runs until stopped.
    pub async fn run(mut self, stop: Stop) {
        let mut done = Done::default();
        loop {
            let known = self.known.borrow_and_update().clone();
            if *self.leading.borrow_and_update() {
                // Cancel-safe: what was not written is written the next time.
                tokio::select! {
                    () = stop.stopped() => return,
                    () = Box::pin(self.pass(&known, &mut done)) => {}
                }
            }
            // All arms are cancel-safe.
            tokio::select! {
                () = stop.stopped() => return,
                // Election and feed end with the program only; then the others go on.
                Ok(()) = self.leading.changed() => done.forget(),
                Ok(()) = self.known.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => done.forget(),
            }
        }
    }

    async fn pass(&self, known: &Known, done: &mut Done) {
        for class in &known.missing {
            let became = Box::pin(self.class(*class)).await;
            done.note(class.name, became);
        }
        let planned: Vec<Planned> = known.gateways.iter().flat_map(|it| plan(&self.template, it)).collect();
        done.written.retain(|path, _| planned.iter().any(|it| it.path == *path));
        for Planned { path, object } in planned {
            if done.written.get(&path) == Some(&object) {
                continue;
            }
            let became = Box::pin(self.client.make(&path, &object, (MANAGER, MANAGED))).await;
            if matches!(became, Ok(Made::Applied)) {
                done.written.insert(path.clone(), object);
            }
            done.note(&path, became);
        }
        Box::pin(self.clear(known, done)).await;
    }

    /// What was made because somebody spoke of it goes when nobody does any more.
    async fn clear(&self, known: &Known, done: &mut Done) {
        let surplus = known.gateways.iter().flat_map(|it| {
            let uid = it.gateway.metadata.uid.as_str();
            surplus(&self.template, it).into_iter().map(move |path| (path, uid))
        });
        let surplus: BTreeMap<String, &str> = surplus.collect();
        done.absent.retain(|path| surplus.contains_key(path));
        for (path, uid) in surplus {
            if done.absent.contains(&path) {
                continue;
            }
            match Box::pin(self.client.unmake(&path, (uid, MANAGED))).await {
                Ok(was_there) => {
                    if was_there {
                        info!(target: "deploy", object = path, "not asked for any more: removed");
                    }
                    done.absent.insert(path);
                }
                Err(error) => done.note(&path, Err(error)),
            }
        }
    }

    /// Makes a class that is not there; one that is stays as it is.
    async fn class(&self, class: WaypointClass) -> Result<Made, ApiError> {
        let spec = json!({"controllerName": class.controller, "description": DESCRIPTION});
        let object = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
                            "metadata": {"name": class.name}, "spec": spec});
        match self.client.create(CLASSES, &object).await {
            // It is there by now, or the kind is not.
            Ok(_) | Err(ApiError::Conflict | ApiError::NotFound { .. }) => Ok(Made::Applied),
            Err(error) => Err(error),
        }
    }
}

/// What was written, so that it is written once, what is not there and need not be, and what was complained of.
#[derive(Default)]
struct Done {
    written: BTreeMap<String, Value>,
    absent: BTreeSet<String>,
    troubles: BTreeMap<String, String>,
}

impl Done {
    /// Somebody else may have changed all of it.
    fn forget(&mut self) {
        self.written.clear();
        self.absent.clear();
    }

    fn note(&mut self, what: &str, became: Result<Made, ApiError>) {
        let trouble = match became {
            Ok(Made::Applied) => {
                if self.troubles.remove(what).is_some() {
                    info!(target: "deploy", object = what, "made after all");
                }
                return;
            }
            Ok(Made::Foreign) => {
                format!("there is one already that is not labelled {MANAGED}; rename one of the two")
            }
            Err(error) => error.to_string(),
        };
        if self.troubles.get(what) != Some(&trouble) {
            warn!(target: "deploy", object = what, error = trouble, "not made");
            self.troubles.insert(what.into(), trouble);
        }
    }
}
