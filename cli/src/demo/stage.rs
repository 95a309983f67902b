//! The demo's own mesh and the ways to act on it: change its files, run clients in its pods, look at its wire.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use ambit_cluster::object::ObjectRef;
use serde_json::Value;

use crate::capture::{Capture, CaptureError, Segment};
use crate::local::{
    Component, LAN, Labels, Mesh, PodStatus, Request, Status, ask, change_labels, find_pod, status,
};

/// How long a change may take until it is seen; the mesh takes milliseconds, a busy machine more.
pub(crate) const SOON: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The exit code of `ambit pod fetch` when no good answer came.
const UNANSWERED: i32 = 1;
/// Lines of a client kept while nobody reads them.
const LINES: usize = 1024;

/// What the demo plays on.
pub(crate) struct Stage {
    pub(crate) mesh: Mesh,
}

/// What went wrong, as it is shown: the demo's reader is a person.
pub(crate) type Shown<T> = Result<T, String>;

impl Stage {
    /// Writes a manifest into the mesh's directory, all at once. Returns when that happened.
    pub(crate) fn write(&self, name: &str, text: &str) -> Shown<Instant> {
        let path = self.mesh.manifests().join(name);
        let hidden = self.mesh.manifests().join(format!(".{name}"));
        fs::write(&hidden, text).map_err(|e| format!("{}: {e}", hidden.display()))?;
        let now = Instant::now();
        fs::rename(&hidden, &path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(now)
    }

    /// Removes a manifest.
    pub(crate) fn remove(&self, name: &str) -> Shown<()> {
        let path = self.mesh.manifests().join(name);
        fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    pub(crate) fn label(&self, object: &ObjectRef, label: &str) -> Shown<()> {
        let labels: Labels = label.parse().map_err(|e| format!("{e}"))?;
        change_labels(&self.mesh, object, &labels).map_err(|e| e.to_string())
    }

    pub(crate) fn status(&self) -> Shown<Status> {
        status(&self.mesh).map_err(|e| e.to_string())
    }

    pub(crate) fn tell(&self, request: &Request) -> Shown<()> {
        ask(&self.mesh, request).map(drop).map_err(|e| e.to_string())
    }

    pub(crate) fn pod(&self, name: &str) -> Shown<PodStatus> {
        find_pod(&self.status()?, name).map_err(|e| e.to_string())
    }

    /// The processes of all pods: who would have been restarted.
    pub(crate) fn processes(&self) -> Shown<Vec<(String, Option<u32>, u32)>> {
        let status = self.status()?;
        let all = status.pods.iter().flat_map(|pod| {
            pod.containers.iter().map(move |c| (format!("{}/{}", pod.namespace, pod.name), c.pid, c.restarts))
        });
        Ok(all.collect())
    }

    /// Asks once from inside a pod; the answer is what the server there saw.
    pub(crate) fn fetch(&self, pod: &str, url: &str) -> Shown<Value> {
        self.fetch_with(pod, url, &["--timeout-ms", "2000"])
    }

    /// As [`Stage::fetch`], with more options for the client.
    pub(crate) fn fetch_with(&self, pod: &str, url: &str, options: &[&str]) -> Shown<Value> {
        let output = self.fetched(pod, url, options)?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|e| format!("not our server's answer: {e}"))
    }

    /// A client ran in the pod and got no answer. One that could not run shows nothing of the kind.
    pub(crate) fn refused(&self, pod: &str, url: &str) -> Shown<()> {
        let output = self.fetched(pod, url, &["--timeout-ms", "2000"])?;
        match output.status.code() {
            Some(UNANSWERED) => Ok(()),
            Some(0) => Err(format!("{pod} got an answer: {}", String::from_utf8_lossy(&output.stdout))),
            _ => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    fn fetched(&self, pod: &str, url: &str, options: &[&str]) -> Shown<Output> {
        let mut command = self.inside(&self.pod(pod)?, &[&["fetch", url], options].concat());
        command.output().map_err(|e| e.to_string())
    }

    /// A client that runs in a pod until it is dropped.
    pub(crate) fn client(&self, pod: &str, words: &[&str]) -> Shown<Client> {
        let mut child = self
            .inside(&self.pod(pod)?, words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a client without output")?;
        let stderr = child.stderr.take().ok_or("a client without output")?;
        let (sender, lines) = sync_channel(LINES);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), Ok(line))).is_err() {
                    return;
                }
            }
            let last = BufReader::new(stderr).lines().map_while(Result::ok).last();
            // Nobody may be left to be told why it ended.
            let _unheard = sender.send((Instant::now(), Err(last.unwrap_or_default())));
        });
        Ok(Client { child, stdin, lines })
    }

    /// Takes what passes between the nodes while `act` happens.
    pub(crate) fn on_the_wire<T>(&self, act: impl FnOnce() -> T) -> Shown<(T, Vec<Segment>)> {
        let capture = Capture::start(&self.mesh.space(LAN)).map_err(|e: CaptureError| e.to_string())?;
        let done = act();
        Ok((done, capture.finish()))
    }

    /// The log of a program; all that it has written so far.
    pub(crate) fn log(&self, component: &Component) -> Shown<String> {
        let status = self.status()?;
        let found = status.components.iter().find(|c| c.component == *component);
        let path = found.map(|c| c.log.clone()).ok_or_else(|| format!("there is no {component}"))?;
        fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn inside(&self, pod: &PodStatus, words: &[&str]) -> Command {
        // WHY not by its path: it leads to the running program, also when a build has replaced it on disk.
        const OWN: &str = "/proc/self/exe";
        let file = |name: &str| -> PathBuf { pod.files.join(name) };
        let mut command = Command::new(OWN);
        command.arg("enter").arg("--netns").arg(&pod.space);
        command.arg("--hosts").arg(file("hosts")).arg("--resolv").arg(file("resolv.conf"));
        command.arg("--").arg(OWN).arg("pod").args(words);
        command
    }
}

/// A client in a pod, its lines with the moment each came.
pub(crate) struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it said, and what it complained of when it ended.
    lines: Receiver<(Instant, Result<String, String>)>,
}

impl Client {
    /// The next line for which `wanted` holds, and when it came.
    pub(crate) fn line(&self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Shown<(Instant, Value)> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (at, line) = self.lines.recv_timeout(left).map_err(|e| match e {
                RecvTimeoutError::Timeout => format!("nothing of the kind within {limit:?}"),
                RecvTimeoutError::Disconnected => "the client ended".to_owned(),
            })?;
            let line = line.map_err(|why| format!("the client ended {why}"))?;
            let value: Value = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
            if wanted(&value) {
                return Ok((at, value));
            }
        }
    }

    /// Ends a client that runs until its input ends, and returns its last line.
    pub(crate) fn finish(mut self) -> Shown<Value> {
        drop(self.stdin.take());
        Ok(self.line(SOON, |line| line.get("sent").is_some())?.1)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Tries until it works, or until the limit; the last failure is what is shown.
pub(crate) fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Shown<T>) -> Shown<T> {
    let until = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(why) if Instant::now() >= until => return Err(why),
            Err(_) => std::thread::park_timeout(LOOK_AGAIN),
        }
    }
}

/// Whether a client's line says this.
pub(crate) fn says(line: &Value, what: &str, wanted: bool) -> bool {
    line.get(what).and_then(Value::as_bool) == Some(wanted)
}
