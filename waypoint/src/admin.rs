//! What the admin port answers. Owns paths and the dump's keys; the world's shapes are `wire::local`.

use ambit_process::admin::{Body, answer, text};
use ambit_process::stop::Stop;
use ambit_tls::vault::{ShownState, Vault};
use ambit_wire::local;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::config::Config;
use ambit_proxy::world::World;

/// Everything the admin port shows or changes.
pub(crate) struct Admin {
    pub(crate) config: Config,
    pub(crate) world: World,
    pub(crate) vault: Vault,
    /// Pulled by `/quitquitquit`.
    pub(crate) stop: Stop,
}

impl Admin {
    /// Answers one request.
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        match request.uri().path() {
            "/config_dump" => answer(StatusCode::OK, "application/json", format!("{:#}\n", self.dump())),
            "/quitquitquit" if request.method() != Method::POST => {
                text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n")
            }
            "/quitquitquit" => {
                self.stop.stop();
                text(StatusCode::OK, "stopping\n")
            }
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn dump(&self) -> Value {
        let world = self.world.load();
        let local::Dump { workloads, services, policies, staged_services } = local::dump(&world);
        let served = world.services().filter(|service| self.config.waypoint.serves(&world, service));
        let mut served: Vec<_> = served.map(|service| service.key().to_string()).collect();
        served.sort_unstable();
        let certificates = self.vault.dump().into_iter().map(|seat| {
            let state = match seat.state {
                ShownState::Initializing => "Initializing".to_owned(),
                ShownState::Available => "Available".to_owned(),
                ShownState::Unavailable(why) => {
                    format!("Unavailable: {}", ambit_proxy::fault::chain(why.as_ref()))
                }
            };
            json!({ "identity": seat.identity.to_string(), "state": state })
        });
        json!({
            "certificates": certificates.collect::<Vec<_>>(),
            "gateway": self.config.waypoint.service.to_string(),
            "policies": policies,
            "served": served,
            "services": services,
            "stagedServices": staged_services,
            "version": env!("CARGO_PKG_VERSION"),
            "workloads": workloads,
        })
    }
}
