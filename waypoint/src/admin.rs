//! What the admin port answers. Owns the paths; what is known is shown by `dump`.

mod dump;

use ambit_process::admin::{Body, answer, text};
use ambit_process::stop::Stop;
use ambit_tls::vault::Vault;
use http::{Method, Request, Response, StatusCode};

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
            "/config_dump" => {
                let whole = dump::dump(&self.world.load(), &self.config.waypoint, &self.vault);
                answer(StatusCode::OK, "application/json", format!("{whole:#}\n"))
            }
            "/resources" => text(StatusCode::OK, dump::resources(&self.world.load())),
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
}
