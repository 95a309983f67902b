//! Endpoints of services whose authors want it are asked how they are (`waypoint.md` 7.5). Owns whom is asked when, and
//! who is unwell by it; what is asked, and how often an answer must be bad, is the model's (`traffic::Probe`).
//!
//! One task of one thread asks for all, the way requests go: through tunnels, and with TLS where it begins.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambit_model::name::{ServiceKey, WorkloadUid};
use ambit_model::route::{Bound, Hints};
use ambit_model::snapshot::Snapshot;
use ambit_model::traffic::{Ask, Probe, Vital};
use ambit_process::clock::{Instant, now};
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tracing::{info, warn};

use super::{By, connect, endpoint, plan_by};
use crate::call::{self, CallError};
use crate::lane::Lane;
use crate::metrics::{Governed, names};

/// Endpoints that are asked; what is beyond counts as well.
const ASKED: usize = 10_000;
/// Answers that are waited for at a time.
const AT_A_TIME: usize = 64;
/// Those that are new are asked within this.
const FIRST: Duration = Duration::from_secs(1);
/// How long nobody may have to be asked.
const NOBODY: Duration = Duration::from_secs(3_600);

/// A service's port.
type Port = (ServiceKey, u16);

/// Who is unwell, of each port. Shared by all threads.
#[derive(Default)]
pub(crate) struct Vitals(Mutex<HashMap<Port, Arc<HashSet<WorkloadUid>>>>);

