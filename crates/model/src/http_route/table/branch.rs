//! Matches of one path, and which of them a request may be of. Owns that thousands which differ in the value of a
//! header or of a parameter are not asked one by one: they are looked up by it.

use std::collections::HashMap;

use http::HeaderName;

use super::Asked;
use super::asked::decoded;
use crate::http_route::{Match, ValueMatch};

/// What is asked one by one; a lookup costs as much.
const FEW: usize = 8;

/// Places in the table, in order, and what is there.
pub(super) type Row<'t> = Vec<(u32, Option<&'t Match>)>;

/// Matches by their places in the table, in order.
pub(super) enum Branch {
    Leaf(Vec<u32>),
    Fork(Box<Fork>),
}

/// Matches by the value of something that many of them demand.
pub(super) struct Fork {
    by: By,
    values: HashMap<Box<[u8]>, Branch>,
    others: Branch,
    /// The first of all.
    first: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum By {
    Header(HeaderName),
    Parameter(Box<str>),
}

impl Branch {
    /// Of matches in order.
    pub(super) fn new(row: Row<'_>) -> Self {
        Self::grown(row, &mut Vec::new())
    }

    fn grown(row: Row<'_>, used: &mut Vec<By>) -> Self {
        let by = if row.len() <= FEW { None } else { most_demanded(&row, used) };
        let (Some(by), Some((first, _))) = (by, row.first()) else {
            return Self::Leaf(row.into_iter().map(|(at, _)| at).collect());
        };
        let first = *first;
        let mut values: HashMap<Box<[u8]>, Row<'_>> = HashMap::new();
        let mut others = Vec::new();
        for (at, one) in row {
            match one.and_then(|it| demanded(it, &by)) {
                Some(value) => values.entry(value.into()).or_default().push((at, one)),
                None => others.push((at, one)),
            }
        }
        used.push(by.clone());
        let grown = values.into_iter().map(|(value, row)| (value, Self::grown(row, used))).collect();
        let others = Self::grown(others, used);
        used.pop();
        Self::Fork(Box::new(Fork { by, values: grown, others, first }))
    }

    /// The first that the request is of, if it comes before another.
    pub(super) fn first(&self, asked: &Asked<'_>, before: u32, is_of: &impl Fn(u32) -> bool) -> Option<u32> {
        let fork = match self {
            Self::Leaf(row) => {
                return row.iter().copied().take_while(|at| *at < before).find(|at| is_of(*at));
            }
            Self::Fork(fork) if fork.first < before => fork,
            Self::Fork(_) => return None,
        };
        let mut best = None;
        fork.each(asked, |branch| {
            let before = best.unwrap_or(before);
            best = branch.first(asked, before, is_of).or(best);
        });
        best
    }
}

impl Fork {
    /// The branches that a request may be of.
    fn each<'s>(&'s self, asked: &Asked<'_>, mut visit: impl FnMut(&'s Branch)) {
        match &self.by {
            By::Header(name) => {
                let value = asked.header(name);
                value.and_then(|value| self.values.get(&*value)).into_iter().for_each(&mut visit);
            }
            By::Parameter(name) => {
                let value = asked.parameter(name).unwrap_or_default();
                let plain = decoded(value);
                self.values.get(value.as_bytes()).into_iter().for_each(&mut visit);
                if *plain != *value.as_bytes() {
                    self.values.get(&*plain).into_iter().for_each(&mut visit);
                }
            }
        }
        visit(&self.others);
    }
}

/// What most matches demand one value of, if that is at least a few.
fn most_demanded(row: &[(u32, Option<&Match>)], used: &[By]) -> Option<By> {
    let mut counts: HashMap<By, usize> = HashMap::new();
    for one in row.iter().filter_map(|(_, one)| *one) {
        let headers = one.headers.iter().map(|it| By::Header(it.name.clone()));
        for by in headers.chain(one.query.iter().map(|it| By::Parameter(it.name.clone()))) {
            if !used.contains(&by) && demanded(one, &by).is_some() {
                *counts.entry(by).or_default() += 1;
            }
        }
    }
    let (by, count) =
        counts.into_iter().max_by(|(a, n), (b, m)| n.cmp(m).then_with(|| name(b).cmp(&name(a))))?;
    (count >= FEW).then_some(by)
}

/// The one value that a match demands. Of several demands of one name only the first counts.
fn demanded<'m>(one: &'m Match, by: &By) -> Option<&'m [u8]> {
    let value = match by {
        By::Header(name) => one.headers.iter().find(|it| it.name == *name).map(|it| &it.value),
        By::Parameter(name) => one.query.iter().find(|it| it.name == *name).map(|it| &it.value),
    };
    match value? {
        ValueMatch::Exact(text) => Some(text.as_bytes()),
        ValueMatch::Regex(_) | ValueMatch::Prefix(_) | ValueMatch::Present => None,
    }
}

fn name(by: &By) -> (bool, &str) {
    match by {
        By::Header(name) => (false, name.as_str()),
        By::Parameter(name) => (true, name),
    }
}
