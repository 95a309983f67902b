//! Which traffic thread takes a connection of a pod. Owns the choice and the handing over; accepting is `pod`'s.
//!
//! One thread accepts all of a pod's connections and keeps them while they are few: threads share no tunnels, and a
//! quiet pod should not need one to each of its peers from each thread. Beyond that they are dealt out evenly, which
//! the kernel would not do between listeners.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ambit_process::net::TcpStream;

use super::{Lane, Shared};

/// Connections of one way that the accepting thread keeps: so few wait for their applications most of the time.
const KEPT: usize = 4;

/// The lanes of one pod, and how many connections of one way each has.
pub(super) struct Deal {
    home: Share,
    others: Box<[Share]>,
}

struct Share {
    lane: Arc<Lane>,
    open: Arc<AtomicUsize>,
}

/// One of a lane's connections, until dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    fn new(lane: &Arc<Lane>) -> Self {
        Self { lane: Arc::clone(lane), open: Arc::default() }
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn place(&self) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(&self.open))
    }
}

impl Deal {
    /// With the lane of the accepting thread first.
    pub(super) fn new(home: &Arc<Lane>, others: &[Arc<Lane>]) -> Self {
        Self { home: Share::new(home), others: others.iter().map(Share::new).collect() }
    }

    /// What all lanes share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.home.lane.shared
    }

    /// Gives an accepted connection to the lane that is to carry it, whose thread drives it from here on.
    ///
    /// # Errors
    /// When the thread cannot watch it: mostly, it has no memory left.
    pub(super) fn out(&self, stream: TcpStream) -> io::Result<(TcpStream, Arc<Lane>, Place)> {
        let chosen = chosen(self.home.open(), self.others.iter().map(Share::open));
        let (stream, share) = match chosen.and_then(|number| self.others.get(number)) {
            None => (stream, &self.home),
            Some(share) => {
                let stream = stream.into_std()?;
                (share.lane.thread.enter(|| TcpStream::from_std(stream))?, share)
            }
        };
        Ok((stream, Arc::clone(&share.lane), share.place()))
    }

    /// Cuts all connections, and those that still come.
    pub(super) fn end(&self) {
        self.home.lane.page.end();
        self.others.iter().for_each(|share| share.lane.page.end());
    }
}

/// The one of the others that gets the next connection; none: it stays at home.
fn chosen(home: usize, others: impl Iterator<Item = usize>) -> Option<usize> {
    let (number, fewest) = others.enumerate().min_by_key(|(_, open)| *open)?;
    (home >= KEPT && fewest < home).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_connections_stay_at_home_and_many_are_spread_evenly() {
        for threads in 1..5 {
            let mut open = vec![0; threads];
            for count in 1..=40 {
                let number = chosen(open[0], open[1..].iter().copied()).map_or(0, |other| other + 1);
                open[number] += 1;
                if count <= KEPT {
                    assert_eq!(open[0], count);
                }
            }
            let (least, most) = (open.iter().min().unwrap(), open.iter().max().unwrap());
            assert!(most - least <= 1, "{open:?}");
        }
    }

    #[test]
    fn what_comes_after_others_have_ended_at_home_stays_there() {
        for (home, others, wanted) in [
            (KEPT - 1, vec![0, 0], None),
            (KEPT, vec![3, 2], Some(1)),
            (KEPT, vec![KEPT, KEPT + 1], None),
            (100, vec![], None),
        ] {
            assert_eq!(chosen(home, others.iter().copied()), wanted, "{home} {others:?}");
        }
    }
}
