//! Which endpoint a request gets (`waypoint.md` 7.1, 7.2): those of the best place that can be used, and of these one by
//! the algorithm. Owns that order. Chance is passed in.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::table::Table;
use super::ward::{Host, Ward};
use super::{Balance, Handling, HashTable, Warmup};
use crate::balance::{Endpoint, Pick};
use crate::name::WorkloadUid;
use crate::workload::Workload;

/// One round of turns of an endpoint of weight 1. Weights divide it, so it is large.
pub(super) const ROUND: u64 = 1 << 40;
/// A weight is so many parts, of which one that is new gets few.
const PARTS: u32 = 1_000;
/// An endpoint is never younger than this, when its share is worked out.
const YOUNGEST: Duration = Duration::from_secs(1);
/// Of each healthy endpoint of a place, so many of a hundred requests may come to the place: seven of ten are enough
/// for all of them.
const HELD: usize = 140;

/// What a choice is made from.
#[derive(Debug, Clone, Copy)]
pub struct Choosing<'a> {
    /// How.
    pub handling: &'a Handling,
    /// The waypoint.
    pub own: &'a Workload,
    /// Those that could take it, in the order of their names.
    pub endpoints: &'a [Endpoint],
    /// Those that do not answer well when they are asked how they are.
    pub unwell: &'a HashSet<WorkloadUid>,
    /// Those whose tier is left to others, as long as one of these can be used.
    pub left: &'a [Arc<Workload>],
    /// What the request says, as a hash.
    pub hash: Option<u64>,
    /// The moment.
    pub now: Duration,
}

/// One that may be chosen.
struct Standing {
    /// Its place among the endpoints.
    at: usize,
    weight: u64,
    active: u32,
    is_out: bool,
    tier: usize,
}

impl Choosing<'_> {
    /// How far down the line an endpoint stands.
    fn tier(&self, endpoint: &Workload) -> usize {
        let Handling { outlier, probe, near, .. } = self.handling;
        near.tier(self.own, endpoint, outlier.is_some() || probe.is_some())
    }
}

impl Ward {
    /// Chooses one, by its place among the endpoints; none, when none can be used.
    pub fn choose(&mut self, from: &Choosing<'_>, pick: &mut impl Pick) -> Option<usize> {
        let Choosing { handling, own, endpoints, now, .. } = *from;
        self.know(endpoints, now, pick);
        if let Some(rule) = &handling.outlier {
            self.look(rule, now);
        }
        let mut standing = self.standing(from);
        if handling.near.is_shared(own) {
            let locality = |it: &Standing| endpoints.get(it.at).map(|it| &it.workload.locality);
            let usable = || standing.iter().filter(|it| !it.is_out);
            let there = |place: &super::Place| usable().filter_map(locality).any(|it| place.holds(it));
            let place = handling.near.place(own, there, pick)?.clone();
            standing.retain(|it| locality(it).is_some_and(|at| place.holds(at)));
        }
        leave(&mut standing, from);
        let panic = handling.outlier.as_ref().map_or(0, |rule| rule.panic_percent);
        let mut usable = in_tier(standing, panic, pick)?;
        let chosen = match &handling.balance {
            Balance::Random => by_weight(&usable, pick),
            Balance::Hash(_, kind) => match from.hash {
                Some(hash) => self.by_hash(*kind, hash, (endpoints, &usable)),
                None => by_weight(&usable, pick),
            },
            Balance::LeastRequest if is_even(&usable) => the_less_busy(&usable, pick),
            Balance::LeastRequest => {
                usable.iter_mut().for_each(|it| it.weight /= u64::from(it.active) + 1);
                self.in_turn(endpoints, &usable)
            }
            Balance::RoundRobin => self.in_turn(endpoints, &usable),
        }?;
        usable.get(chosen).map(|it| it.at)
    }

    fn standing(&self, from: &Choosing<'_>) -> Vec<Standing> {
        let Choosing { handling, endpoints, now, .. } = *from;
        let fresh = Host::default();
        let is_asked = handling.probe.is_some();
        let open = endpoints.iter().enumerate().filter(|(_, it)| it.workload.capacity > 0);
        open.map(|(at, endpoint)| {
            let host = self.hosts.get(&endpoint.workload.uid).unwrap_or(&fresh);
            let parts = handling.warmup.map_or(PARTS, |it| it.parts(now.saturating_sub(host.since)));
            Standing {
                at,
                weight: u64::from(endpoint.workload.capacity) * u64::from(parts),
                active: host.active,
                is_out: handling.outlier.is_some() && host.health.is_out()
                    || is_asked && from.unwell.contains(&endpoint.workload.uid),
                tier: from.tier(&endpoint.workload),
            }
        })
        .collect()
    }

