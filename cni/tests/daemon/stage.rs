//! A node on a stage: a namespace for the node, manifests, the real daemon in it, a ztunnel that is played.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ambit_cni_plugin::{Answer, Surroundings};
use ambit_sys::netns::{Netns, NetnsId};
use ambit_sys::pass::SeqPacket;
use ambit_wire::node_link::{Certificate, Request, Response, decode_request, encode_hello, encode_response};
use serde_json::{Value, json};

/// How long anything may take that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node.
pub(crate) struct Stage {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) node: Netns,
    daemon: Option<Child>,
    program: PathBuf,
    /// More for the daemon's command line.
    pub(crate) more: Vec<String>,
}

impl Stage {
    /// A node without a daemon.
    pub(crate) fn empty(program: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Netns::anonymous().expect("needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)");
        Self { dir, node, daemon: None, program: program.into(), more: Vec::new() }
    }

    /// A node with these objects and a running daemon.
    pub(crate) fn with(program: &str, objects: &[Value], more: &[String]) -> Self {
        let mut stage = Self::empty(program);
        stage.more = more.to_vec();
        fs::create_dir(stage.path("source")).unwrap();
        stage.tell(objects);
        stage.start();
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces all objects.
    pub(crate) fn tell(&self, objects: &[Value]) {
        let text: Vec<_> = objects.iter().map(ToString::to_string).collect();
        fs::write(self.path("cluster.new"), text.join("\n---\n")).unwrap();
        fs::rename(self.path("cluster.new"), self.path("source/cluster.yaml")).unwrap();
    }

    pub(crate) fn start(&mut self) {
        let (source, run_dir) = (self.path("source"), self.path("run"));
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["--node-name", "n1", "--audit-seconds", "1", "--leave-wait-ms", "50"]);
        command.arg("--run-dir").arg(run_dir);
        if source.exists() {
            command.arg("--source").arg(source);
        }
        command.args(&self.more).stdout(log).stdin(Stdio::null());
        self.daemon = Some(self.node.run(|| command.spawn().unwrap()).unwrap());
        let socket = self.path("run/pluginevent.sock");
        self.eventually("the daemon listens", || UnixStream::connect(&socket).is_ok());
    }

    /// Ends the daemon without letting it clear up.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Asks the daemon to end, and waits until it has.
    pub(crate) fn terminate(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let asked = Command::new("sh").args(["-c", &format!("kill -TERM {}", daemon.id())]).status().unwrap();
        assert!(asked.success() && daemon.wait().unwrap().success(), "{}", self.log());
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Calls the plugin for a pod whose namespace is open here.
    pub(crate) fn plugin(&self, command: &str, pod: &str, uid: &str, netns: &Netns) -> Answer {
        let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsFd::as_fd(netns).as_raw_fd());
        self.plugin_at(command, pod, uid, Path::new(&path))
    }

    /// The same, with the path of its namespace.
    pub(crate) fn plugin_at(&self, command: &str, pod: &str, uid: &str, path: &Path) -> Answer {
        let arguments = format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_UID={uid}");
        let container = format!("c-{uid}");
        let given = Surroundings::given(&[
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", &container),
            ("CNI_NETNS", path.to_str().unwrap()),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", &arguments),
        ]);
        ambit_cni_plugin::run(&given, self.network().to_string().as_bytes())
    }

    pub(crate) fn network(&self) -> Value {
        json!({
            "cniVersion": "1.1.0", "name": "k8s", "type": "ambit-cni", "cni_agent_run_dir": self.path("run"),
            "prevResult": { "cniVersion": "1.1.0", "ips": [{ "address": "10.0.0.5/24" }, { "address": "fd00::5/64" }] },
        })
    }

    /// The annotation that the daemon wrote.
    pub(crate) fn redirection(&self, pod: &str) -> Option<String> {
        let path = self.path("source.overlay/cni").join(format!("Pod_shop_{pod}.json"));
        let layer: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let word = layer.pointer("/patch/metadata/annotations/ambient.istio.io~1redirection")?;
        word.as_str().map(str::to_owned)
    }

    pub(crate) fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "never: {what}\n{}", self.log());
            pause();
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A ztunnel connects and has its snapshot.
    pub(crate) fn ztunnel(&self) -> Ztunnel {
        let ztunnel = Ztunnel::connect(&self.path("run/ztunnel.sock"));
        self.eventually("ztunnel has its snapshot", || ztunnel.heard().iter().any(|it| it == "snapshot"));
        ztunnel
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a played ztunnel answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Done,
    Refuse,
    Silent,
    /// As ours does before the pod's certificate is there, and after.
    Awaits,
    Holds,
}

