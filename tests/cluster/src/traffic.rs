//! Programs in pods that run while something breaks, and what they said when.
//! Owns starting them on the node itself: what passes the API server, as `kubectl exec` does, ends with it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::lab::Lab;
use crate::wait::wait;

/// How long a program may go on after it was asked to end.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// A program in a pod, until it ends or this is dropped.
pub struct Running {
    what: String,
    child: Child,
    input: Option<ChildStdin>,
    said: Arc<Mutex<Vec<(Instant, String)>>>,
    reader: Option<JoinHandle<()>>,
}

/// What `ambit pod load` says at its end.
#[derive(Debug, Clone, Deserialize)]
pub struct Load {
    /// Requests.
    pub sent: u64,
    /// How many of them had no answer, or one that says no.
    pub failed: u64,
    /// The longest took so long.
    pub longest_ms: u64,
    /// The longest that one of those answered waited for the server's address.
    pub longest_naming_ms: u64,
    /// Which was the first, and why.
    pub first_failure: Option<serde_json::Value>,
    /// How long it went on; told by those who ask steadily.
    #[serde(default)]
    pub took_ms: u64,
    /// Connections that they opened.
    #[serde(default)]
    pub connections: u64,
    /// Requests that they sent once more, since the connection they had kept ended without a word.
    #[serde(default)]
    pub asked_again: u64,
    /// What was said before the end, each with the time of day (UTC) at which it was heard, as logs have it.
    #[serde(skip)]
    pub words: Vec<String>,
}

impl Load {
    /// How many a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        (self.sent * 1000).checked_div(self.took_ms).unwrap_or_default()
    }
}

impl Lab {
    /// Starts a program in a running pod (`NAMESPACE/NAME`), past the API server.
    pub fn start_in(&self, pod: &str, command: &[&str]) -> Result<Running> {
        /// Names for containerd; a container may have several.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (namespace, name) = pod.split_once('/').context("a pod is called NAMESPACE/NAME")?;
        let place = "jsonpath={.spec.nodeName} {.status.containerStatuses[0].containerID}";
        let place = self.kubectl(&["-n", namespace, "get", "pod", name, "-o", place])?;
        let (node, container) = place.split_once(" containerd://").context("the pod does not run")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let mut words = vec!["ctr", "-n", "k8s.io", "tasks", "exec", "--exec-id"];
        let id = format!("story-{number}");
        words.extend([id.as_str(), container]);
        words.extend(command);
        let mut program = self.node(node)?.command(&words)?;
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = program.spawn()?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let (output, heard) = (child.stdout.take().context("no output")?, Arc::clone(&said));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), line));
            }
        });
        let what = format!("{pod}: {}", command.join(" "));
        Ok(Running { what, input: child.stdin.take(), child, said, reader: Some(reader) })
    }

    /// A pod asks for `url` so many times a second, each time over a new connection.
    pub fn load(&self, pod: &str, url: &str, per_second: u32) -> Result<Running> {
        let pause = (1000 / per_second.max(1)).to_string();
        let running = self.start_in(pod, &["ambit", "pod", "load", "--every-ms", &pause, url])?;
        wait("the first request", LAST_WORDS, &[], || running.first_line())?;
        Ok(running)
    }

    /// A pod asks for `url` so many times a second over connections that it keeps, however long answers take.
    pub fn steady(&self, pod: &str, url: &str, per_second: u32) -> Result<Running> {
        let rate = per_second.to_string();
        let running = self.start_in(pod, &["ambit", "pod", "load", "--per-second", &rate, url])?;
        wait("the first request", LAST_WORDS, &[], || running.first_line())?;
        Ok(running)
    }

    /// A pod keeps one connection open and asks over it.
    pub fn hold(&self, pod: &str, url: &str) -> Result<Running> {
        let running = self.start_in(pod, &["ambit", "pod", "hold", url])?;
        wait("the connection", LAST_WORDS, &[], || running.first_line())?;
        Ok(running)
    }
}

impl Running {
    fn first_line(&self) -> Result<()> {
        self.lines().first().map(drop).with_context(|| format!("{} says nothing", self.what))
    }

    /// What it has said, and when it was heard.
    pub fn lines(&self) -> Vec<(Instant, String)> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When a held connection ended, and the line that says so.
    pub fn ended(&self) -> Option<(Instant, String)> {
        self.lines().into_iter().find(|(_, line)| line.contains("\"held\":false"))
    }

    /// Ends a load, and says what became of it.
    pub fn finish(mut self) -> Result<Load> {
        drop(self.input.take());
        let child = &mut self.child;
        wait(&self.what, LAST_WORDS, &[], || child.try_wait()?.context("it goes on"))?;
        if let Some(reader) = self.reader.take() {
            // A reader that panicked has heard nothing more.
            let _heard = reader.join();
        }
        let lines = self.lines();
        let Some((_, last)) = lines.last() else { bail!("{} said nothing", self.what) };
        let load: Load = serde_json::from_str(last).with_context(|| format!("{}: {last}", self.what))?;
        let words = lines.iter().map(|(at, line)| format!("{} {line}", time_of_day(at.elapsed())));
        Ok(Load { words: words.collect(), ..load })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, or nobody needs it any more.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The time of day, so long ago.
#[expect(
    clippy::disallowed_methods,
    reason = "beside the clocks in the logs of a real cluster, which nobody plays"
)]
fn time_of_day(ago: Duration) -> String {
    let then =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(ago);
    let seconds = then.as_secs() % (24 * 3600);
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, then.subsec_millis())
}
