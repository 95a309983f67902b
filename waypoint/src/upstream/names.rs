//! Names of hosts to addresses (`waypoint.md` 1.14), remembered for a little while. Owns which hosts a service of a
//! wildcard may lead to: those below it, at public addresses or such as somebody has allowed, never at those of the mesh:
//! whoever chooses the name chooses where we connect to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambit_model::address::NetworkAddress;
use ambit_model::name::Network;
use ambit_model::outside::{is_public, under};
use ambit_model::route::{Bound, Hints, service_by_address};
use ambit_model::snapshot::Snapshot;
use ambit_model::traffic::host;
use ambit_process::clock::{Instant, now};
use ambit_process::net::lookup_host;
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::lane::Lane;
use crate::refused::Refused;

/// A name server gets this long.
const WAIT: Duration = Duration::from_secs(5);
/// Names that are remembered. With more, those go first that are known for longest.
const MOST: usize = 1024;
/// Addresses of one name; more are left out.
const ADDRESSES: usize = 32;
/// Names that are asked for at a time: each keeps a thread busy.
const AT_ONCE: usize = 16;
/// How long an answer holds, and how long it holds that there is none.
const KEEP: Duration = Duration::from_secs(30);
const KEEP_NONE: Duration = Duration::from_secs(2);

/// What names resolve to.
pub(crate) struct Names {
    known: Mutex<HashMap<Box<str>, Known>>,
    places: Semaphore,
    /// Where hosts of wildcards may be beside public addresses.
    allowed: Vec<IpNet>,
}

#[derive(Clone)]
struct Known {
    at: Arc<[IpAddr]>,
    until: Instant,
}

impl Names {
    pub(crate) fn new(allowed: Vec<IpNet>) -> Self {
        Self { known: Mutex::default(), places: Semaphore::new(AT_ONCE), allowed }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        let known = self.lock();
        known.get(name).filter(|it| it.until > now()).map(|it| Arc::clone(&it.at))
    }

    fn remember(&self, name: &str, at: Arc<[IpAddr]>) {
        let mut known = self.lock();
        let now = now();
        if known.len() >= MOST {
            known.retain(|_, it| it.until > now);
        }
        if known.len() >= MOST {
            let first = known.iter().min_by_key(|(_, it)| it.until).map(|(name, _)| name.clone());
            first.and_then(|name| known.remove(&name));
        }
        let keep = if at.is_empty() { KEEP_NONE } else { KEEP };
        known.insert(name.into(), Known { at, until: now + keep });
    }

    /// What a name resolves to; nothing when there is no answer.
    pub(super) async fn resolve(&self, name: &str) -> Arc<[IpAddr]> {
        if let Some(known) = self.known(name) {
            return known;
        }
        let looked = async {
            let _place = self.places.acquire().await.ok()?;
            // Somebody may have asked for it meanwhile.
            if let Some(known) = self.known(name) {
                return Some(known);
            }
            let found = lookup_host((name, 0)).await.ok()?;
            Some(found.map(|it| it.ip().to_canonical()).take(ADDRESSES).collect())
        };
        let found: Arc<[IpAddr]> =
            timeout(WAIT, Box::pin(looked)).await.ok().flatten().unwrap_or_else(|| Arc::from([]));
        self.remember(name, Arc::clone(&found));
        found
    }

    /// Whether a host of a wildcard may be there.
    fn may_be(&self, (world, network): (&Snapshot, &Network), ip: IpAddr) -> bool {
        let of_mesh = || {
            let address = NetworkAddress::new(network.clone(), ip);
            world.workload_by_address(&address).is_some()
                || service_by_address(world, &address, None).is_some()
        };
        (is_public(ip) || self.allowed.iter().any(|it| it.contains(&ip))) && !of_mesh()
    }
}

/// Whether it stands for all hosts below it.
pub(crate) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Finds out where the host is that is asked for, if the service is one of a wildcard.
pub(crate) async fn look_up(
    lane: &Lane,
    to: &Bound,
    asked: Option<&str>,
    hints: &mut Hints,
) -> Result<(), Refused> {
    let Bound::Service { service, .. } = to else { return Ok(()) };
    let wildcard = service.hostname.as_str();
    if !is_wildcard(wildcard) {
        return Ok(());
    }
    let host = asked.and_then(host).and_then(|it| under(wildcard, it)).ok_or(Refused::NoRoute)?;
    // To the end of it: what a resolver would append to a name is not what was asked for.
    let found = lane.shared.names.resolve(&format!("{host}.")).await;
    let world = lane.shared.world.load();
    let at = (&*world, &lane.shared.place.network);
    let allowed: Vec<IpAddr> = found.iter().copied().filter(|it| lane.shared.names.may_be(at, *it)).collect();
    if allowed.is_empty() && !found.is_empty() {
        tracing::debug!(%host, "the host is at no address that a wildcard may lead to");
    }
    hints.names.insert(wildcard.into(), allowed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_names_are_remembered_than_there_is_room_for_and_the_oldest_go_first() {
        let names = Names::new(Vec::new());
        for number in 0..MOST + 10 {
            names.remember(&format!("host-{number}"), Arc::from([IpAddr::from([192, 0, 2, 1])]));
        }
        assert_eq!(names.lock().len(), MOST);
        assert!(names.known("host-0").is_none());
        assert!(names.known(&format!("host-{}", MOST + 9)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_a_while_and_that_there_is_none_for_less() {
        let names = Names::new(Vec::new());
        names.remember("there", Arc::from([IpAddr::from([192, 0, 2, 1])]));
        names.remember("not-there", Arc::from([]));
        tokio::time::advance(KEEP_NONE).await;
        assert!(names.known("not-there").is_none() && names.known("there").is_some());
        tokio::time::advance(KEEP - KEEP_NONE).await;
        assert!(names.known("there").is_none());
    }
}
