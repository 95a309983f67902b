//! Where a hash leads (`waypoint.md` 7.1): a ring, or Maglev's table. Owns that most hashes lead where they led before
//! when endpoints come and go, and that all waypoints agree: it all follows from names and weights.

use std::hash::Hasher as _;

use twox_hash::XxHash64;

use super::HashTable;
use crate::name::WorkloadUid;

/// No ring is larger, whatever the weights.
const RING_MOST: u64 = 8 * 1024 * 1024;
/// No table is larger.
const TABLE_MOST: u32 = 5_000_011;

/// Endpoints by hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    kind: HashTable,
    hosts: Vec<(WorkloadUid, u32)>,
    slots: Slots,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Slots {
    /// Points in their order, and whose they are.
    Ring(Vec<(u64, usize)>),
    Maglev(Vec<usize>),
}

impl Table {
    /// Makes it. Endpoints come in the order of their names, so that all who make it agree.
    #[must_use]
    pub fn new(kind: HashTable, hosts: Vec<(WorkloadUid, u32)>) -> Self {
        let slots = match kind {
            HashTable::Ring { least } => Slots::Ring(ring(least, &hosts)),
            HashTable::Maglev { size } => Slots::Maglev(maglev(prime(size), &hosts)),
        };
        Self { kind, hosts, slots }
    }

    /// Whether it is still one of these.
    pub fn is_of<'a>(
        &self,
        kind: HashTable,
        mut hosts: impl Iterator<Item = (&'a WorkloadUid, u32)>,
    ) -> bool {
        let mut own = self.hosts.iter();
        self.kind == kind
            && own.all(|(uid, weight)| hosts.next() == Some((uid, *weight)))
            && hosts.next().is_none()
    }

    /// The endpoint of a hash; of one that may not be used, the next that may.
    pub fn find(&self, hash: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match &self.slots {
            Slots::Ring(points) => {
                let first = points.partition_point(|(point, _)| *point < hash);
                let (before, after) = points.split_at_checked(first)?;
                after.iter().chain(before).map(|(_, host)| *host).find(|at| usable(*at))
            }
            Slots::Maglev(slots) => {
                let size = u64::try_from(slots.len()).ok().filter(|size| *size > 0)?;
                let first = usize::try_from(hash % size).ok()?;
                let (before, after) = slots.split_at_checked(first)?;
                after.iter().chain(before).copied().find(|at| usable(*at))
            }
        }
    }
}

/// The hash of what a request or an endpoint says.
pub(super) fn hash(of: &[u8], seed: u64) -> u64 {
    let mut hasher = XxHash64::with_seed(seed);
    hasher.write(of);
    hasher.finish()
}

/// So many points for each as its share of the ring asks for, and one at least. The one of the least weight gets
/// whole points, too: else a few heavy ones would take its place.
fn ring(least: u32, hosts: &[(WorkloadUid, u32)]) -> Vec<(u64, usize)> {
    let total: u64 = hosts.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let size = u64::from(least).clamp(1, RING_MOST);
    let mut points = Vec::new();
    for (at, (uid, weight)) in hosts.iter().enumerate().filter(|(_, (_, weight))| *weight > 0) {
        let count = (u64::from(*weight) * size).div_ceil(total.max(1));
        for replica in 0..count {
            points.push((hash(format!("{uid}_{replica}").as_bytes(), 0), at));
        }
    }
    points.sort_unstable();
    points
}

/// Each in turn takes the next slot of its own order that is still free, the heavier ones more often.
fn maglev(size: u32, hosts: &[(WorkloadUid, u32)]) -> Vec<usize> {
    let most = u64::from(hosts.iter().map(|(_, weight)| *weight).max().unwrap_or(0));
    if most == 0 {
        return Vec::new();
    }
    let size = u64::from(size);
    let order = |uid: &WorkloadUid| {
        let name = uid.as_str().as_bytes();
        (hash(name, 0) % size, hash(name, 1) % (size - 1) + 1)
    };
    let mut turns: Vec<(u64, u64, u64)> = hosts
        .iter()
        .map(|(uid, _)| {
            let (offset, skip) = order(uid);
            (offset, skip, 0)
        })
        .collect();
    let count = usize::try_from(size).unwrap_or(usize::MAX);
    let mut slots: Vec<Option<usize>> = vec![None; count];
    let mut filled = 0;
    while filled < count {
        for (at, (turn, (_, weight))) in turns.iter_mut().zip(hosts).enumerate() {
            let (next, skip, credit) = turn;
            *credit += u64::from(*weight);
            if *credit < most || filled == count {
                continue;
            }
            *credit -= most;
            while let Some(slot) = usize::try_from(*next).ok().and_then(|it| slots.get_mut(it)) {
                *next = (*next + *skip) % size;
                if slot.is_none() {
                    *slot = Some(at);
                    filled += 1;
                    break;
                }
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// The next prime number: only then each order visits every slot.
fn prime(least: u32) -> u32 {
    let is_prime =
        |n: u32| (2..).take_while(|d: &u32| d.saturating_mul(*d) <= n).all(|d| !n.is_multiple_of(d));
    (least.clamp(3, TABLE_MOST)..=TABLE_MOST).find(|n| is_prime(*n)).unwrap_or(TABLE_MOST)
}

#[cfg(test)]
mod tests;
