//! Ports of pods through the API server, as `kubectl port-forward` reaches them: also those on a pod's loopback.
//! Owns the one HTTP question that is asked there. Whose port it is, and what the answer means, is the command's.

use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use crate::api::client::Client;
use crate::api::error::{ApiError, Said};

/// The largest answer: a dump of a mesh of 50,000 workloads, twice.
const ANSWER_BYTES: usize = 128 << 20;
/// A port that closed without an answer may still say why, a moment later.
const LAST_WORD: Duration = Duration::from_millis(500);

/// A port of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodPort<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// The pod.
    pub pod: &'a str,
    /// The port, as a process in the pod listens on it.
    pub port: u16,
}

/// What a port answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortAnswer {
    /// The status code.
    pub status: u16,
    /// The body; what is no UTF-8 in it is replaced.
    pub body: String,
}

/// Why a port did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The API server does not lead there.
    #[error("there is no way to the pod")]
    Way(#[source] ApiError),
    /// It does, but the node could not connect in the pod.
    #[error("nothing answers on port {port} of the pod: {said}")]
    Closed {
        /// The port.
        port: u16,
        /// As the node says it.
        said: String,
    },
    /// Connected, but what came is no answer.
    #[error("port {port} of the pod broke the connection off")]
    Broken {
        /// The port.
        port: u16,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Connected, but nothing came.
    #[error("port {port} of the pod did not answer within {limit:?}")]
    Silent {
        /// The port.
        port: u16,
        /// The limit.
        limit: Duration,
    },
}

impl Client {
    /// Asks a port of a pod one question over HTTP/1.1.
    ///
    /// # Errors
    /// When the port cannot be reached, or does not answer within the client's limit.
    pub async fn ask_port(
        &self,
        at: PodPort<'_>,
        method: Method,
        path: &str,
    ) -> Result<PortAnswer, ReachError> {
        let (port, limit) = (at.port, self.limits().answer);
        let asked = Box::pin(tokio::time::timeout(limit, self.ask_now(at, method, path)));
        asked.await.unwrap_or(Err(ReachError::Silent { port, limit }))
    }

    async fn ask_now(&self, at: PodPort<'_>, method: Method, path: &str) -> Result<PortAnswer, ReachError> {
        let port = at.port;
        let pods: Api<Pod> = Api::namespaced(self.kube().clone(), at.namespace);
        let mut forward = Box::pin(pods.portforward(at.pod, &[port]))
            .await
            .map_err(|error| ReachError::Way(refused(error)))?;
        let said = forward.take_error(port);
        let Some(stream) = forward.take_stream(port) else {
            return Err(ReachError::Closed { port, said: "it was not offered".into() });
        };
        let broken = match exchange(stream, method, path).await {
            Ok(answer) => return Ok(answer),
            Err(broken) => broken,
        };
        let said = async { said?.await };
        if let Ok(Some(said)) = tokio::time::timeout(LAST_WORD, said).await {
            return Err(ReachError::Closed { port, said: said.trim().to_owned() });
        }
        Err(ReachError::Broken { port, source: broken })
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

/// The connection is driven beside the question, and ends with it.
async fn exchange(stream: tokio::io::DuplexStream, method: Method, path: &str) -> Result<PortAnswer, Broken> {
    let mut request = Request::new(Empty::<bytes::Bytes>::new());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse()?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asked = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
        Ok(PortAnswer { status, body: String::from_utf8_lossy(&body).into_owned() })
    };
    let (answer, _closed) = futures_util::future::join(asked, connection).await;
    answer
}

/// What a refused upgrade means, as any other refusal.
fn refused(error: kube::Error) -> ApiError {
    match error {
        kube::Error::Api(status) => {
            let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let (reason, message) = (status.reason, status.message);
            let name = status.details.map(|details| details.name).unwrap_or_default();
            ApiError::refused(code, Some(Said { reason, message, name }))
        }
        other => ApiError::unreachable(other),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::api::tests::client;
    use crate::api::tests::fake::FakeApi;

    #[tokio::test]
    async fn a_pod_that_is_not_there_is_named_as_such_and_no_port_of_it_is() {
        let fake = FakeApi::start().await;
        let at = PodPort { namespace: "shop", pod: "gone", port: 15000 };
        let refused = client(&fake).await.ask_port(at, Method::GET, "/config_dump").await;
        assert!(matches!(refused, Err(ReachError::Way(ApiError::NotFound { .. }))), "{refused:?}");
    }

    #[tokio::test]
    async fn one_question_is_asked_and_its_whole_answer_read_also_in_chunks() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let server = async move {
            let mut head = vec![0; 1024];
            let read = theirs.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let answer =
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
            theirs.write_all(answer.as_bytes()).await.unwrap();
            head
        };
        let (answer, head) = tokio::join!(exchange(ours, Method::POST, "/logging?level=debug"), server);
        assert_eq!(answer.unwrap(), PortAnswer { status: 200, body: "abcde".into() });
        assert!(head.starts_with("POST /logging?level=debug HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: localhost"), "{head}");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_none() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let server = async move {
            let _head = theirs.read(&mut [0; 1024]).await.unwrap();
            theirs.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
        };
        let (answer, ()) = tokio::join!(exchange(ours, Method::GET, "/"), server);
        assert!(answer.is_err(), "{answer:?}");
    }
}
