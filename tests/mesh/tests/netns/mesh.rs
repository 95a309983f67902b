//! A mesh for one test, driven through the `ambit` command as a person drives it; gone when it is dropped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::programs::ambit;

/// How long a change may take until it is seen, on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(30);

/// A word nobody else says.
pub fn ticket() -> String {
    format!("ticket-{:016x}", fastrand::u64(..))
}

/// The demo's cluster, with namespace `shop` in the mesh from the start.
pub struct Mesh {
    dir: TempDir,
    name: String,
    program: PathBuf,
}

impl Mesh {
    pub fn up(name: &str) -> Self {
        Self::up_with(name, None)
    }

    /// With a setting in its programs' environment.
    pub fn up_with(name: &str, setting: Option<(&str, &str)>) -> Self {
        Self::begin(name, Path::new(ambit().get_program()).parent().unwrap(), setting)
    }

    /// Of the programs in this folder.
    pub fn up_from(name: &str, programs: &Path) -> Self {
        Self::begin(name, programs, None)
    }

    fn begin(name: &str, programs: &Path, setting: Option<(&str, &str)>) -> Self {
        let (dir, program) = (tempfile::tempdir().unwrap(), programs.join("ambit"));
        let mesh = Self { dir, name: name.to_owned(), program };
        let cluster = include_str!("../../../../deploy/demo/00-cluster.yaml");
        let shop = "  name: shop\n";
        let labelled = format!("{shop}  labels:\n    istio.io/dataplane-mode: ambient\n");
        fs::create_dir(mesh.manifests()).unwrap();
        mesh.write("cluster.yaml", &cluster.replacen(shop, &labelled, 1));
        mesh.write("pods.yaml", include_str!("../../../../deploy/demo/10-pods.yaml"));
        mesh.write("services.yaml", include_str!("../../../../deploy/demo/20-services.yaml"));
        let manifests = mesh.manifests();
        mesh.ran(mesh.local().args(["up", manifests.to_str().unwrap()]).envs(setting));
        mesh
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Runs a `local` command, which must succeed; returns what it printed.
    pub fn run(&self, words: &[&str]) -> String {
        self.ran(self.local().args(words))
    }

    /// What `ambit why` says of it.
    pub fn why(&self, words: &[&str]) -> Value {
        let mut command = Command::new(&self.program);
        command
            .args(["why", "-o", "json", "--name", &self.name, "--run-dir"])
            .arg(self.run_dir())
            .args(words);
        serde_json::from_str(&self.ran(&mut command)).unwrap()
    }

    fn ran(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let told =
            [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it).into_owned()).concat();
        assert!(output.status.success(), "{command:?}: {told}{}", self.programs_said());
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn write(&self, name: &str, text: &str) {
        let hidden = self.manifests().join(format!(".{name}"));
        fs::write(&hidden, text).unwrap();
        fs::rename(&hidden, self.manifests().join(name)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.manifests().join(name)).unwrap();
    }

    /// Asks once from inside a pod.
    pub fn fetch(&self, pod: &str, url: &str) -> Result<Value, String> {
        let words = ["exec", pod, "--", "ambit", "pod", "fetch", "--timeout-ms", "20000", url];
        let output = self.local().args(words).output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())
    }

    /// The pod must get no answer.
    pub fn refused(&self, pod: &str, url: &str) -> Result<(), String> {
        let words = ["exec", pod, "--", "ambit", "pod", "fetch", "--timeout-ms", "2000", url];
        let output = self.local().args(words).output().unwrap();
        match output.status.code() {
            // A client that ran and got none; one that could not run shows nothing of the kind.
            Some(1) => Ok(()),
            _ => Err(format!("{pod}: {output:?}")),
        }
    }

    /// The pod as it is shown.
    pub fn pod(&self, pod: &str) -> Result<Value, String> {
        let (namespace, name) = pod.split_once('/').unwrap();
        let status = self.status();
        let pods = status["pods"].as_array().unwrap();
        let found = pods.iter().find(|p| p["namespace"] == namespace && p["name"] == name);
        found.cloned().ok_or_else(|| format!("there is no pod {pod}"))
    }

    pub fn phase(&self, pod: &str, wanted: &str) -> Result<(), String> {
        let found = self.pod(pod)?;
        if found["phase"] == wanted { Ok(()) } else { Err(found.to_string()) }
    }

    /// Files the namespaces of the mesh are pinned to.
    pub fn spaces(&self) -> Vec<PathBuf> {
        let status = self.status();
        let pods = status["pods"].as_array().unwrap();
        pods.iter().map(|pod| PathBuf::from(pod["space"].as_str().unwrap())).collect()
    }

    pub fn kill_supervisor(&self) {
        let record = fs::read_to_string(self.run_dir().join(&self.name).join("proc/supervisor")).unwrap();
        let pid = record.split(' ').next().unwrap();
        kill(pid);
    }

    /// What passes between the nodes from now on.
    pub fn wire(&self) -> Wire {
        let mut command = self.local();
        let mut child = command.arg("wire").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        lines.read_line(&mut ready).unwrap();
        Wire { child, lines }
    }

