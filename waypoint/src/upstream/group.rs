//! What this process knows of the endpoints of a service's port while it serves them: how busy they are, who is left
//! out, how much there is of everything. Owns that all threads share it, and that whatever was counted in is counted
//! out again. What is decided by it is the model's (`traffic`).

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambit_model::balance::{Endpoint, NoEndpoint};
use ambit_model::http_route::Broken;
use ambit_model::name::{Label, ServiceKey, WorkloadUid};
use ambit_model::route::{Bound, Refusal};
use ambit_model::service::Service;
use ambit_model::traffic::{
    Adaptive, Balance, Came, Choosing, Given, Handling, HashBy, Limits, Overflow, Traffic, Ward, affinity,
};
use ambit_model::workload::Workload;
use ambit_process::clock::{Instant, now};
use http::HeaderMap;
use tokio::sync::Notify;

use super::Chance;
use super::secure::Origins;
use crate::lane::{Lane, Shared};
use crate::metrics::{Governed, names};

/// Of which service, port and subset.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    service: ServiceKey,
    port: u16,
    subset: Option<Label>,
}

/// All that are known.
#[derive(Default)]
pub(crate) struct Groups(Mutex<HashMap<GroupKey, Arc<Group>>>);

/// The endpoints of one.
pub(crate) struct Group {
    pub(super) key: GroupKey,
    ward: Mutex<Ward>,
    began: Instant,
    /// How TLS to them begins.
    pub(super) origins: Origins,
    /// Told whenever something is over that others may wait for.
    changed: Notify,
}

/// Something that is counted for as long as it lasts.
pub(crate) struct Counted {
    group: Arc<Group>,
    what: What,
}

enum What {
    Request,
    Attempt(WorkloadUid),
    Waiting,
    Retry,
    Connection,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut ward = self.group.ward();
        match &self.what {
            What::Request => ward.leave(),
            What::Attempt(uid) => ward.end(uid),
            What::Waiting => ward.waited(),
            What::Retry => ward.retried(),
            What::Connection => ward.disconnect(),
        }
        drop(ward);
        self.group.changed.notify_waiters();
    }
}

impl Groups {
    fn of(&self, key: GroupKey, lane: &Lane) -> Arc<Group> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&key) {
            return Arc::clone(known);
        }
        // One more is the moment to let go of those that nobody speaks of any more.
        let world = lane.shared.world.load();
        all.retain(|key, group| world.traffic_of(&key.service).is_some() || !group.ward().is_idle());
        let group = Group {
            key: key.clone(),
            ward: Mutex::default(),
            began: now(),
            origins: Origins::default(),
            changed: Notify::new(),
        };
        Arc::clone(all.entry(key).or_insert_with(|| Arc::new(group)))
    }
}

impl Group {
    fn ward(&self) -> MutexGuard<'_, Ward> {
        self.ward.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self) -> Duration {
        self.began.elapsed()
    }
}

/// How one request or connection is handled: by what was said of its service, in the world of its beginning.
pub(crate) struct Guide {
    pub(super) group: Arc<Group>,
    shared: Arc<Shared>,
    service: Arc<Service>,
    traffic: Arc<Traffic>,
    /// The endpoint that was chosen last.
    last: Mutex<Option<WorkloadUid>>,
}

impl Guide {
    /// What was said of where a request goes; nothing, if nothing was.
    pub(crate) fn of(lane: &Lane, to: &Bound) -> Option<Self> {
        let Bound::Service { service, port, subset } = to else { return None };
        let world = lane.shared.world.load();
        let traffic = match (world.traffic_of(&service.key()), subset) {
            (Some(traffic), _) => Arc::clone(traffic),
            (None, None) => return None,
            // A subset that nobody describes has no endpoints.
            (None, Some(_)) => Arc::new(Traffic::unsaid(service.key())),
        };
        let key = GroupKey { service: service.key(), port: *port, subset: subset.clone() };
        let group = lane.shared.groups.of(key, lane);
        let (shared, service) = (Arc::clone(&lane.shared), Arc::clone(service));
        Some(Self { group, shared, service, traffic, last: Mutex::default() })
    }

