//! Waypoints of a local mesh: for each gateway that asks for one, a service and pods beside the manifests, and the tokens
//! those pods prove themselves with. Plays the part of a deployment's controller: a pod is replaced when its gateway has
//! changed, and goes only when those in its place are ready. Running the pods is `pods`', as with all others; what they
//! are is `asked`'s. Keeps nothing on disk that `down` does not find: pods are pods.

mod asked;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use ambit_cluster::Overlay;
use ambit_cluster::kinds::policy::PolicyCondition;
use ambit_cluster::object::{Kind, ObjectRef};
use ambit_cluster::overlay::OverlayError;
use ambit_process::clock;
use serde_json::{Value, json};

use self::asked::{Berth, Shape, asked, controller, node_for};
use super::mesh::Mesh;
use super::pods::{Ground, Pods, new_uid};
use super::report::{GatewayStatus, RouteStatus};
use super::tokens::{Issuer, Subject, TOKEN_LIFE, TokenError, write_private};
use super::world::World;
use crate::args::chain;

pub(crate) use self::asked::ISTIOD;

/// All that is made for gateways.
pub(crate) struct Waypoints {
    hand: Overlay,
    replicas: Vec<Replica>,
    services: BTreeMap<ObjectRef, Value>,
    /// What could not be made, by gateway.
    troubles: BTreeMap<ObjectRef, String>,
}

struct Replica {
    gateway: ObjectRef,
    pod: ObjectRef,
    shape: Shape,
    subject: Subject,
    stage: Stage,
    token_until: Instant,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Written; the watch has not told of it yet.
    Written,
    /// It is there.
    There,
    /// Told to go.
    Leaving,
}

/// What everything is looked at with.
pub(crate) struct Look<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) world: &'a World,
    pub(crate) pods: &'a Pods,
    pub(crate) issuer: &'a Issuer,
    pub(crate) now: Instant,
}

/// Why something was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaypointError {
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("cannot make {path}")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("there is a service {0} of somebody else; rename one of the two")]
    Foreign(ObjectRef),
    #[error("there are no nodes")]
    NoNode,
}

impl Waypoints {
    pub(crate) fn new(mesh: &Mesh) -> Self {
        Self {
            hand: Overlay::new(mesh.overlay(), "waypoint"),
            replicas: Vec::new(),
            services: BTreeMap::new(),
            troubles: BTreeMap::new(),
        }
    }

    /// Takes the next steps towards what the gateways ask for.
    pub(crate) fn tend(&mut self, look: &Look<'_>) {
        let wanted = asked(look.world);
        self.troubles.retain(|gateway, _| wanted.contains_key(gateway));
        self.look_at_pods(look);
        for (gateway, shape) in &wanted {
            match self.serve(look, gateway, shape) {
                Ok(()) => drop(self.troubles.remove(gateway)),
                Err(error) => self.complain(gateway, &error),
            }
        }
        self.take_away(look, &wanted);
    }

    /// A token is renewed long before it ends.
    fn look_at_pods(&mut self, look: &Look<'_>) {
        let hand = &self.hand;
        self.replicas.retain_mut(|it| {
            let is_in_world = look.world.pod(&it.pod).is_some();
            let is_over = match it.stage {
                Stage::Written if is_in_world => {
                    it.stage = Stage::There;
                    false
                }
                Stage::Written => false,
                // Somebody took it away; another one will come in its place.
                Stage::There => !is_in_world,
                Stage::Leaving => !look.pods.has(&it.pod),
            };
            if is_over {
                warn(hand.clear(&it.pod).map_err(Into::into));
            } else if it.token_until <= look.now {
                warn(it.renew(look));
            }
            !is_over
        });
    }

