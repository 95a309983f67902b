//! Where requests go (`waypoint.md` 2.14). Of another namespace without leave: routes of the mesh reach no further than
//! those who ask could by themselves (2.1, point 10).

use ambit_cluster::kinds::route::BackendRef;
use ambit_cluster::kinds::service::ServiceType;
use ambit_model::http_route::{Backend, Broken, Upstream};
use ambit_model::name::ServiceKey;

use super::Reader;
use crate::index::unit::UnitKind;
use crate::translate::hosts::known_as;

impl Reader<'_> {
    /// A backend, with what is done for it alone.
    pub(super) fn backend(&mut self, it: &BackendRef) -> Backend {
        let to = self.upstream(it);
        // Nothing but headers is changed for one backend alone.
        let filters = self.filters(&it.filters);
        Backend { to, weight: it.weight, filters }
    }

    /// The service's port that a reference leads to.
    pub(super) fn upstream(&mut self, it: &BackendRef) -> Result<Upstream, Broken> {
        let (service, ports) = match (it.group.as_str(), it.kind.as_str()) {
            ("" | "core", "Service") => self.service(it)?,
            ("networking.istio.io", "Hostname") => self.host(it)?,
            (group, kind) => {
                let text = format!("requests are not sent to objects of kind {kind}.{group}: {}", it.name);
                return Err(self.unresolved("InvalidKind", &text));
            }
        };
        let Some(port) = it.port.map(|port| port.0) else {
            return Err(self.unresolved("InvalidKind", &format!("no port is given for {}", it.name)));
        };
        if !ports.contains(&port) {
            return Err(self.unresolved("BackendNotFound", &format!("{service} has no port {port}")));
        }
        Ok(Upstream { service, port, subset: None })
    }

    fn service(&mut self, it: &BackendRef) -> Result<(ServiceKey, Vec<u16>), Broken> {
        let namespace = it.namespace.as_deref().unwrap_or(self.namespace);
        let world = self.world;
        let found = world.space(namespace).and_then(|space| space.services.get(it.name.as_str()));
        let Some(service) = found else {
            return Err(
                self.unresolved("BackendNotFound", &format!("there is no service {namespace}/{}", it.name))
            );
        };
        if service.spec.kind == ServiceType::ExternalName {
            let text = format!("service {namespace}/{} is only another name for something outside", it.name);
            return Err(self.unresolved("InvalidKind", &text));
        }
        let key = format!("{namespace}/{}", world.hostname(namespace, &it.name)).parse();
        let key = key.map_err(|_| self.unresolved("BackendNotFound", &format!("{} is no name", it.name)))?;
        Ok((key, service.spec.ports.iter().map(|it| it.port.0).collect()))
    }

    /// Whatever has a host's name: of the route's own namespace, or else the one that is preferred elsewhere.
    fn host(&mut self, it: &BackendRef) -> Result<(ServiceKey, Vec<u16>), Broken> {
        let world = self.world;
        if it.namespace.is_some() {
            let text = format!("the host {} is given with a namespace, and hosts have none", it.name);
            return Err(self.unresolved("InvalidKind", &text));
        }
        let found = known_as(world, self.namespace, &it.name).and_then(|unit| {
            let space = world.space(&unit.namespace)?;
            let ports: Vec<u16> = match unit.kind {
                UnitKind::Service => {
                    space.services.get(&unit.name)?.spec.ports.iter().map(|it| it.port.0).collect()
                }
                _ => space.entries.get(&unit.name)?.spec.ports.iter().map(|it| it.number.0).collect(),
            };
            Some((format!("{}/{}", unit.namespace, it.name).parse().ok()?, ports))
        });
        found.ok_or_else(|| {
            self.unresolved("BackendNotFound", &format!("nothing has the host name {}", it.name))
        })
    }
}