    pub(crate) fn handling(&self) -> Option<&Handling> {
        let GroupKey { port, subset, .. } = &self.group.key;
        self.traffic.of(*port, subset.as_ref().map(Label::as_str)).map(|(handling, _)| handling)
    }

    /// The service.
    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// The service's name.
    pub(super) fn hostname(&self) -> &str {
        self.service.hostname.as_str()
    }

    pub(crate) fn limits(&self) -> Option<&Limits> {
        self.handling().map(|it| &it.limits)
    }

    /// Why nothing is sent at all, if so.
    pub(crate) fn closed(&self) -> Option<&Broken> {
        self.handling().and_then(|it| it.closed.as_ref())
    }

    /// What of a request says which endpoint it belongs to.
    pub(crate) fn hash_by(&self) -> Option<&HashBy> {
        match self.handling().map(|it| &it.balance) {
            Some(Balance::Hash(by, _)) => Some(by),
            _ => None,
        }
    }

    /// The same of a connection, of which only the client's address is known.
    pub(crate) fn hash_of(&self, client: IpAddr) -> Option<u64> {
        let by = self.hash_by().filter(|it| **it == HashBy::SourceIp)?;
        let given = Given { headers: &HeaderMap::new(), query: None, client };
        affinity(by, given, &mut Chance).hash
    }

    /// One of these.
    pub(super) fn choose(
        &self,
        own: &Workload,
        mut endpoints: Vec<Endpoint>,
        (hash, left): (Option<u64>, &[Arc<Workload>]),
    ) -> Result<Endpoint, Refusal> {
        let refuse = |why| Refusal::NoEndpoint { service: self.service.key(), why };
        let GroupKey { port, subset, .. } = &self.group.key;
        let found = self.traffic.of(*port, subset.as_ref().map(Label::as_str));
        let (handling, members) = found.ok_or_else(|| refuse(NoEndpoint::NotInSubset))?;
        if let Some(members) = members {
            endpoints.retain(|it| members.contains(&it.workload.uid));
        }
        if endpoints.is_empty() {
            return Err(refuse(NoEndpoint::NotInSubset));
        }
        let unwell = self.unwell(handling);
        let now = self.group.age();
        let from = Choosing { handling, own, endpoints: &endpoints, unwell: &unwell, left, hash, now };
        let chosen = self.group.ward().choose(&from, &mut Chance);
        let count = endpoints.len();
        let chosen = chosen.and_then(|at| (at < count).then(|| endpoints.swap_remove(at)));
        let chosen = chosen.ok_or_else(|| refuse(NoEndpoint::Unhealthy(count)))?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(chosen.workload.uid.clone());
        Ok(chosen)
    }

