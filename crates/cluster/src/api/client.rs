//! The one way to the API server: who we are to it, how long an answer may take, how large it may be, and what a
//! refusal means. Owns no state of the cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, Response, header};
use http_body_util::BodyExt;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use kube::Config;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tower::{BoxError, ServiceBuilder};

use crate::api::error::{ApiError, Said};

/// Largest text of a refusal that is read; a longer one is cut.
const REFUSAL_BYTES: usize = 64 << 10;

/// How long and how much: every wait for the API server, and every size that it may answer with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until an answer begins, and between two pieces of one that is read whole.
    pub answer: Duration,
    /// Without any news, bookmarks included, after which a watch is begun again: the server sends a bookmark a minute.
    pub quiet: Duration,
    /// Asked of the server as a watch's lifetime; it is varied by a quarter.
    pub watch: Duration,
    /// The first pause after a failure; doubled each time.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How often a kind that is not installed is looked for.
    pub look_again: Duration,
    /// Objects asked for at once: ten kilobytes each, in transit.
    pub page: usize,
    /// The largest answer that is read whole.
    pub answer_bytes: usize,
    /// The largest single change: etcd holds no object above 1.5 MB.
    pub line_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            quiet: Duration::from_secs(100),
            watch: Duration::from_secs(240),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(5),
            look_again: Duration::from_secs(5),
            page: 100,
            answer_bytes: 32 << 20,
            line_bytes: 8 << 20,
        }
    }
}

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file does not read, or holds no such thing.
    #[error("cannot use the kubeconfig {}; name one that kubectl accepts", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// This is no pod, or its service account is not mounted.
    #[error("no service account of a pod is found here; outside of a cluster give a kubeconfig")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// The credentials cannot be used.
    #[error("the credentials for the API server cannot be used")]
    Credentials(#[source] Box<kube::Error>),
}

/// A way to an API server. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Client {
    kube: kube::Client,
    limits: Limits,
    namespace: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Client {
    /// The API server of a kubeconfig's current context. Call within a tokio runtime; connects at the first question.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub async fn from_kubeconfig(path: &Path) -> Result<Self, OpenError> {
        let wrong = |source| OpenError::Kubeconfig { path: path.into(), source: Box::new(source) };
        let file = Kubeconfig::read_from(path).map_err(wrong)?;
        let options = KubeConfigOptions::default();
        let config = Box::pin(Config::from_custom_kubeconfig(file, &options)).await.map_err(wrong)?;
        Self::new(config)
    }

    /// The API server of the cluster that this program is a pod of.
    ///
    /// # Errors
    /// When this is no pod, or its service account is not mounted.
    pub fn in_cluster() -> Result<Self, OpenError> {
        Self::new(Config::incluster().map_err(|source| OpenError::InCluster(Box::new(source)))?)
    }

    /// Of kube's stack the parts that know who we are: limits and retries are ours, and so is what is logged.
    pub(crate) fn new(config: Config) -> Result<Self, OpenError> {
        let wrong = |source| OpenError::Credentials(Box::new(source));
        let connector = config.rustls_https_connector().map_err(wrong)?;
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().map_err(wrong)?)
            .map_err(BoxError::from)
            .service(legacy::Client::builder(TokioExecutor::new()).build(connector));
        let namespace = config.default_namespace;
        let kube = kube::Client::new(service, namespace.as_str());
        Ok(Self { kube, limits: Limits::default(), namespace })
    }

    /// With other limits.
    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The namespace of the pod, or of the kubeconfig's context.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn kube(&self) -> &kube::Client {
        &self.kube
    }

    /// Asks for an object of any type.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let answer = self.whole(request(Method::GET, path, None, Vec::new())).await?;
        parse(&answer)
    }

    /// Sends an object and reads the one that is answered.
    pub(crate) async fn submit<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content: &'static str,
        body: Vec<u8>,
    ) -> Result<T, ApiError> {
        let answer = self.whole(request(method, path, Some(content), body)).await?;
        parse(&answer)
    }

    /// Asks, and reads the answer whole.
    pub(crate) async fn whole(&self, request: Request<Vec<u8>>) -> Result<Bytes, ApiError> {
        let body = self.send(request).await?;
        let limits = &self.limits;
        Box::pin(collect(body, limits.answer, limits.answer_bytes)).await
    }

    /// Asks, and reads the answer line by line as it comes.
    pub(crate) async fn lines(&self, request: Request<Vec<u8>>) -> Result<Lines, ApiError> {
        let body = self.send(request).await?;
        Ok(Lines { body, buffer: BytesMut::new(), looked_at: 0, limit: self.limits.line_bytes })
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Body, ApiError> {
        let limit = self.limits.answer;
        let sent = Box::pin(tokio::time::timeout(limit, self.kube.send(request.map(Body::from))));
        let response = sent.await.map_err(|_| ApiError::Silent { limit })?.map_err(ApiError::unreachable)?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        Err(refusal(response, limit).await)
    }
}

/// A request as the API server reads it.
pub(crate) fn request(
    method: Method,
    path: &str,
    content: Option<&'static str>,
    body: Vec<u8>,
) -> Request<Vec<u8>> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    // What is no path is asked for as the root, which is answered with a refusal.
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
    if let Some(content) = content {
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content));
    }
    request
}

fn parse<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(answer).map_err(ApiError::Unreadable)
}

async fn collect(mut body: Body, limit: Duration, most: usize) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(limit, body.frame()).await;
        match frame.map_err(|_| ApiError::Silent { limit })? {
            None => return Ok(whole.freeze()),
            Some(frame) => {
                let Ok(data) = frame.map_err(ApiError::broken)?.into_data() else { continue };
                if whole.len() + data.remaining() > most {
                    return Err(ApiError::TooLarge { most });
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}

/// A refusal's text, as far as it reads.
async fn refusal(response: Response<Body>, limit: Duration) -> ApiError {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        kind: String,
        reason: String,
        message: String,
        details: Details,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details {
        name: String,
    }
    let code = response.status();
    let text = Box::pin(collect(response.into_body(), limit, REFUSAL_BYTES)).await.unwrap_or_default();
    let status: Status = serde_json::from_slice(&text).unwrap_or_default();
    let Status { kind, reason, message, details } = status;
    let said = (kind == "Status").then_some(Said { reason, message, name: details.name });
    ApiError::refused(code, said)
}

/// An answer that goes on: one change a line.
pub(crate) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer holds no line's end.
    looked_at: usize,
    limit: usize,
}

impl Lines {
    /// The next line; none at the end. What was cut off in the middle is not told. Cancel-safe: bytes stay in the
    /// buffer until a whole line is there.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if let Some(line) = self.ready() {
                return Ok(Some(line));
            }
            if self.buffer.len() > self.limit {
                return Err(ApiError::TooLarge { most: self.limit });
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.map_err(ApiError::broken)?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// A line that is there already.
    pub(crate) fn ready(&mut self) -> Option<Bytes> {
        let fresh = self.buffer.get(self.looked_at..).unwrap_or_default();
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.looked_at = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.looked_at + end).freeze();
        self.buffer.advance(1);
        self.looked_at = 0;
        Some(line)
    }
}
