//! The certificate authority: authenticates a caller, decides whether it may speak for an identity, signs.
//! Owns the order of these steps and what a caller is told of a refusal: nothing but that it was refused.

pub mod anchors;
mod bridge;
pub mod bundle;
pub mod callers;
pub mod cert;
pub mod here;
pub mod keeper;
pub mod lists;
pub mod plugged;
pub mod review;
pub mod root;
pub mod rotation;
pub mod safe;
pub mod sign;
pub mod signer;
pub mod state;
pub mod switch;
pub mod text;
pub mod token;

use std::sync::Arc;
use std::time::Duration;

use ambit_model::name::{Identity, TrustDomain};
use ambit_process::clock;
use ambit_wire::pb::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use ambit_wire::pb::auth::{IstioCertificateRequest, IstioCertificateResponse};
use prost_types::value::Kind;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};
use tracing::{debug, info};

use self::callers::Callers;
use self::keeper::Newest;
use self::sign::SignError;
use self::token::{Bearer, Bound};
use crate::metrics::{Metrics, Outcome};

/// How long a request waits for a pod that was not seen yet: the caller is told of a pod before the directory is.
const POD_WAIT: Duration = Duration::from_secs(2);

/// A request holds one signing request, which is one to two kilobytes.
const REQUEST_BYTES: usize = 64 << 10;

/// A question to whoever knows the cluster: does a pod with this account run where the caller does?
#[derive(Debug)]
pub struct Ask {
    /// Who asks.
    pub caller: Bearer,
    /// Namespace and account.
    pub who: Identity,
    /// Told once the answer is yes; dropped by the asker when it is tired of waiting.
    pub yes: oneshot::Sender<()>,
}

/// What the authority needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Callers that may speak for the pods of their node: `<namespace>/<service account>`.
    pub trusted: Vec<String>,
}

/// The service.
pub struct Authority {
    settings: Settings,
    signing: Newest,
    callers: Arc<Callers>,
    asks: mpsc::Sender<Ask>,
    metrics: Metrics,
}

/// Why a caller may not have a certificate. Said in the log only.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{caller} is not among the accounts that may speak for others")]
    Untrusted { caller: Identity },
    #[error("{0:?} is no identity")]
    NoIdentity(String),
    #[error("{0} is of another trust domain")]
    Foreign(Identity),
    #[error("the token is bound to no node and to no pod")]
    NoNode,
    #[error("no pod of {who} runs where the caller does: {at:?}")]
    NotThere { who: Identity, at: Bound },
    #[error("too many requests wait for pods to appear")]
    Busy,
}

impl Authority {
    /// A service that signs with what is newest. `asks` reaches whoever knows the cluster.
    #[must_use]
    pub fn new(
        settings: Settings,
        signing: Newest,
        callers: Arc<Callers>,
        asks: mpsc::Sender<Ask>,
        metrics: Metrics,
    ) -> Self {
        Self { settings, signing, callers, asks, metrics }
    }

    /// The service as tonic serves it.
    #[must_use]
    pub fn into_service(self) -> IstioCertificateServiceServer<Self> {
        IstioCertificateServiceServer::new(self).max_decoding_message_size(REQUEST_BYTES)
    }

    /// Whether the caller may speak for an identity (`control-plane.md` 6.4).
    async fn permit(&self, caller: &Bearer, wanted: &str) -> Result<Identity, Refused> {
        let account = format!("{}/{}", caller.identity.namespace, caller.identity.service_account);
        if !self.settings.trusted.contains(&account) {
            return Err(Refused::Untrusted { caller: caller.identity.clone() });
        }
        let who: Identity = wanted.parse().map_err(|_| {
            self.metrics.unnamed();
            Refused::NoIdentity(wanted.to_owned())
        })?;
        if who.trust_domain != self.settings.trust_domain {
            return Err(Refused::Foreign(who));
        }
        if caller.bound == Bound::Nowhere {
            return Err(Refused::NoNode);
        }
        let (yes, answer) = oneshot::channel();
        let ask = Ask { caller: caller.clone(), who: who.clone(), yes };
        self.asks.try_send(ask).map_err(|_| Refused::Busy)?;
        match tokio::time::timeout(POD_WAIT, answer).await {
            Ok(Ok(())) => Ok(who),
            Ok(Err(_)) => Err(Refused::Busy),
            Err(_) => Err(Refused::NotThere { who, at: caller.bound.clone() }),
        }
    }

    async fn create(&self, request: Request<IstioCertificateRequest>) -> Result<Vec<String>, Status> {
        let proof = self.callers.bearer(request.metadata(), clock::now_system()).await;
        let caller = proof.map_err(|error| callers::refused(&error))?;
        let IstioCertificateRequest { csr, validity_duration, metadata } = request.into_inner();
        let field = metadata.as_ref().and_then(|it| it.fields.get("ImpersonatedIdentity"));
        let who = match field.and_then(|it| it.kind.as_ref()) {
            None | Some(Kind::NullValue(_)) => caller.identity.clone(),
            Some(Kind::StringValue(wanted)) => {
                self.permit(&caller, wanted).await.map_err(|why| opaque(&why))?
            }
            Some(_) => return Err(opaque(&Refused::NoIdentity("a value that is no text".into()))),
        };
        let signing = Arc::clone(&self.signing.borrow());
        let answer = signing.answer(&csr, &who, validity_duration, clock::now_system()).map_err(|error| {
            info!(target: "ca", identity = %who, error = %error, "request not signed");
            match error {
                SignError::Request(_) | SignError::Signature | SignError::Lifetime { .. } => {
                    Status::invalid_argument(error.to_string())
                }
                SignError::Sign(_) | SignError::Chance => {
                    Status::internal("the certificate could not be made")
                }
            }
        })?;
        debug!(target: "ca", identity = %who, caller = %caller.identity, "signed");
        Ok(answer)
    }
}

fn opaque(why: &Refused) -> Status {
    info!(target: "ca", error = %why, "impersonation refused");
    Status::unauthenticated("request impersonation authentication failure")
}

#[tonic::async_trait]
impl IstioCertificateService for Authority {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let answer = self.create(request).await;
        self.metrics.requested(answer.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok));
        self.metrics.signed(match &answer {
            Ok(_) => Outcome::Signed,
            Err(status) if status.code() == tonic::Code::Unauthenticated => Outcome::Refused,
            Err(_) => Outcome::Failed,
        });
        answer.map(|cert_chain| Response::new(IstioCertificateResponse { cert_chain }))
    }
}

#[cfg(test)]
mod tests;