    /// Goes to this endpoint, which was chosen before, unless it is left out now.
    pub(super) fn keep_to(&self, endpoint: &Endpoint) -> bool {
        let uid = &endpoint.workload.uid;
        let handling = self.handling();
        if self.group.ward().leaves_out(uid) || handling.is_some_and(|it| self.unwell(it).contains(uid)) {
            return false;
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(uid.clone());
        true
    }

    /// The endpoints that do not answer well, where they are asked.
    fn unwell(&self, handling: &Handling) -> Arc<HashSet<WorkloadUid>> {
        let GroupKey { service, port, .. } = &self.group.key;
        handling.probe.as_ref().map(|_| self.shared.vitals.unwell(service, *port)).unwrap_or_default()
    }

    fn last(&self) -> Option<WorkloadUid> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counted(&self, what: What) -> Counted {
        Counted { group: Arc::clone(&self.group), what }
    }

    /// One more request, if there is room.
    pub(crate) fn enter(&self, lane: &Lane) -> Result<Counted, Overflow> {
        let limits = self.limits().cloned().unwrap_or_default();
        let entered = self.group.ward().enter(&limits, self.adaptive());
        self.told(lane, entered).map(|()| self.counted(What::Request))
    }

    /// Within which bounds it is found how many requests there may be at a time.
    pub(crate) fn adaptive(&self) -> Option<Adaptive> {
        self.handling().and_then(|it| it.adaptive)
    }

    /// A request was answered after so long; none: not at all.
    pub(crate) fn answered(&self, took: Option<Duration>) {
        if let Some(bounds) = self.adaptive() {
            self.group.ward().answered(took, bounds);
        }
    }

    /// The endpoint that was chosen is at work.
    pub(crate) fn begin(&self) -> Option<Counted> {
        let uid = self.last()?;
        self.group.ward().begin(&uid);
        Some(self.counted(What::Attempt(uid)))
    }

    /// Whether one more may be tried again.
    pub(crate) fn retry(&self, lane: &Lane) -> Option<Counted> {
        let handling = self.handling()?;
        let allowed = self.group.ward().retry(&handling.limits, handling.retry_budget);
        if !allowed {
            self.count(lane, "retries");
        }
        allowed.then(|| self.counted(What::Retry))
    }

    /// What has come of the attempt at the endpoint that was chosen last.
    pub(crate) fn came(&self, lane: &Lane, came: Came) {
        let Some(rule) = self.handling().and_then(|it| it.outlier.as_ref()) else { return };
        let Some(uid) = self.last() else { return };
        let out = self.group.ward().came(rule, &uid, came, self.group.age());
        if out {
            let labels = Governed { service: names(Some(&self.service)), reason: "errors" };
            lane.shared.metrics.ejections.get_or_create(&labels).inc();
            tracing::info!(endpoint = %uid, service = %self.service.key(), "an endpoint fails and is left out for a while");
        }
    }

    /// One more connection. `is_first`: the endpoint has none; `idle` takes one that has become free meanwhile.
    pub(super) async fn connection<T>(
        &self,
        lane: &Lane,
        is_first: impl Fn() -> bool,
        idle: impl Fn() -> Option<T>,
    ) -> Result<Room<T>, Overflow> {
        let limits = self.limits().cloned().unwrap_or_default();
        let waited = self.group.ward().wait(&limits);
        let waiting = self.told(lane, waited).map(|()| self.counted(What::Waiting))?;
        loop {
            let changed = self.group.changed.notified();
            tokio::pin!(changed);
            // From here on nothing is missed.
            changed.as_mut().enable();
            if let Some(idle) = idle() {
                return Ok(Room::Idle(idle));
            }
            if self.group.ward().connect(&limits, is_first()).is_ok() {
                return Ok(Room::New { seat: self.counted(What::Connection), _waiting: waiting });
            }
            changed.await;
        }
    }

    /// One more connection, or none: nobody waits who has not said anything yet.
    pub(crate) fn connect(&self, lane: &Lane) -> Result<Counted, Overflow> {
        let limits = self.limits().cloned().unwrap_or_default();
        let connected = self.group.ward().connect(&limits, false);
        self.told(lane, connected).map(|()| self.counted(What::Connection))
    }

    fn told(&self, lane: &Lane, result: Result<(), Overflow>) -> Result<(), Overflow> {
        result.inspect_err(|overflow| self.count(lane, overflow.label()))
    }

    fn count(&self, lane: &Lane, reason: &'static str) {
        let labels = Governed { service: names(Some(&self.service)), reason };
        lane.shared.metrics.overflows.get_or_create(&labels).inc();
    }
}

impl<T> Room<T> {
    /// The place of a connection, once nobody waits for it any more.
    pub(super) fn seat(self) -> Option<Counted> {
        match self {
            Self::Idle(_) => None,
            Self::New { seat, .. } => Some(seat),
        }
    }
}

/// Where there is room for a request.
pub(super) enum Room<T> {
    /// On a connection that is there.
    Idle(T),
    /// On one that is still to be made.
    New {
        /// Its own place, for as long as it lasts.
        seat: Counted,
        /// Until it is there, its request waits.
        _waiting: Counted,
    },
}