    /// The pod must not be there any more.
    pub fn absent(&self, pod: &str) -> Result<(), String> {
        self.pod(pod).map_or(Ok(()), |pod| Err(pod.to_string()))
    }

    /// Runs a `local` command, which must fail; returns what it said.
    pub fn fails(&self, words: &[&str]) -> String {
        let output = self.local().args(words).output().unwrap();
        assert!(!output.status.success(), "ambit local {words:?} went well");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Starts the mesh once more; returns what it warned of.
    pub fn up_again(&self) -> String {
        let output = self.local().args(["up", self.manifests().to_str().unwrap()]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        told
    }

    /// A file that is not among the manifests.
    pub fn aside(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn manifest_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.manifests()).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Kills a program behind the supervisor's back.
    pub fn crash(&self, component: &str) {
        let status = self.status();
        let all = status["components"].as_array().unwrap();
        let found = all.iter().find(|c| c["component"] == component).unwrap();
        kill(&found["pid"].to_string());
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.run_dir().join(&self.name).join("log").join(format!("{name}.log"))
    }

    /// Requests over new connections, one after the other, until dropped.
    pub fn load(&self, pod: &str, url: &str, every_ms: u32) -> Load {
        let every = every_ms.to_string();
        let words = ["exec", pod, "--", "ambit", "pod", "load", "--every-ms", &every, url];
        let mut command = self.local();
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Load { child, lines: lines.into() }
    }

    /// One connection, asked over again and again until dropped.
    pub fn hold(&self, pod: &str, url: &str) -> Held {
        let mut command = self.local();
        command.args(["exec", pod, "--", "ambit", "pod", "hold", url]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut held = Held { child, lines, answers: 0 };
        held.answers();
        held
    }

    /// Resident memory of the mesh's programs.
    pub fn resident(&self) -> Vec<String> {
        let status = self.status();
        let of = |component: &Value| {
            let about = fs::read_to_string(format!("/proc/{}/status", component["pid"])).ok()?;
            let line = about.lines().find(|line| line.starts_with("VmRSS:"))?;
            Some(format!("{} {}", component["component"].as_str()?, line["VmRSS:".len()..].trim()))
        };
        status["components"].as_array().unwrap().iter().filter_map(of).collect()
    }

    /// A program of the mesh as it is shown.
    pub fn component(&self, name: &str) -> Value {
        let status = self.status();
        let all = status["components"].as_array().unwrap();
        all.iter().find(|it| it["component"] == name).unwrap().clone()
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["status", "--json"])).unwrap()
    }

    fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    fn local(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["local", "--name", &self.name, "--run-dir"]).arg(self.run_dir());
        command
    }

    fn programs_said(&self) -> String {
        let logs = fs::read_dir(self.run_dir().join(&self.name).join("log"));
        let mut said = String::new();
        for log in logs.into_iter().flatten().flatten() {
            let text = fs::read_to_string(log.path()).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(15)..].join("\n");
            said += &format!("\n--- {}\n{tail}", log.path().display());
        }
        said
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.programs_said());
        }
        let _gone = self.local().arg("down").status();
    }
}

fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

/// A capture on the link between the nodes.
pub struct Wire {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Wire {
    /// Ends it; returns all TCP segments that carried bytes.
    pub fn finish(mut self) -> Vec<Value> {
        drop(self.child.stdin.take());
        let lines = self.lines.lines().map_while(Result::ok);
        let seen = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
        self.child.wait().unwrap();
        seen
    }
}

/// A client that keeps its connection.
pub struct Held {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    answers: u64,
}

impl Held {
    /// Waits for an answer that came since this was called last; it says every second how many there were.
    pub fn answers(&mut self) {
        // What it said meanwhile is of before.
        let before = Instant::now();
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the connection's client ended");
            let told: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(told["held"], true, "the connection ended: {line}");
            let answers = told["answers"].as_u64().unwrap();
            let is_news = answers > std::mem::replace(&mut self.answers, answers);
            // A line that was waiting is read at once; the next one takes up to a second.
            if is_news && before.elapsed() > Duration::from_millis(1500) {
                return;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// A client that asks again and again.
pub struct Load {
    child: Child,
    lines: std::cell::RefCell<BufReader<std::process::ChildStdout>>,
}

impl Load {
    /// Waits until requests pass, or fail; the moment that was told.
    pub fn until(&self, passes: bool) -> Instant {
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.borrow_mut().read_line(&mut line).unwrap(), 0, "the load ended");
            let at = Instant::now();
            let told: Value = serde_json::from_str(&line).unwrap();
            if told["passes"] == passes {
                return at;
            }
        }
    }
}

impl Load {
    /// Ends it; what became of its requests.
    pub fn finish(mut self) -> Value {
        drop(self.child.stdin.take());
        let lines = self.lines.get_mut().lines().map_while(Result::ok);
        serde_json::from_str(&lines.last().expect("a summary")).unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}