impl Vitals {
    /// The endpoints of a service's port that do not answer well.
    pub(super) fn unwell(&self, service: &ServiceKey, port: u16) -> Arc<HashSet<WorkloadUid>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Seldom anybody is, and then nothing is made up to be looked up.
        if all.is_empty() {
            return Arc::default();
        }
        all.get(&(service.clone(), port)).map(Arc::clone).unwrap_or_default()
    }

    fn set(&self, all: HashMap<Port, Arc<HashSet<WorkloadUid>>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Subject {
    service: ServiceKey,
    port: u16,
    uid: WorkloadUid,
}

/// What is known of one.
struct Case {
    probe: Probe,
    vital: Vital,
    due: Instant,
    is_asked: bool,
}

/// Asks to the end of the thread.
pub(crate) async fn ask_all(lane: Arc<Lane>) {
    let mut world = lane.shared.world.clone();
    let (tell, mut told) = mpsc::channel(AT_A_TIME);
    let mut cases = HashMap::new();
    refresh(&mut cases, &world.load());
    loop {
        begin(&lane, &mut cases, &tell);
        let free = AT_A_TIME > cases.values().filter(|it| it.is_asked).count();
        let waiting = cases.values().filter(|it| free && !it.is_asked).map(|it| it.due);
        let next = waiting.min().unwrap_or_else(|| now() + NOBODY);
        // Cancel-safe, all of them: an answer that is not taken stays in the queue.
        tokio::select! {
            () = sleep_until(next) => {}
            answer = told.recv() => {
                let Some((subject, is_good)) = answer else { return };
                came(&lane, &mut cases, &subject, is_good);
            }
            more = world.changed() => {
                if !more {
                    return;
                }
                let world = world.load();
                if refresh(&mut cases, &world) {
                    publish(&lane, &cases);
                }
            }
        }
    }
}

/// Takes in whom there is to ask; true: somebody who is unwell is no longer among them.
fn refresh(cases: &mut HashMap<Subject, Case>, world: &Snapshot) -> bool {
    let mut there = HashMap::new();
    for (service, port, probe) in world.traffic().flat_map(|it| probed(world, it)) {
        for workload in world.endpoints(&service) {
            if there.len() >= ASKED {
                warn!(most = ASKED, "more endpoints have health checks than are asked");
                break;
            }
            let subject = Subject { service: service.clone(), port, uid: workload.uid.clone() };
            there.insert(subject, probe.clone());
        }
    }
    let before = cases.values().filter(|it| it.vital.is_out()).count();
    cases.retain(|subject, case| there.get(subject).is_some_and(|probe| *probe == case.probe));
    for (subject, probe) in there {
        let due = now() + probe.interval.min(FIRST).mul_f64(fastrand::f64());
        cases.entry(subject).or_insert_with(|| Case { probe, vital: Vital::default(), due, is_asked: false });
    }
    before != cases.values().filter(|it| it.vital.is_out()).count()
}

/// The ports of a service whose endpoints are asked, and how.
fn probed(world: &Snapshot, traffic: &ambit_model::traffic::Traffic) -> Vec<(ServiceKey, u16, Probe)> {
    let Some(service) = world.service(&traffic.service) else { return Vec::new() };
    let ports = service.ports.keys().filter_map(|port| {
        let probe = traffic.of(*port, None)?.0.probe.clone()?;
        Some((service.key(), *port, probe))
    });
    ports.collect()
}

/// Asks whoever is due.
fn begin(lane: &Arc<Lane>, cases: &mut HashMap<Subject, Case>, tell: &mpsc::Sender<(Subject, Option<bool>)>) {
    let moment = now();
    let room = AT_A_TIME.saturating_sub(cases.values().filter(|it| it.is_asked).count());
    let due = cases.iter_mut().filter(|(_, it)| !it.is_asked && it.due <= moment);
    for (subject, case) in due.take(room) {
        case.is_asked = true;
        // Not all of them at the same moment for ever.
        case.due = moment + case.probe.interval.mul_f64(0.9 + 0.2 * fastrand::f64());
        let (asker, subject, probe, tell) =
            (Arc::clone(lane), subject.clone(), case.probe.clone(), tell.clone());
        lane.crew.add("health check", async move {
            let asked = timeout(probe.timeout, Box::pin(ask(&asker, &subject, &probe.ask))).await;
            // Whoever waited for it has ended with the thread.
            let _ = tell.send((subject, asked.unwrap_or(Some(false)))).await;
        });
    }
}

/// What came of asking; nothing, if nobody was.
fn came(lane: &Lane, cases: &mut HashMap<Subject, Case>, subject: &Subject, is_good: Option<bool>) {
    let Some(case) = cases.get_mut(subject) else { return };
    case.is_asked = false;
    let Some(is_good) = is_good else { return };
    if !case.vital.came(&case.probe, is_good) {
        return;
    }
    let Subject { service, port, uid } = subject;
    if case.vital.is_out() {
        info!(endpoint = %uid, %service, port, "an endpoint does not answer its health check and is left out");
        let world = lane.shared.world.load();
        let labels =
            Governed { service: names(world.service(service).map(Arc::as_ref)), reason: "health_check" };
        lane.shared.metrics.ejections.get_or_create(&labels).inc();
    } else {
        info!(endpoint = %uid, %service, port, "an endpoint answers its health check again");
    }
    publish(lane, cases);
}

fn publish(lane: &Lane, cases: &HashMap<Subject, Case>) {
    let mut all: HashMap<Port, HashSet<WorkloadUid>> = HashMap::new();
    for subject in cases.iter().filter(|(_, it)| it.vital.is_out()).map(|(subject, _)| subject) {
        all.entry((subject.service.clone(), subject.port)).or_default().insert(subject.uid.clone());
    }
    lane.shared.vitals.set(all.into_iter().map(|(port, them)| (port, Arc::new(them))).collect());
}

/// Asks one endpoint. None: that it is as it is has another reason, and is not its fault.
async fn ask(lane: &Arc<Lane>, subject: &Subject, ask: &Ask) -> Option<bool> {
    let service = Arc::clone(lane.shared.world.load().service(&subject.service)?);
    let hostname = service.hostname.clone();
    let to = Bound::Service { service, port: subject.port, subset: None };
    let mut hints = Hints { stay: Some(subject.uid.clone()), ..Hints::default() };
    let plan = plan_by(lane, &to, &mut hints, &By::default()).await.ok()?;
    // It may be away, and then another would be asked.
    endpoint(&plan).filter(|it| it.uid == subject.uid)?;
    Some(match ask {
        Ask::Tcp => connect(lane, &plan, (None, None)).await.is_ok(),
        Ask::Http { path, host, good } => {
            let host = host.as_deref().unwrap_or(hostname.as_str());
            let called = call::get(lane, (&to, &plan), (path, host)).await;
            answered(&called.map(|called| good.contains(&called.status.as_u16())))?
        }
        Ask::Grpc { service } => {
            let message = ambit_wire::health::question(service);
            let called = call::health(lane, (&to, &plan), (&message, hostname.as_str())).await;
            answered(&called.map(|answer| ambit_wire::health::is_serving(&answer)))?
        }
    })
}

fn answered(called: &Result<bool, CallError>) -> Option<bool> {
    match called {
        Ok(is_good) => Some(*is_good),
        // There is no room for us, not for it.
        Err(CallError::Full) => None,
        Err(_) => Some(false),
    }
}
