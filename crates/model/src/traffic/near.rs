//! What the place of an endpoint has to do with its choice (`waypoint.md` 7.2). Owns which of them are as good as each
//! other, and how requests are spread over places by hand. Places are compared with the waypoint's own.

use std::fmt;

use super::Wanted;
use crate::balance::Pick;
use crate::name::Label;
use crate::service::Scope;
use crate::workload::{Locality, Workload};

/// What is wished for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Near {
    /// Nothing was said: the nearest, as far as those that fail are left out.
    #[default]
    Unsaid,
    /// The place does not matter.
    Ignored,
    /// The nearest; where none is left in a region, those of another go first.
    Failover(Vec<(Label, Label)>),
    /// Those that have the most of these in common with the waypoint, up to the first that they have not.
    Priority(Vec<Wanted>),
    /// So much of it to each place, for waypoints at a place.
    Shares(Vec<Shares>),
}

/// How the requests of a place are spread over places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    /// Where the waypoint is.
    pub from: Place,
    /// Where the endpoints are, and their share.
    pub to: Vec<(Place, u32)>,
}

/// A place as people write it: a region, a zone of it, a part of that. `*` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place(pub Vec<Label>);

impl Place {
    /// Reads `region/zone/subzone`, of which what follows may be left out.
    #[must_use]
    pub fn read(text: &str) -> Self {
        Self(text.split('/').take(3).map(Label::from).collect())
    }

    /// Whether somebody is there.
    #[must_use]
    pub fn holds(&self, at: &Locality) -> bool {
        let parts = [&at.region, &at.zone, &at.subzone];
        self.0.iter().zip(parts).all(|(wanted, part)| wanted.as_str() == "*" || wanted == part)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}

impl Near {
    /// How far down the line an endpoint stands: 0 is the best. `matters`: whether those that fail are left out, without
    /// which nobody would ever get further down.
    pub(super) fn tier(&self, own: &Workload, endpoint: &Workload, matters: bool) -> usize {
        match self {
            _ if !matters => 0,
            Self::Ignored | Self::Shares(_) => 0,
            Self::Unsaid => distance(&own.locality, &endpoint.locality),
            Self::Failover(ways) => {
                let far = distance(&own.locality, &endpoint.locality);
                let way = ways.iter().find(|(from, _)| *from == own.locality.region);
                let elsewhere = way.is_some_and(|(_, to)| *to != endpoint.locality.region);
                if far == 3 && elsewhere { 4 } else { far }
            }
            Self::Priority(wanted) => {
                let met = wanted.iter().take_while(|it| it.is_met(own, endpoint)).count();
                wanted.len() - met
            }
        }
    }

    /// Where this request goes, if shares say so: of the endpoints that are `there`, those of one place.
    pub(super) fn place(
        &self,
        own: &Workload,
        there: impl Fn(&Place) -> bool,
        pick: &mut impl Pick,
    ) -> Option<&Place> {
        let Self::Shares(all) = self else { return None };
        let shares = all.iter().find(|it| it.from.holds(&own.locality))?;
        let open = || shares.to.iter().filter(|(place, _)| there(place));
        let total: u64 = open().map(|(_, share)| u64::from(*share)).sum();
        let mut left = if total == 0 { return None } else { pick.below(total) };
        for (place, share) in open() {
            if left < u64::from(*share) {
                return Some(place);
            }
            left -= u64::from(*share);
        }
        None
    }

    /// Whether shares are given for where the waypoint is: places that are not named then get nothing.
    pub(super) fn is_shared(&self, own: &Workload) -> bool {
        matches!(self, Self::Shares(all) if all.iter().any(|it| it.from.holds(&own.locality)))
    }
}

impl Wanted {
    fn is_met(&self, own: &Workload, endpoint: &Workload) -> bool {
        let found = of(self.scope, endpoint);
        self.value.as_ref().map_or_else(|| of(self.scope, own), Label::as_str) == found
    }
}

fn of(scope: Scope, workload: &Workload) -> &str {
    match scope {
        Scope::Region => workload.locality.region.as_str(),
        Scope::Zone => workload.locality.zone.as_str(),
        Scope::Subzone => workload.locality.subzone.as_str(),
        Scope::Node => workload.node.as_str(),
        Scope::Cluster => workload.cluster.as_str(),
        Scope::Network => workload.network.as_str(),
    }
}

fn distance(own: &Locality, other: &Locality) -> usize {
    if own.region != other.region {
        3
    } else if own.zone != other.zone {
        2
    } else {
        usize::from(own.subzone != other.subzone)
    }
}
