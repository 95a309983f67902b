//! One change to the nouns: what a discovery response, or a file, does to the known world.

use std::sync::Arc;

use crate::authentication::Authentication;
use crate::credential::Credential;
use crate::ext_proc::ExtProc;
use crate::http_route::{Route, RouteKey};
use crate::name::{Label, PolicyKey, ServiceKey, WorkloadUid};
use crate::policy::Policy;
use crate::provider::Provider;
use crate::rate_limit::RateLimit;
use crate::request_policy::RequestPolicy;
use crate::service::Service;
use crate::telemetry::Telemetry;
use crate::traffic::Traffic;
use crate::workload::Workload;

/// Changes that take effect together, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// The changes; a later one wins over an earlier one of the same key.
    pub changes: Vec<Change>,
}

impl Delta {
    /// True when nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl FromIterator<Change> for Delta {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        Self { changes: changes.into_iter().collect() }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A workload is new or replaced, its endpoints included.
    Workload(Arc<Workload>),
    /// A service is new or replaced; its endpoints stay.
    Service(Arc<Service>),
    /// A policy is new or replaced.
    Policy(Arc<Policy>),
    /// A route is new or replaced.
    Route(Arc<Route>),
    /// A policy of requests is new or replaced.
    RequestPolicy(Arc<RequestPolicy>),
    /// An authentication of requests is new or replaced.
    Authentication(Arc<Authentication>),
    /// A policy of limits is new or replaced.
    RateLimit(Arc<RateLimit>),
    /// A policy that has requests go by a processor is new or replaced.
    ExtProc(Arc<ExtProc>),
    /// A provider is new or replaced.
    Provider(Arc<Provider>),
    /// How a service's traffic is handled is new or replaced.
    Traffic(Arc<Traffic>),
    /// What a waypoint proves itself by outside of the mesh is new or replaced.
    Credential(Arc<Credential>),
    /// What is told of requests is new or replaced.
    Telemetry(Arc<Telemetry>),
    /// A workload is gone.
    WorkloadGone(WorkloadUid),
    /// A service is gone.
    ServiceGone(ServiceKey),
    /// A policy is gone.
    PolicyGone(PolicyKey),
    /// A route is gone.
    RouteGone(RouteKey),
    /// A policy of requests is gone.
    RequestPolicyGone(PolicyKey),
    /// An authentication of requests is gone.
    AuthenticationGone(PolicyKey),
    /// A policy of limits is gone.
    RateLimitGone(PolicyKey),
    /// A policy that had requests go by a processor is gone.
    ExtProcGone(PolicyKey),
    /// A provider is gone.
    ProviderGone(Label),
    /// Nothing is said of a service's traffic any more.
    TrafficGone(ServiceKey),
    /// A credential is gone.
    CredentialGone(Label),
    /// Nothing is said any more of what is told of requests.
    TelemetryGone(PolicyKey),
}
