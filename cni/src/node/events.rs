//! What the plugin asks over the event socket (`cni.md` 1.5), and the answers.
//! Owns the wire shape and the waiting. Answers: 200 done, 400 not understood, 503 try again, 500 will not do.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambit_cluster::kinds::core::Pod;
use ambit_process::admin::{Body, answer, text};
use ambit_process::clock;
use ambit_wire::node_link::PodUid;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::config::Kubernetes;
use crate::metrics::Answered;
use crate::node::desk::Ask;
use crate::node::enrol::{EnrolError, Ground};
use crate::node::keeper::{Order, Reply};
use crate::node::link::chain;
use crate::node::sandbox::{Records, Sandbox, is_file_name};
use crate::node::subject::{Subject, runtime_uid};
use crate::node::view::View;
use crate::node::want::{Criteria, Want};

/// How long a pod's object may take to arrive after the runtime knew of the pod.
const OBJECT_WAIT: Duration = Duration::from_secs(3);

/// How long a pod that starts may wait for what its node has to have first: a daemon that has read the cluster, and a
/// ztunnel that is about to come. A pod that fails instead is tried again only after ten seconds and more.
const NODE_WAIT: Duration = Duration::from_secs(18);

/// How long a keeper may take; longer than all its steps, and with `NODE_WAIT` shorter than the plugin's patience.
const KEEPER_WAIT: Duration = Duration::from_secs(9);

/// How long a runtime is kept waiting that lets go of a sandbox. It needs nothing of us; its keeper does it all the same.
const GOING_WAIT: Duration = Duration::from_secs(1);

/// Addresses that a pod may have.
const IPS: usize = 32;

/// What the plugin sends. Upstream's plugin leaves out the last members; unknown ones are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    #[serde(rename = "Netns")]
    netns: PathBuf,
    #[serde(rename = "PodName")]
    pod_name: String,
    #[serde(rename = "PodNamespace")]
    pod_namespace: String,
    #[serde(rename = "IPs")]
    ips: Option<Vec<AskedIp>>,
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ContainerID")]
    container_id: String,
    #[serde(rename = "IfName")]
    interface: String,
    #[serde(rename = "ValidContainerIDs")]
    valid: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct AskedIp {
    #[serde(rename = "Address")]
    address: AskedAddress,
}

#[derive(Debug, Deserialize)]
struct AskedAddress {
    #[serde(rename = "IP")]
    ip: String,
}

