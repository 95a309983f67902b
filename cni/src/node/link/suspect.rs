//! Pods that a proxy went silent about. Pure.
//!
//! Requests are answered strictly in turn, so a pod that makes a proxy hang holds up those behind it until the
//! connection is given up. Once may be the proxy's own trouble. From the second time on the pod is asked for rarely,
//! and never in the snapshot that everybody waits for.

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_wire::node_link::PodUid;
use tokio::time::Instant;

/// The first and the longest rest; doubling. The longest also delays a pod when its proxy is well again.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<PodUid, Suspect>);

#[derive(Debug, Clone, Copy)]
struct Suspect {
    times: u32,
    rests_until: Instant,
}

impl Suspects {
    /// A proxy did not answer when it was asked to carry the pod.
    pub(super) fn note(&mut self, uid: &PodUid, now: Instant) {
        let times = self.0.get(uid).map_or(0, |it| it.times).saturating_add(1);
        let rest = match times {
            1 => Duration::ZERO,
            _ => FIRST_REST.saturating_mul(1 << (times - 2).min(8)).min(LONGEST_REST),
        };
        self.0.insert(uid.clone(), Suspect { times, rests_until: now + rest });
    }

    /// The pod is carried, or is no more.
    pub(super) fn clear(&mut self, uid: &PodUid) {
        self.0.remove(uid);
    }

    pub(super) fn has(&self, uid: &PodUid) -> bool {
        self.0.contains_key(uid)
    }

    /// Whether the pod is not to be asked for now.
    pub(super) fn rests(&self, uid: &PodUid, now: Instant) -> bool {
        self.0.get(uid).is_some_and(|it| now < it.rests_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // K14
    #[test]
    fn once_is_forgiven_and_from_then_on_the_rests_grow_to_a_limit() {
        let (uid, now) = (PodUid::new("u").unwrap(), Instant::now());
        let mut all = Suspects::default();
        let after = |seconds| now + Duration::from_secs(seconds);
        for rest in [0, 5, 10, 20, 30, 30] {
            all.note(&uid, now);
            assert!(!all.rests(&uid, after(rest)), "{rest}");
            assert_eq!(rest > 0, all.rests(&uid, now), "{rest}");
            assert!(rest == 0 || all.rests(&uid, after(rest - 1)), "{rest}");
        }
        for _ in 0..100 {
            all.note(&uid, now);
        }
        assert!(all.has(&uid) && !all.rests(&uid, after(30)));
        all.clear(&uid);
        assert!(!all.has(&uid) && !all.rests(&uid, now));
    }
}
