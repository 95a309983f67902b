//! gRPC as others write it, at both ends of a waypoint: calls, failures with their words, streams of both directions, and
//! calls that are given up.

use std::pin::Pin;
use std::time::Duration;

use ambit_model::delta::Change;
use ambit_model::service::AppProtocol;
use ambit_process::net::TcpListener;
use ambit_wire::pb::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use ambit_wire::pb::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use ambit_wire::pb::auth::{IstioCertificateRequest, IstioCertificateResponse};
use ambit_wire::pb::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use ambit_wire::pb::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use ambit_wire::pb::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::Service as _;

use crate::outside::{OUTSIDE, plain};
use crate::scene::{PATIENCE, Scene, scene, service};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Some application: what it is asked for is of no account.
struct App;

#[tonic::async_trait]
impl IstioCertificateService for App {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let from = request.metadata().get("x-from").map(|it| it.to_str().unwrap().to_owned());
        let csr = request.into_inner().csr;
        match csr.as_str() {
            "wrong" => Err(Status::not_found("there is none: \u{fc}berall")),
            "slow" => {
                tokio::time::sleep(PATIENCE).await;
                Err(Status::internal("nobody waits so long"))
            }
            _ => {
                let cert_chain = vec![csr, from.unwrap_or_default()];
                let mut answer = Response::new(IstioCertificateResponse { cert_chain });
                answer.metadata_mut().insert("x-app", "app".parse().unwrap());
                Ok(answer)
            }
        }
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for App {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    /// Answers each message with its name, and fails at one that says so.
    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let answers = request.into_inner().map(|asked| match asked?.type_url {
            name if name == "fail" => Err(Status::resource_exhausted("enough")),
            name => Ok(DeltaDiscoveryResponse { type_url: name, ..DeltaDiscoveryResponse::default() }),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Starts the application.
pub(crate) async fn app(scene: &mut Scene) {
    let listener = TcpListener::bind((OUTSIDE, 8080)).await.unwrap();
    scene.tasks.spawn("app", move |stop| async move {
        let (calls, streams) =
            (IstioCertificateServiceServer::new(App), AggregatedDiscoveryServiceServer::new(App));
        let both = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let (mut calls, mut streams) = (calls.clone(), streams.clone());
            async move {
                match request.uri().path().starts_with("/istio.") {
                    true => calls.call(request).await,
                    false => streams.call(request).await,
                }
            }
        });
        let incoming = TcpListenerStream::new(listener);
        let ended = async move { stop.stopped().await };
        Box::pin(Server::builder().serve_with_incoming_shutdown(both, incoming, ended)).await.unwrap();
    });
}

/// A client whose only connection is this tunnel.
async fn channel(scene: &Scene) -> Channel {
    let mut stream = Some(scene.open("cart", "10.1.0.1:80").await.unwrap());
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream =
            stream.take().map(TokioIo::new).ok_or_else(|| std::io::Error::other("there is one only"));
        std::future::ready(stream)
    });
    Endpoint::from_static("http://web.shop").connect_with_connector(connector).await.unwrap()
}

/// The service `web`, which is the application, on a port of this protocol.
pub(crate) fn world(protocol: AppProtocol) -> Vec<Change> {
    let web = service("web", "10.1.0.1", protocol);
    vec![
        Change::Service(std::sync::Arc::new(web)),
        Change::Workload(std::sync::Arc::new(plain("app", OUTSIDE))),
    ]
}

#[test]
fn calls_streams_and_failures_of_grpc_arrive_as_they_were_meant() {
    scene(&world(AppProtocol::Grpc), async |scene| {
        app(scene).await;
        let channel = channel(scene).await;
        let mut calls = IstioCertificateServiceClient::new(channel.clone());
        let ask =
            |csr: &str| IstioCertificateRequest { csr: csr.into(), ..IstioCertificateRequest::default() };
        let mut request = Request::new(ask(&"long ".repeat(200_000)));
        request.metadata_mut().insert("x-from", "cart".parse().unwrap());
        let answer = calls.create_certificate(request).await.unwrap();
        assert_eq!(answer.metadata().get("x-app").unwrap(), "app");
        let chain = answer.into_inner().cert_chain;
        assert_eq!((chain[0].len(), chain[1].as_str()), (1_000_000, "cart"));
        let failed = calls.create_certificate(ask("wrong")).await.unwrap_err();
        assert_eq!((failed.code(), failed.message()), (Code::NotFound, "there is none: \u{fc}berall"));
        let mut late = Request::new(ask("slow"));
        late.set_timeout(Duration::from_millis(200));
        let failed = calls.create_certificate(late).await.unwrap_err();
        assert!(matches!(failed.code(), Code::DeadlineExceeded | Code::Cancelled), "{failed:?}");
        messages_go_both_ways(channel).await;
        scene.logged(&["request complete", "DeltaAggregatedResources", "response_code=200"]);
    });
}

async fn messages_go_both_ways(channel: Channel) {
    let (say, said) = mpsc::channel(1);
    let mut streams = AggregatedDiscoveryServiceClient::new(channel);
    let asked =
        |name: &str| DeltaDiscoveryRequest { type_url: name.into(), ..DeltaDiscoveryRequest::default() };
    say.send(asked("first")).await.unwrap();
    let mut answers =
        streams.delta_aggregated_resources(ReceiverStream::new(said)).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().type_url, "first");
    for number in 0..100 {
        // Each is answered while the other direction stays open.
        say.send(asked(&number.to_string())).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().type_url, number.to_string());
    }
    say.send(asked("fail")).await.unwrap();
    let failed = answers.message().await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::ResourceExhausted, "enough"));
}