/// A played ztunnel.
pub(crate) struct Ztunnel {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    heard: Mutex<Vec<String>>,
    namespaces: Mutex<Vec<NetnsId>>,
    manner: Mutex<Manner>,
    /// Adding this pod is never answered.
    mute_about: Option<String>,
    stop: AtomicBool,
    closed: AtomicBool,
}

impl Ztunnel {
    pub(crate) fn connect(socket: &Path) -> Self {
        Self::connect_mute(socket, None)
    }

    /// One that never answers when it is to carry a certain pod.
    pub(crate) fn connect_mute(socket: &Path, mute_about: Option<&str>) -> Self {
        let until = Instant::now() + PATIENCE;
        let link = loop {
            match SeqPacket::connect(socket) {
                Ok(link) => break link,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            pause();
        };
        let shared = Arc::new(Shared {
            heard: Mutex::default(),
            namespaces: Mutex::default(),
            manner: Mutex::new(Manner::Done),
            mute_about: mute_about.map(|uid| format!("add {uid}")),
            stop: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || theirs.play(&link));
        Self { shared, thread: Some(thread) }
    }

    /// What was asked, in order: `add u-1`, `keep u-1`, `del u-1`, `snapshot`.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.shared.heard.lock().unwrap().clone()
    }

    pub(crate) fn has_heard(&self, what: &str) -> bool {
        self.heard().iter().any(|it| it == what)
    }

    pub(crate) fn namespaces(&self) -> Vec<NetnsId> {
        self.shared.namespaces.lock().unwrap().clone()
    }

    pub(crate) fn answer(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }
}

impl Drop for Ztunnel {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn play(&self, link: &SeqPacket) {
        link.try_send(&encode_hello(), None).unwrap();
        let mut buffer = [0; 1024];
        while !self.stop.load(Ordering::Relaxed) {
            let received = match link.try_recv(&mut buffer) {
                Ok(received) if received.len > 0 => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::park_timeout(Duration::from_micros(200));
                    continue;
                }
                _ => break,
            };
            let request = decode_request(&buffer[..received.len]).unwrap();
            assert_eq!(received.descriptors.len(), request.descriptors());
            for descriptor in received.descriptors {
                self.namespaces.lock().unwrap().push(Netns::from_fd(descriptor).unwrap().id());
            }
            let asked = match request {
                Request::Add { uid, .. } => format!("add {uid}"),
                Request::Keep { uid } => format!("keep {uid}"),
                Request::Del { uid } => format!("del {uid}"),
                Request::SnapshotSent => "snapshot".into(),
            };
            self.heard.lock().unwrap().push(asked.clone());
            if self.mute_about.as_ref() == Some(&asked) {
                continue;
            }
            let answer = match *self.manner.lock().unwrap() {
                Manner::Done => Response::Done,
                Manner::Refuse => Response::Failed("port taken".into()),
                Manner::Silent => continue,
                Manner::Awaits => certificate(&asked, Certificate::Awaited),
                Manner::Holds => certificate(&asked, Certificate::Held),
            };
            if link.try_send(&encode_response(&answer), None).is_err() {
                break;
            }
        }
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// Only what is added has a certificate.
fn certificate(asked: &str, certificate: Certificate) -> Response {
    if asked.starts_with("add") { Response::Carried(certificate) } else { Response::Done }
}

/// A pod of this node.
pub(crate) fn pod(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "shop", "uid": uid },
        "spec": { "nodeName": "n1", "containers": [{ "name": "app", "readinessProbe": { "tcpSocket": { "port": 80 } } }] },
    })
}

/// The namespace of those pods.
pub(crate) fn namespace(mode: Option<&str>) -> Value {
    let labels = mode.map_or_else(|| json!({}), |mode| json!({ "istio.io/dataplane-mode": mode }));
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop", "labels": labels } })
}

/// What `nft` shows of a namespace, with counts and handles.
pub(crate) fn filter(netns: &Netns) -> String {
    let output = netns.run(|| Command::new("nft").args(["-a", "list", "ruleset"]).output()).unwrap();
    String::from_utf8(output.expect("needs nft: apt-get install nftables").stdout).unwrap()
}

pub(crate) fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}