    fn serve(&mut self, look: &Look<'_>, gateway: &ObjectRef, shape: &Shape) -> Result<(), WaypointError> {
        self.keep_service(look.world, gateway, shape)?;
        let is_of = |it: &&Replica| it.gateway == *gateway && it.stage != Stage::Leaving;
        let fits = |it: &&Replica| is_of(it) && it.shape.makes_same(shape);
        let fitting = self.replicas.iter().filter(fits).count();
        for _ in fitting..usize::from(shape.replicas) {
            let replica = Replica::make(look, (gateway, shape), &self.replicas)?;
            self.hand.put(shape.pod(&replica.berth(&look.ground.mesh)))?;
            self.replicas.push(replica);
        }
        let is_ready = |it: &&Replica| look.world.pod(&it.pod).is_some_and(|pod| pod.is_ready());
        if self.replicas.iter().filter(fits).filter(is_ready).count() < usize::from(shape.replicas) {
            return Ok(());
        }
        let mut enough = usize::from(shape.replicas);
        for it in self.replicas.iter_mut().filter(|it| it.gateway == *gateway) {
            let serves = fits(&&*it) && is_ready(&&*it);
            if serves && enough > 0 {
                enough -= 1;
            } else {
                it.leave(&self.hand)?;
            }
        }
        Ok(())
    }

    fn keep_service(
        &mut self,
        world: &World,
        gateway: &ObjectRef,
        shape: &Shape,
    ) -> Result<(), WaypointError> {
        let (at, object) = (shape.service_of(gateway), shape.service(gateway));
        if self.services.get(&at) == Some(&object) {
            return Ok(());
        }
        if !self.services.contains_key(&at) && world.service(&at).is_some() {
            return Err(WaypointError::Foreign(at));
        }
        self.hand.put(object.clone())?;
        self.services.insert(at, object);
        Ok(())
    }

    /// What nobody asks for any more goes: pods in their time, then the service.
    fn take_away(&mut self, look: &Look<'_>, wanted: &BTreeMap<ObjectRef, Shape>) {
        for it in self.replicas.iter_mut().filter(|it| !wanted.contains_key(&it.gateway)) {
            warn(it.leave(&self.hand));
        }
        let names: Vec<_> = wanted.iter().map(|(gateway, shape)| shape.service_of(gateway)).collect();
        let hand = &self.hand;
        self.services.retain(|service, _| {
            let is_wanted = names.contains(service);
            if !is_wanted {
                warn(hand.clear(service).map_err(Into::into));
                // With the address that it was given.
                warn(look.ground.overlay.clear(service).map_err(Into::into));
            }
            is_wanted
        });
    }

    fn complain(&mut self, gateway: &ObjectRef, error: &WaypointError) {
        let trouble = chain(error);
        if self.troubles.get(gateway) != Some(&trouble) {
            tracing::warn!(gateway = %gateway, error = trouble, "waypoint not made");
            self.troubles.insert(gateway.clone(), trouble);
        }
    }

    /// Gateways of our classes: what the control plane says of them, and how many of their pods are ready.
    pub(crate) fn status(&self, world: &World) -> Vec<GatewayStatus> {
        let wanted = asked(world);
        let ours = world.gateways().filter(|(_, gateway)| controller(world, gateway).is_some());
        ours.map(|(at, gateway)| {
            let is_ready = |it: &&Replica| {
                it.gateway == *at
                    && it.stage != Stage::Leaving
                    && world.pod(&it.pod).is_some_and(|pod| pod.is_ready())
            };
            let (programmed, why) = said(&gateway.status.conditions, "Programmed");
            GatewayStatus {
                namespace: at.namespace.to_string(),
                name: at.name.to_string(),
                class: gateway.spec.gateway_class_name.clone(),
                programmed,
                why: self.troubles.get(at).cloned().unwrap_or(why),
                ready: self.replicas.iter().filter(is_ready).count(),
                wanted: wanted.get(at).map_or(0, |shape| shape.replicas.into()),
                leaving: self
                    .replicas
                    .iter()
                    .filter(|it| it.gateway == *at && it.stage == Stage::Leaving)
                    .count(),
            }
        })
        .collect()
    }
}

