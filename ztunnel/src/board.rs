//! Which pods there are, for dumps. Owns the list that the enrolment posts and the admin port reads.

use std::sync::Arc;

use ambit_wire::node_link::PodInfo;
use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::enrol::Shown;
use crate::ledger::Page;

/// One pod.
pub struct PodShown {
    /// Its uid.
    pub uid: String,
    /// Whose traffic it is.
    pub info: PodInfo,
    /// Whether it is carried for.
    pub state: Shown,
    /// Its connections, by thread.
    pub pages: Vec<Arc<Page>>,
}

/// The posted list. Clones share it.
#[derive(Clone, Default)]
pub struct Board {
    pods: Arc<ArcSwap<Vec<PodShown>>>,
    changed: Arc<Notify>,
}

impl Board {
    /// Posts a new list.
    pub fn post(&self, pods: Vec<PodShown>) {
        let before = self.pods.swap(Arc::new(pods));
        let as_before =
            |(one, other): (&PodShown, &PodShown)| one.uid == other.uid && one.state == other.state;
        let now = self.pods.load();
        if before.len() != now.len() || !before.iter().zip(now.iter()).all(as_before) {
            self.changed.notify_one();
        }
    }

    /// Returns once pods have come, gone or changed since this was last awaited; for one caller. Cancel-safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The list as posted last.
    #[must_use]
    pub fn read(&self) -> Arc<Vec<PodShown>> {
        self.pods.load_full()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::sample;

    fn pods(all: &[(&str, Shown)]) -> Vec<PodShown> {
        let pod = |(uid, state): &(&str, Shown)| PodShown {
            uid: (*uid).to_owned(),
            info: sample::pod("web"),
            state: *state,
            pages: Vec::new(),
        };
        all.iter().map(pod).collect()
    }

    #[test]
    fn a_list_that_is_posted_again_as_it_was_is_no_change() {
        let board = Board::default();
        let changed = || pin!(board.changed()).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        let cases: [(&[(&str, Shown)], bool); 8] = [
            (&[], false),
            (&[("a", Shown::Pending)], true),
            (&[("a", Shown::Pending)], false),
            (&[("a", Shown::Up)], true),
            (&[("b", Shown::Up)], true),
            (&[("b", Shown::Up), ("c", Shown::Up)], true),
            (&[("b", Shown::Up), ("c", Shown::Up)], false),
            (&[("c", Shown::Up)], true),
        ];
        for (list, wanted) in cases {
            board.post(pods(list));
            assert_eq!((changed(), changed()), (wanted, false), "{}", list.len());
        }
    }
}
