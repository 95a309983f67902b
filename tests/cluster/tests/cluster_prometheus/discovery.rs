//! Pods of the cluster, named to Prometheus as its own discovery names them: Debian's build of it comes without the
//! part for Kubernetes. Owns the labels that the documented configuration relabels, and telling them over HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ambit_cluster_lab::{Lab, pause};
use anyhow::Result;
use serde_json::{Map, Value, json};

/// How the configuration says it, and how it is said here.
pub(crate) const KUBERNETES: &str = "kubernetes_sd_configs: [{ role: pod }]";

/// Where targets are told.
pub(crate) struct Discovery {
    listener: TcpListener,
    over: AtomicBool,
}

impl Discovery {
    /// On this machine, where nodes reach it.
    pub(crate) fn new(lab: &Lab) -> Result<Self> {
        let listener = TcpListener::bind((lab.spec().slot.machine(), 0))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, over: AtomicBool::new(false) })
    }

    /// What takes the place of [`KUBERNETES`].
    pub(crate) fn configuration(&self) -> Result<String> {
        let address: SocketAddr = self.listener.local_addr()?;
        Ok(format!("http_sd_configs: [{{ url: 'http://{address}/', refresh_interval: 2s }}]"))
    }

    /// Answers until it is over.
    pub(crate) fn serve(&self, lab: &Lab) {
        while !self.over.load(Ordering::Relaxed) {
            match self.listener.accept() {
                // A pod that is missed is there the next time.
                Ok((stream, _)) => drop(answer(stream, lab)),
                Err(_) => pause(Duration::from_millis(50)),
            }
        }
    }

    /// Ends [`Discovery::serve`].
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn answer(mut stream: TcpStream, lab: &Lab) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut asked = [0; 4096];
    let _length = stream.read(&mut asked)?;
    let pods: Value = serde_json::from_str(&lab.kubectl(&["get", "pods", "-A", "-o", "json"])?)?;
    let targets: Vec<Value> = pods["items"].as_array().into_iter().flatten().flat_map(targets).collect();
    let body = serde_json::to_string(&targets)?;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len())?;
    Ok(())
}

/// One for each port of each container, or one without a port.
fn targets(pod: &Value) -> Vec<Value> {
    let Some(address) = pod["status"]["podIP"].as_str() else { return Vec::new() };
    let mut targets = Vec::new();
    for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
        let mut labels = labels(pod);
        labels.insert("__meta_kubernetes_pod_container_name".into(), container["name"].clone());
        let ports = container["ports"].as_array().cloned().unwrap_or_default();
        if ports.is_empty() {
            targets.push(json!({ "targets": [address], "labels": labels }));
        }
        for port in ports {
            labels.insert("__meta_kubernetes_pod_container_port_name".into(), port["name"].clone());
            targets.push(
                json!({ "targets": [format!("{address}:{}", port["containerPort"])], "labels": labels }),
            );
        }
    }
    targets
}

fn labels(pod: &Value) -> Map<String, Value> {
    let meta = &pod["metadata"];
    let mut labels = Map::new();
    labels.insert("__meta_kubernetes_namespace".into(), meta["namespace"].clone());
    labels.insert("__meta_kubernetes_pod_name".into(), meta["name"].clone());
    for (sort, all) in [("label", &meta["labels"]), ("annotation", &meta["annotations"])] {
        for (name, value) in all.as_object().into_iter().flatten() {
            let name: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            labels.insert(format!("__meta_kubernetes_pod_{sort}_{name}"), value.clone());
        }
    }
    labels
}