    /// The one whose turn it is.
    fn in_turn(&mut self, endpoints: &[Endpoint], usable: &[Standing]) -> Option<usize> {
        let uid = |it: &Standing| endpoints.get(it.at).map(|it| &it.workload.uid);
        let turn = |it: &Standing| uid(it).and_then(|uid| self.hosts.get(uid)).map_or(0, |host| host.turn);
        let (chosen, next) = usable.iter().enumerate().min_by_key(|(_, it)| turn(it))?;
        let host = self.hosts.get_mut(uid(next)?)?;
        // One that was left out does not catch up on all that it missed.
        self.turn = self.turn.max(host.turn);
        let step = (ROUND.saturating_mul(PARTS.into()) / next.weight.max(1)).max(1);
        host.turn = self.turn.max(host.turn).saturating_add(step);
        Some(chosen)
    }

    fn by_hash(
        &mut self,
        kind: HashTable,
        hash: u64,
        (endpoints, usable): (&[Endpoint], &[Standing]),
    ) -> Option<usize> {
        let weights = || endpoints.iter().map(|it| (&it.workload.uid, it.workload.capacity));
        if !self.table.as_ref().is_some_and(|table| table.is_of(kind, weights())) {
            let hosts = weights().map(|(uid, weight)| (uid.clone(), weight)).collect();
            self.table = Some(Table::new(kind, hosts));
        }
        let place = |at: usize| usable.iter().position(|it| it.at == at);
        let found = self.table.as_ref()?.find(hash, |at| place(at).is_some())?;
        place(found)
    }
}

/// Leaves the tiers that are to be left, as long as one of another can be used.
fn leave(standing: &mut Vec<Standing>, from: &Choosing<'_>) {
    let left: Vec<usize> = from.left.iter().map(|it| from.tier(it)).collect();
    if standing.iter().any(|it| !it.is_out && !left.contains(&it.tier)) {
        standing.retain(|it| !left.contains(&it.tier));
    }
}

/// Those of one tier that can be used: the first as far as it holds, then the next.
fn in_tier(mut all: Vec<Standing>, panic: u32, pick: &mut impl Pick) -> Option<Vec<Standing>> {
    all.sort_by_key(|it| it.tier);
    let tiers: Vec<&[Standing]> = all.chunk_by(|one, other| one.tier == other.tier).collect();
    let usable = |tier: &[Standing]| tier.iter().filter(|it| !it.is_out).count();
    let health = |tier: &[Standing]| (HELD * usable(tier) / tier.len().max(1)).min(100);
    let whole: usize = tiers.iter().map(|tier| health(tier)).sum();
    let mut left = usize::try_from(pick.below(u64::try_from(whole.clamp(1, 100)).unwrap_or(1))).ok()?;
    let mut chosen = None;
    for tier in &tiers {
        if left < health(tier) {
            chosen = Some(tier.first()?.tier);
            break;
        }
        left -= health(tier);
    }
    let tier = match chosen {
        Some(tier) => tier,
        // Nobody can be used. Where that is called panic, all are.
        None if panic > 0 => all.first()?.tier,
        None => return None,
    };
    all.retain(|it| it.tier == tier);
    let percent = usable(&all) * 100 / all.len().max(1);
    if percent >= usize::try_from(panic).unwrap_or(100) {
        all.retain(|it| !it.is_out);
    }
    (!all.is_empty()).then_some(all)
}

fn is_even(usable: &[Standing]) -> bool {
    usable.first().is_none_or(|first| usable.iter().all(|it| it.weight == first.weight))
}

fn by_weight(usable: &[Standing], pick: &mut impl Pick) -> Option<usize> {
    let total: u64 = usable.iter().map(|it| it.weight).sum();
    let mut left = if total == 0 { return None } else { pick.below(total) };
    for (at, it) in usable.iter().enumerate() {
        if left < it.weight {
            return Some(at);
        }
        left -= it.weight;
    }
    None
}

/// Of two by chance, the one with fewer requests under way; alike, the first.
fn the_less_busy(usable: &[Standing], pick: &mut impl Pick) -> Option<usize> {
    let count = u64::try_from(usable.len()).ok().filter(|count| *count > 0)?;
    let one = usize::try_from(pick.below(count)).ok()?;
    let other = usize::try_from(pick.below(count)).ok()?;
    if usable.get(other)?.active < usable.get(one)?.active { Some(other) } else { Some(one) }
}

impl Warmup {
    /// What an endpoint that is known for so long gets, of a thousand parts.
    fn parts(self, age: Duration) -> u32 {
        let Self { duration, least_percent, aggression } = self;
        if age >= duration {
            return PARTS;
        }
        let least = least_percent.saturating_mul(10).clamp(1, PARTS);
        let grown = age.max(YOUNGEST).as_secs_f64() / duration.as_secs_f64().max(0.001);
        let grown = grown.min(1.0).powf(f64::from(PARTS) / f64::from(aggression.max(1)));
        // The most parts that are below, found by halves: a fraction has no other way to a whole number without loss.
        let (mut below, mut above) = (0, PARTS);
        while below + 1 < above {
            let middle = below.midpoint(above);
            let is_below = f64::from(middle) / f64::from(PARTS) < grown;
            if is_below { below = middle } else { above = middle }
        }
        below.clamp(least, PARTS)
    }
}
