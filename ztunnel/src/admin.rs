//! What the admin port, the metrics port and the readiness port answer (`ztunnel.md` 11.1, 11.4, 11.5).
//! Owns paths and the dump's keys. The server is `process::admin`, the world's shapes are `wire::local`.

mod dump;

use ambit_process::admin::{Body, answer, text};
use ambit_process::observe::Logs;
use ambit_process::stop::Stop;
use ambit_tls::vault::Vault;
use ambit_wire::local;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::board::Board;
use crate::config::Config;
use crate::world::World;

const INDEX: &str = "<html><body><h1>ztunnel</h1><ul>\
    <li><a href=\"config_dump\">config_dump</a>: what is known and carried\
    <li>logging (POST): ?level=debug, ?level=target=debug, ?reset\
    <li>quitquitquit (POST): stop, gracefully</ul></body></html>\n";

const NO_CPU_PROFILE: &str = "this program does not profile itself; on the node, run: \
    perf record -g -p $(pgrep -x ztunnel) -- sleep 10\n";
const NO_HEAP_PROFILE: &str = "the system's allocator keeps no profile; memory by mapping is in /proc/<pid>/smaps, \
    and `heaptrack -p $(pgrep -x ztunnel)` follows allocations on the node\n";

/// Everything the admin port shows or changes.
pub struct Admin {
    /// The settings.
    pub config: Config,
    /// The world.
    pub world: World,
    /// What was given in a local file, as dumps show it.
    pub local: Value,
    /// Certificates.
    pub vault: Vault,
    /// Pods.
    pub board: Board,
    /// The log.
    pub logs: Logs,
    /// Pulled by `/quitquitquit`.
    pub stop: Stop,
}

impl Admin {
    /// Answers one request.
    #[must_use]
    pub fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        match request.uri().path() {
            "/" => answer(StatusCode::OK, "text/html; charset=utf-8", INDEX),
            "/config_dump" => answer(StatusCode::OK, "application/json", format!("{:#}\n", self.dump())),
            "/logging" | "/quitquitquit" if request.method() != Method::POST => {
                text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n")
            }
            "/logging" => self.logging(request.uri().query().unwrap_or_default()),
            "/quitquitquit" => {
                self.stop.stop();
                text(StatusCode::OK, "stopping\n")
            }
            "/debug/pprof/profile" => text(StatusCode::NOT_IMPLEMENTED, NO_CPU_PROFILE),
            "/debug/pprof/heap" | "/debug/pprof/heap/profiling" => {
                text(StatusCode::NOT_IMPLEMENTED, NO_HEAP_PROFILE)
            }
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn logging(&self, query: &str) -> Response<Body> {
        let (mut level, mut reset) = (String::new(), false);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("level", value) => level = value.replace("%3D", "=").replace("%2C", ",").replace("%3A", ":"),
                ("reset", _) => reset = true,
                (other, _) => {
                    let help = format!("unknown parameter {other:?}; use level or reset\n");
                    return text(StatusCode::BAD_REQUEST, help);
                }
            }
        }
        if level.is_empty() && !reset {
            return text(StatusCode::OK, format!("current log level is {}\n", self.logs.level()));
        }
        match self.logs.set_level(&level, reset) {
            Ok(()) => text(StatusCode::OK, format!("current log level is {}\n", self.logs.level())),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }

    fn dump(&self) -> Value {
        let local::Dump { workloads, services, policies, staged_services } = local::dump(&self.world.load());
        let mut dump = json!({
            "certificates": self.vault.dump().iter().map(dump::certificate).collect::<Vec<_>>(),
            "config": dump::config(&self.config),
            "policies": policies,
            "services": services,
            "stagedServices": staged_services,
            "staticConfig": self.local,
            "version": dump::version(&self.config),
            "workloads": workloads,
        });
        if let (Value::Object(keys), true) = (&mut dump, dump::is_shared(&self.config)) {
            keys.insert("workloadState".into(), dump::pods(&self.board.read()));
        }
        dump
    }
}