/// Routes, and whether all that they are attached to accepts them.
pub(crate) fn routes(world: &World) -> Vec<RouteStatus> {
    let one = |(at, parents): (&ObjectRef, &[ambit_cluster::kinds::route::ParentStatus])| {
        let said: Vec<_> = parents
            .iter()
            .flat_map(|parent| ["Accepted", "ResolvedRefs"].map(|kind| said(&parent.conditions, kind)))
            .collect();
        let wrong = said.iter().find(|(holds, _)| !holds).map(|(_, why)| why.clone());
        RouteStatus {
            kind: at.kind.name().to_owned(),
            namespace: at.namespace.to_string(),
            name: at.name.to_string(),
            accepted: !said.is_empty() && wrong.is_none(),
            why: wrong.unwrap_or_default(),
        }
    };
    world.routes().map(one).collect()
}

/// Whether a condition holds, and what is said with it.
fn said(conditions: &[PolicyCondition], kind: &str) -> (bool, String) {
    let found = conditions.iter().find(|it| it.kind == kind);
    found.map_or_else(Default::default, |it| (it.status == "True", it.message.clone()))
}

impl Replica {
    fn make(
        look: &Look<'_>,
        (gateway, shape): (&ObjectRef, &Shape),
        others: &[Self],
    ) -> Result<Self, WaypointError> {
        let own: Vec<&str> = others
            .iter()
            .filter(|it| it.gateway == *gateway && it.stage != Stage::Leaving)
            .map(|it| it.subject.node.as_str())
            .collect();
        let node = node_for(look.world, &look.ground.nodes, &own).ok_or(WaypointError::NoNode)?;
        let name = loop {
            let name = format!("{}-{:05x}", shape.name, fastrand::u32(..0x10_0000));
            let at = ObjectRef::new(Kind::Pod, &gateway.namespace, &name);
            if look.world.pod(&at).is_none() && others.iter().all(|it| it.pod != at) {
                break name;
            }
        };
        let subject = Subject {
            namespace: gateway.namespace.to_string(),
            service_account: shape.account.clone(),
            pod: name.clone(),
            uid: new_uid(),
            node: node.name.clone(),
        };
        let mut this = Self {
            gateway: gateway.clone(),
            pod: ObjectRef::new(Kind::Pod, &gateway.namespace, &name),
            shape: shape.clone(),
            subject,
            stage: Stage::Written,
            token_until: look.now,
        };
        let path = look.ground.mesh.pod(&this.subject.uid);
        fs::create_dir_all(&path).map_err(|source| WaypointError::Directory { path, source })?;
        this.renew(look)?;
        Ok(this)
    }

    fn token(&self, mesh: &Mesh) -> PathBuf {
        mesh.pod(&self.subject.uid).join("token")
    }

    fn renew(&mut self, look: &Look<'_>) -> Result<(), WaypointError> {
        let token = look.issuer.sign(&self.subject, jsonwebtoken::get_current_timestamp())?;
        write_private(&self.token(&look.ground.mesh), token.as_bytes())?;
        self.token_until = look.now + TOKEN_LIFE / 2;
        Ok(())
    }

    fn berth(&self, mesh: &Mesh) -> Berth<'_> {
        Berth {
            pod: &self.pod,
            subject: &self.subject,
            token: self.token(mesh).display().to_string(),
            roots: mesh.root_certificate().display().to_string(),
        }
    }

    /// Marked first, as the API server does: nobody is sent to it any more while it finishes what it has begun.
    fn leave(&mut self, hand: &Overlay) -> Result<(), WaypointError> {
        if self.stage == Stage::Leaving {
            return Ok(());
        }
        let now = jiff::Timestamp::try_from(clock::now_system()).unwrap_or_default().to_string();
        hand.patch(&self.pod, json!({ "metadata": { "deletionTimestamp": now } }))?;
        self.stage = Stage::Leaving;
        Ok(())
    }
}

/// A step that failed is tried again at the next look; it must not go unseen.
fn warn(result: Result<(), WaypointError>) {
    if let Err(error) = result {
        tracing::warn!(error = chain(&error), "a step for a waypoint failed");
    }
}

#[cfg(test)]
mod tests;
