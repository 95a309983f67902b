//! Where it happens: a client and a server with their ztunnels, and the waypoints between them, each in a namespace of
//! its own on one bridge. Owns the set-up and which of the waypoints the traffic goes through.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_kit::{Authority, Plane, eventually};
use ambit_model::delta::Delta;
use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::envoy;
use super::world::{OURS, PEER, SERVICE, through, world};
use crate::pods::{CLIENT, Place, Pod, Running, SERVER};

/// Long enough for two cores that also compile.
const PATIENCE: Duration = Duration::from_secs(60);

/// The programs that are measured.
pub struct Programs {
    /// At both ends.
    pub ztunnel: PathBuf,
    /// Ours.
    pub waypoint: PathBuf,
    /// The peer, where there is one.
    pub envoy: Option<PathBuf>,
}

/// Everything, until dropped.
pub struct Stage {
    /// Sends.
    pub client: Pod,
    /// Answers.
    pub server: Pod,
    ours: Pod,
    peer: Pod,
    running: Vec<Running>,
    waypoint: Option<u32>,
    envoy: Option<u32>,
    planes: Vec<Plane>,
    authority: Authority,
    dir: TempDir,
    /// Holds the bridge.
    _hub: Pod,
}

impl Stage {
    /// Sets everything up, with nothing running.
    ///
    /// # Errors
    /// Without root, `ip` or `nft`.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ambit-perf-").tempdir()?;
        let (hub, client, server, ours, peer) = (Pod::new(), Pod::new(), Pod::new(), Pod::new(), Pod::new());
        hub.ip("link add br0 type bridge")?;
        hub.ip("link set br0 up")?;
        for (pod, place) in [(&client, CLIENT), (&server, SERVER), (&ours, OURS), (&peer, PEER)] {
            let far = pod.namespace().path().display().to_string();
            hub.ip(&format!("link add {} type veth peer name eth0 netns {far}", place.name))?;
            hub.ip(&format!("link set {} master br0 up", place.name))?;
            pod.dress(place)?;
            pod.ip(&format!("route add {SERVICE}/32 dev eth0"))?;
        }
        for pod in [&client, &server, &ours, &peer] {
            pod.until_up();
        }
        for pod in [&client, &server] {
            pod.redirect(dir.path(), true)?;
        }
        Ok(Self {
            client,
            server,
            ours,
            peer,
            running: Vec::new(),
            waypoint: None,
            envoy: None,
            planes: Vec::new(),
            authority: Authority::new(),
            dir,
            _hub: hub,
        })
    }

    /// Starts both ztunnels and our waypoint, and waits until they are ready.
    ///
    /// # Errors
    /// When one is not.
    pub fn start(&mut self, programs: &Programs, threads: usize) -> Result<()> {
        let world = world()?;
        let mut started = Vec::new();
        for (pod, place) in [(&self.client, CLIENT), (&self.server, SERVER), (&self.ours, OURS)] {
            let plane = Plane::start(pod.namespace(), &world, None);
            let ours = place.name == OURS.name;
            let program = if ours { &programs.waypoint } else { &programs.ztunnel };
            let mut command = pod.proxy(program, place, (&self.authority, self.dir.path()))?;
            command.env("XDS_ADDRESS", plane.url()).env("XDS_ROOT_CA", plane.root_pem());
            command.env("ZTUNNEL_WORKER_THREADS", threads.to_string());
            command.env("WAYPOINT_THREADS", threads.to_string());
            command.env("GATEWAY_NAME", OURS.name).env("POD_NAME", OURS.name);
            command.env("POD_NAMESPACE", "perf").env("INSTANCE_IP", OURS.ip);
            let running = Running(command.spawn().with_context(|| program.display().to_string())?);
            if ours {
                self.waypoint = Some(running.pid());
            }
            self.running.push(running);
            self.planes.push(plane);
            started.push((pod, place));
        }
        for (pod, place) in started {
            let ready = eventually(PATIENCE, || pod.ready());
            ready.with_context(|| self.log(place))?;
        }
        Ok(())
    }

    /// Starts the peer and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_peer(&mut self, program: &Path, (threads, routes): (usize, usize)) -> Result<()> {
        let mut command = self.peer.proxy(program, PEER, (&self.authority, self.dir.path()))?;
        let file = self.dir.path().join("envoy.json");
        let told = envoy::configuration(PEER, &self.dir.path().join(PEER.name), routes);
        std::fs::write(&file, serde_json::to_string(&told)?)?;
        command.arg("-c").arg(file).args(["--concurrency", &threads.to_string(), "--log-level", "error"]);
        command.arg("--disable-hot-restart");
        let running = Running(command.spawn().with_context(|| program.display().to_string())?);
        self.envoy = Some(running.pid());
        self.running.push(running);
        let listens = || self.peer.shell(&format!("ss -Htln 'src {} and sport 15008' | grep -q .", PEER.ip));
        eventually(PATIENCE, listens).with_context(|| self.log(PEER))
    }

    /// Sends the service's traffic through this place from now on.
    ///
    /// # Errors
    /// Never, unless a name is none.
    pub fn lead_through(&self, place: Option<Place>) -> Result<()> {
        self.publish(&through(place)?);
        Ok(())
    }

    /// Tells everybody, and waits until all have it in force.
    pub fn publish(&self, delta: &Delta) {
        self.planes.iter().for_each(|plane| plane.publish(delta));
    }

    /// The same for our waypoint alone.
    ///
    /// # Errors
    /// Before the start.
    pub fn tell_ours(&self, delta: &Delta) -> Result<()> {
        self.planes.last().context("not started")?.publish(delta);
        Ok(())
    }

    /// The process of a waypoint.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self, place: Place) -> Result<u32> {
        let pid = if place.name == OURS.name { self.waypoint } else { self.envoy };
        let pid = pid.with_context(|| format!("{} was not started", place.name))?;
        ensure!(
            Path::new(&format!("/proc/{pid}/stat")).exists(),
            "{} has ended: {}",
            place.name,
            self.log(place)
        );
        Ok(pid)
    }

    /// What a program has logged.
    #[must_use]
    pub fn log(&self, place: Place) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{}.log", place.name))).unwrap_or_default()
    }
}