/// Why a question is answered with no.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the question is not understood: {0}")]
    NotUnderstood(String),
    #[error("pod {namespace}/{name} with uid {uid:?} is not known on this node (yet)")]
    UnknownPod { namespace: String, name: String, uid: String },
    #[error("the daemon has not read the cluster yet")]
    NotReady,
    #[error("the daemon is busy with this pod")]
    Busy,
    #[error("the pod's object cannot be enrolled: {0}")]
    Subject(String),
    #[error("the pod is not enrolled")]
    Enrol(#[from] EnrolError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotUnderstood(_) => StatusCode::BAD_REQUEST,
            Self::UnknownPod { .. } | Self::NotReady | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Enrol(error) if error.passes() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Subject(_) | Self::Enrol(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Answers the plugin; clones share everything.
#[derive(Clone)]
pub(crate) struct Events {
    pub(crate) ground: Arc<Ground>,
    pub(crate) views: watch::Receiver<Arc<View>>,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) criteria: Arc<Criteria>,
}

impl Events {
    /// Answers one question.
    pub(crate) async fn answer(self, request: Request<Bytes>) -> Response<Body> {
        let begun = clock::now();
        let path = request.uri().path().to_owned();
        let result = match path.as_str() {
            "/cmdadd" => self.add(request.body()).await,
            "/cmddel" => self.del(request.body()).await,
            "/check" => self.check(request.body()).await,
            "/gc" => self.collect(request.body()).await,
            "/status" => self.status(),
            _ => return text(StatusCode::NOT_FOUND, "not found\n"),
        };
        let response = result.unwrap_or_else(|refusal| refuse(&path, &refusal));
        let metrics = &self.ground.metrics;
        metrics.answers.get_or_create(&Answered { code: response.status().as_u16() }).inc();
        if path == "/cmdadd" {
            metrics.add_seconds.observe(begun.elapsed().as_secs_f64());
        }
        response
    }

    async fn add(&self, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let asked = parse(body)?;
        if asked.pod_name.is_empty() || asked.pod_namespace.is_empty() || !asked.netns.is_absolute() {
            return Err(Refusal::NotUnderstood("Netns, PodName and PodNamespace must be given".into()));
        }
        let (uid, subject) = self.decided(&asked, clock::now() + NODE_WAIT).await?;
        let enrolled = subject.is_some();
        let sandbox = asked.sandbox(&uid, &self.ground.seen)?;
        self.order(uid, KEEPER_WAIT, |reply| Order::Adopt { sandbox, subject, reply }).await?;
        Ok(answer(StatusCode::OK, "application/json", format!("{{\"enrolled\":{enrolled}}}\n")))
    }

    /// Whose sandbox it is, and whether it is to be taken in: then after a ztunnel is there, if one is about to come.
    /// Whoever asked may go meanwhile, and nothing is begun; whoever changes his mind, as by a label, is heard.
    async fn decided(
        &self,
        asked: &Asked,
        until: Instant,
    ) -> Result<(PodUid, Option<Box<Subject>>), Refusal> {
        let (mut views, mut news) = (self.views.clone(), self.ground.link.news());
        let mut told = false;
        loop {
            news.borrow_and_update();
            views.borrow_and_update();
            let view = self.view_with(asked, until).await?;
            let pod = view.pod(&asked.pod_namespace, &asked.pod_name).ok_or_else(|| asked.unknown())?;
            let uid = PodUid::new(&pod.metadata.uid).map_err(|_| asked.unknown())?;
            let namespace = view.namespace(&asked.pod_namespace);
            if let Want::Out(why) = self.ground.want(pod, namespace, &self.criteria) {
                info!(pod = %asked.pod_name, namespace = %asked.pod_namespace, %why, "a pod is left out");
                return Ok((uid, None));
            }
            let subject = Subject::of(pod, self.ground.node).map_err(|e| Refusal::Subject(chain(&e)))?;
            let is_there = self.ground.link.connected() > 0;
            if is_there || clock::now() >= until || !view.expects_ztunnel(&self.criteria) {
                return Ok((uid, Some(Box::new(subject))));
            }
            if !std::mem::replace(&mut told, true) {
                info!(pod = %subject.object, limit = ?NODE_WAIT, "waits for this node's ztunnel");
            }
            // Every arm is cancel-safe. Senders live as long as we do.
            tokio::select! {
                _ = news.changed() => {}
                _ = views.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    async fn del(&self, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let asked = parse(body)?;
        let Some(uid) = self.find(&asked) else { return Ok(done()) };
        self.let_go(uid, asked.container_id).await?;
        Ok(done())
    }

    /// A sandbox is about to go. What is not done at once is done later, or found out: its path leads nowhere then.
    async fn let_go(&self, uid: PodUid, container_id: String) -> Result<(), Refusal> {
        if !self.views.borrow().complete {
            // Nobody has a keeper yet, and ztunnel is not connected. Whoever goes now is not to be looked for later.
            self.ground.records.remove(&uid);
            return Ok(());
        }
        match self.order(uid.clone(), GOING_WAIT, |reply| Order::Release { container_id, reply }).await {
            Err(Refusal::Busy) => {
                debug!(pod = %uid, "a sandbox is let go of later: its keeper is busy");
                Ok(())
            }
            other => other,
        }
    }

    async fn check(&self, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let asked = parse(body)?;
        let uid = self.find(&asked).ok_or_else(|| asked.unknown())?;
        self.order(uid, KEEPER_WAIT, |reply| Order::Check { reply }).await?;
        Ok(done())
    }

    /// Lets go of every sandbox that the runtime does not name, though it could.
    async fn collect(&self, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let no_list = || Refusal::NotUnderstood("ValidContainerIDs must be given".into());
        let valid = parse(body)?.valid.ok_or_else(no_list)?;
        for (uid, sandbox) in self.ground.records.all() {
            if !sandbox.container_id.is_empty() && !valid.contains(&sandbox.container_id) {
                info!(pod = %uid, "the runtime does not know the sandbox any more");
                self.let_go(uid, sandbox.container_id).await?;
            }
        }
        Ok(done())
    }

    fn status(&self) -> Result<Response<Body>, Refusal> {
        if self.views.borrow().complete { Ok(done()) } else { Err(Refusal::NotReady) }
    }

    /// The view, once the pod asked about is in it; by its uid where the plugin says one.
    async fn view_with(&self, asked: &Asked, until: Instant) -> Result<Arc<View>, Refusal> {
        let mut views = self.views.clone();
        // Cancel-safe: it only looks.
        let complete = tokio::time::timeout_at(until, views.wait_for(|view| view.complete)).await;
        if !matches!(complete, Ok(Ok(_))) {
            return Err(Refusal::NotReady);
        }
        drop(complete);
        let known = |view: &Arc<View>| {
            let pod = view.pod(&asked.pod_namespace, &asked.pod_name);
            let same = |uid: &str| !uid.is_empty() && (asked.pod_uid.is_empty() || asked.pod_uid == uid);
            let is_it = |pod: &Pod| same(&pod.metadata.uid) || same(runtime_uid(pod));
            pod.is_some_and(|pod| is_it(pod)) && view.has_namespace(&asked.pod_namespace)
        };
        let found = tokio::time::timeout(OBJECT_WAIT, views.wait_for(known)).await;
        match found {
            Ok(Ok(view)) => Ok(Arc::clone(&view)),
            Ok(Err(_)) => Err(Refusal::NotReady),
            Err(_) => Err(asked.unknown()),
        }
    }

    /// Whose sandbox this is. The pod's object may be gone already, and so may our record.
    fn find(&self, asked: &Asked) -> Option<PodUid> {
        // Upstream's plugin names no container: then all such sandboxes would look the same.
        let container = Some(&asked.container_id).filter(|id| !id.is_empty());
        let by_container =
            |(uid, it): (PodUid, Sandbox)| (Some(&it.container_id) == container).then_some(uid);
        let by_name = || {
            let view = self.views.borrow();
            PodUid::new(&view.pod(&asked.pod_namespace, &asked.pod_name)?.metadata.uid).ok()
        };
        let recorded = self.ground.records.all().into_iter().find_map(by_container);
        recorded.or_else(|| PodUid::new(&asked.pod_uid).ok()).or_else(by_name)
    }

    async fn order(
        &self,
        uid: PodUid,
        limit: Duration,
        make: impl FnOnce(Reply) -> Order,
    ) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.asks.try_send((uid, make(reply))).map_err(|_| Refusal::Busy)?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) | Err(_) => Err(Refusal::Busy),
        }
    }
}

impl Records {
    /// All records as they are on disk now.
    fn all(&self) -> Vec<(PodUid, Sandbox)> {
        self.list().unwrap_or_default().into_iter().collect()
    }
}

impl Asked {
    fn unknown(&self) -> Refusal {
        let Self { pod_name, pod_namespace, pod_uid, .. } = self;
        Refusal::UnknownPod { namespace: pod_namespace.clone(), name: pod_name.clone(), uid: pod_uid.clone() }
    }

    fn sandbox(&self, uid: &PodUid, seen: &Kubernetes) -> Result<Sandbox, Refusal> {
        if !is_file_name(uid.as_str()) {
            return Err(Refusal::NotUnderstood(format!(
                "uid {uid} holds other characters than letters, digits, -._"
            )));
        }
        Ok(Sandbox {
            uid: uid.to_string(),
            container_id: self.container_id.clone(),
            interface: self.interface.clone(),
            netns: seen.seen(&self.netns),
            ips: self.addresses()?,
            mark: None,
        })
    }

    fn addresses(&self) -> Result<Vec<IpAddr>, Refusal> {
        let ips = self.ips.iter().flatten().take(IPS).map(|it| it.address.ip.parse::<IpAddr>());
        let ips: Result<_, _> = ips.map(|ip| ip.map(|ip| ip.to_canonical())).collect();
        ips.map_err(|error| Refusal::NotUnderstood(format!("IPs: {error}")))
    }
}

/// Whether a body reads as a question, its addresses included.
#[must_use]
pub fn is_question(body: &[u8]) -> bool {
    parse(body).is_ok_and(|asked| asked.addresses().is_ok())
}

/// Text first: of members that it passes over, the JSON reader would not notice that they are none.
fn parse(body: &[u8]) -> Result<Asked, Refusal> {
    let text = std::str::from_utf8(body).map_err(|error| Refusal::NotUnderstood(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| Refusal::NotUnderstood(error.to_string()))
}

fn done() -> Response<Body> {
    text(StatusCode::OK, "")
}

fn refuse(path: &str, refusal: &Refusal) -> Response<Body> {
    let why = chain(refusal);
    warn!(path, why, "the plugin is refused");
    text(refusal.status(), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_no_text_or_holds_no_addresses_where_they_should_be_is_no_question() {
        let good = br#"{"Netns":"/n","IPs":[{"Interface":0,"Address":{"IP":"fd00::5"}}],"Later":"x"}"#;
        for (body, fine) in [
            (&good[..], true),
            (b"{}", true),
            (br#"{"IPs":null}"#, true),
            (b"{\"Later\":\"\xd5\"}", false),
            (br#"{"IPs":[{"Address":{"IP":"10.0.0.256"}}]}"#, false),
            (br#"{"IPs":[{"Address":{}}]}"#, false),
            (br#"{"PodName":7}"#, false),
            (br#"{"PodName":"a","PodName":"b"}"#, false),
            (b"", false),
        ] {
            assert_eq!(is_question(body), fine, "{}", String::from_utf8_lossy(body));
        }
    }
}
