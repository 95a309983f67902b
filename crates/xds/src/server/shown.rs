//! Who subscribes and what became of what they were sent, as upstream's command line asks for it: over a stream of the
//! state of the world, whose only type is this one (`control-plane.md` 11.4, `proxy-status`). Owns its shape; what is
//! said is in `streams`.

use std::time::SystemTime;

use ambit_wire::pb::discovery::client_config::GenericXdsConfig;
use ambit_wire::pb::discovery::{
    ClientConfig, ConfigStatus, ControlPlane, DiscoveryRequest, DiscoveryResponse, Node, Payload,
    UpdateFailureState,
};
use bytes::Bytes;
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Struct, Timestamp, Value};
use tonic::Status;
use tonic::body::Body;

use super::answers::{Answers, begin};
use super::codec::Requests;
use super::streams::{StreamView, Streams, TypeView};

/// The type of such requests.
const STATUS: &str = "istio.io/debug/syncz";
/// The type of each resource in the answer.
const CLIENT: &str = "type.googleapis.com/envoy.service.status.v3.ClientConfig";

/// How our answers are told from whatever else is said in that place.
const NONCE: &str = "syncz-";

/// One who looks.
pub(super) struct Look {
    requests: Requests,
    streams: Streams,
    /// Who answers, as JSON.
    called: String,
    answers: u64,
}

impl Look {
    pub(super) fn new(body: Body, streams: Streams, called: String) -> Self {
        Self { requests: Requests::new(body), streams, called, answers: 0 }
    }
}

impl Answers for Look {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        while let Some(message) = self.requests.bytes().await? {
            let request = DiscoveryRequest::decode(message);
            let request = request.map_err(|error| Status::invalid_argument(error.to_string()))?;
            if request.type_url != STATUS {
                let text = "only delta discovery is served; use DeltaAggregatedResources";
                return Err(Status::unimplemented(text));
            }
            // One that answers asks for nothing. Upstream's tool puts something of its own there when it asks.
            if !request.response_nonce.starts_with(NONCE) {
                self.answers += 1;
                let answer = answer(&self.streams.view(), self.answers, &self.called).encode_to_vec();
                let mut piece = begin(answer.len(), answer.len());
                piece.extend_from_slice(&answer);
                return Ok(Some(piece.freeze()));
            }
        }
        Ok(None)
    }
}

fn answer(streams: &[StreamView], number: u64, called: &str) -> DiscoveryResponse {
    // Who has not said who it is can be told from nobody.
    let clients = streams.iter().filter_map(|view| Some(client(view, view.node.clone()?)));
    let packed =
        clients.map(|client| Payload { type_url: CLIENT.into(), value: client.encode_to_vec().into() });
    DiscoveryResponse {
        version_info: number.to_string(),
        resources: packed.collect(),
        type_url: STATUS.into(),
        nonce: format!("{NONCE}{number}"),
        control_plane: Some(ControlPlane { identifier: called.into() }),
    }
}

fn client(view: &StreamView, id: String) -> ClientConfig {
    let texts = [("CLUSTER_ID", &view.cluster), ("ISTIO_VERSION", &view.version)];
    let field = |(name, text): (&str, &Option<String>)| {
        Some((name.to_owned(), Value { kind: Some(Kind::StringValue(text.clone()?)) }))
    };
    let fields = texts.into_iter().filter_map(field).collect();
    let configs = view.types.iter().map(|(kind, view)| GenericXdsConfig {
        type_url: kind.url().into(),
        last_updated: view.at.map(timestamp),
        config_status: status(view).into(),
        error_state: refusal(view).map(|text| UpdateFailureState { details: text.into() }),
    });
    let node = Node { id, metadata: Some(Struct { fields }), ..Node::default() };
    ClientConfig { node: Some(node), generic_xds_configs: configs.collect() }
}

fn status(view: &TypeView) -> ConfigStatus {
    if view.sent.is_none() {
        ConfigStatus::NotSent
    } else if refusal(view).is_some() {
        ConfigStatus::Error
    } else if view.unanswered > 0 {
        ConfigStatus::Stale
    } else {
        ConfigStatus::Synced
    }
}

/// Why what was answered last is not in force.
fn refusal(view: &TypeView) -> Option<&str> {
    let refused = view.refused.as_ref().filter(|it| Some(it.generation) == view.answered)?;
    Some(&refused.text)
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}
