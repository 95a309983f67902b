//! Which rule a request is of (`waypoint.md` 2.2, 2.3, 2.16). Owns the one order over all routes of a service's port,
//! and an index by which the first that matches is found without asking all. Leaves to `tables` which routes those are.

mod asked;
mod branch;
mod miss;
mod rank;
mod servers;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

pub use self::asked::Asked;
pub(super) use self::asked::value_is_of;
use self::branch::{Branch, Row};
pub use self::miss::Miss;
use self::rank::{Rank, rank};
use self::servers::Servers;
use super::connection::is_of_connections;
use super::{Match, PathMatch, Route, RouteKey, RouteKind, Rule, RuleName, ValueMatch};

/// The rules of some routes, in order.
pub struct Table {
    kind: RouteKind,
    /// By rank.
    entries: Vec<Entry>,
    /// By the whole path.
    exact: HashMap<Box<str>, Branch>,
    /// By a prefix without the slash at its end.
    prefixes: HashMap<Box<str>, Branch>,
    /// How long prefixes are; others need not be looked up.
    lengths: Lengths,
    /// By a text that paths begin with, wherever their elements end.
    begins: HashMap<Box<str>, Branch>,
    /// How long those are.
    begins_lengths: BTreeSet<usize>,
    /// What has to be compared one by one.
    others: Vec<u32>,
    /// Of connections, instead of all that: by the server that is asked for.
    servers: Servers,
    /// Whether any rule looks at who asks beyond its name.
    labels: bool,
    /// Of a VirtualService's connections, beside its rules of requests.
    connections: Vec<u32>,
}

/// One match of one rule.
struct Entry {
    route: Arc<Route>,
    rule: usize,
    /// None: the rule has no matches, and every request is of it.
    matched: Option<usize>,
}

/// The rule that a request is of.
#[derive(Debug, Clone, Copy)]
pub struct Found<'t> {
    /// Its route.
    pub route: &'t Arc<Route>,
    /// The rule.
    pub rule: &'t Arc<Rule>,
    /// What matched; none: the rule has no matches, and every request is of it.
    pub matched: Option<&'t Match>,
}

/// Lengths as bits; those too long for it are one.
#[derive(Debug, Default)]
struct Lengths([u64; 17]);

impl Table {
    /// The table of some routes of one kind, in whatever order they come.
    #[must_use]
    pub fn new<'r>(kind: RouteKind, routes: impl IntoIterator<Item = &'r Arc<Route>>) -> Self {
        let mut ranked: Vec<(Rank<'_>, Entry)> = Vec::new();
        for route in routes {
            for (at, rule) in route.rules.iter().enumerate() {
                let entry = |matched| Entry { route: Arc::clone(route), rule: at, matched };
                if rule.matches.is_empty() {
                    ranked.push((rank(route, None, (at, 0)), entry(None)));
                }
                let matches = rule.matches.iter().enumerate();
                ranked.extend(matches.map(|(m, it)| (rank(route, Some(it), (at, m)), entry(Some(m)))));
            }
        }
        ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self::indexed(kind, ranked.into_iter().map(|(_, entry)| entry).collect())
    }

    /// The first rule that a request is of.
    #[must_use]
    pub fn find(&self, asked: &Asked<'_>) -> Option<Found<'_>> {
        let path = asked.path.as_str();
        let mut best = self.exact.get(path).and_then(|branch| self.first(branch, asked, u32::MAX));
        for branch in self.prefixes_of(path) {
            best = self.first(branch, asked, best.unwrap_or(u32::MAX)).or(best);
        }
        let begun = self.begins_lengths.range(..=path.len());
        for branch in begun.filter_map(|length| self.begins.get(path.get(..*length)?)) {
            best = self.first(branch, asked, best.unwrap_or(u32::MAX)).or(best);
        }
        let before = best.unwrap_or(u32::MAX);
        let others = self.others.iter().copied().take_while(|at| *at < before);
        let other = others.into_iter().find(|at| {
            let matched = self.entry(*at).and_then(Entry::found).and_then(|found| found.matched);
            matched.is_some_and(|it| path_matches(&it.path, path) && asked.is_of(it))
        });
        self.entry(other.or(best)?)?.found()
    }

    /// The rule that a connection is of, by the server that is asked for with TLS, if one is; of tables of connections.
    #[must_use]
    pub fn connection(&self, server: Option<&str>) -> Option<Found<'_>> {
        self.entry(self.servers.first(server)?)?.found()
    }

    /// Whether it has to be known which server is asked for.
    #[must_use]
    pub fn asks_for_servers(&self) -> bool {
        self.servers.are_named()
    }

    /// What its routes are.
    #[must_use]
    pub fn kind(&self) -> RouteKind {
        self.kind
    }

    /// Whether it has to be known which workload asks.
    #[must_use]
    pub fn asks_for_labels(&self) -> bool {
        self.labels
    }

    /// Whether it says anything of requests.
    #[must_use]
    pub fn is_of_requests(&self) -> bool {
        !self.kind.is_of_connections() && self.connections.len() < self.entries.len()
    }

    /// Its rules of connections that a VirtualService says, in order.
    pub(super) fn of_connections(&self) -> impl Iterator<Item = Found<'_>> {
        self.connections.iter().filter_map(|at| self.entry(*at)?.found())
    }

    /// How many matches it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when it holds none: of no rule, no request is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All matches, in order.
    pub fn all(&self) -> impl Iterator<Item = Found<'_>> {
        self.entries.iter().filter_map(Entry::found)
    }

    fn indexed(kind: RouteKind, entries: Vec<Entry>) -> Self {
        let mut table = Self {
            kind,
            entries,
            exact: HashMap::new(),
            prefixes: HashMap::new(),
            lengths: Lengths::default(),
            begins: HashMap::new(),
            begins_lengths: BTreeSet::new(),
            others: Vec::new(),
            servers: Servers::default(),
            connections: Vec::new(),
            labels: false,
        };
        let more = table.entries.iter().filter_map(|it| it.found()?.matched?.more.as_deref());
        table.labels = more.into_iter().any(|more| !more.from_labels.is_empty());
        if kind.is_of_connections() {
            table.servers = Servers::new((0..).zip(table.entries.iter().filter_map(Entry::found)));
            return table;
        }
        let (mut exact, mut prefixes, mut begins) = (Rows::new(), Rows::new(), Rows::new());
        for (at, found) in (0u32..).zip(table.entries.iter().filter_map(Entry::found)) {
            if is_of_connections(found.matched) {
                table.connections.push(at);
                continue;
            }
            match place(found.matched) {
                Place::Exact(path) => exact.entry(path).or_default().push((at, found.matched)),
                Place::Prefix(path) => prefixes.entry(path).or_default().push((at, found.matched)),
                Place::Begins(text) => begins.entry(text).or_default().push((at, found.matched)),
                Place::Other => table.others.push(at),
            }
            found.matched.into_iter().for_each(prepare);
        }
        table.lengths = prefixes.keys().map(|path| path.len()).collect();
        let grown = |rows: Rows<'_>| rows.into_iter().map(|(path, row)| (path, Branch::new(row))).collect();
        let lengths = begins.keys().map(|text| text.len()).collect();
        (table.exact, table.prefixes, table.begins) = (grown(exact), grown(prefixes), grown(begins));
        table.begins_lengths = lengths;
        table
    }

    /// What is of the prefixes of a path, longest first.
    fn prefixes_of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Branch> {
        let shorter = path.rmatch_indices('/').map(|(at, _)| at);
        std::iter::once(path.len())
            .chain(shorter)
            .filter(|length| self.lengths.contain(*length))
            .filter_map(|length| self.prefixes.get(path.get(..length)?))
    }

    /// The first of a branch that a request is of, if it comes before another.
    fn first(&self, branch: &Branch, asked: &Asked<'_>, before: u32) -> Option<u32> {
        branch.first(asked, before, &|at| {
            let found = self.entry(at).and_then(Entry::found);
            found.is_some_and(|found| found.matched.is_none_or(|it| asked.is_of(it)))
        })
    }

    fn entry(&self, at: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(at).ok()?)
    }
}

type Rows<'t> = HashMap<Box<str>, Row<'t>>;

impl Entry {
    fn found(&self) -> Option<Found<'_>> {
        let rule = self.route.rules.get(self.rule)?;
        let matched = match self.matched {
            None => None,
            Some(at) => Some(rule.matches.get(at)?),
        };
        Some(Found { route: &self.route, rule, matched })
    }
}

impl Found<'_> {
    /// The route's key.
    #[must_use]
    pub fn key(&self) -> &RouteKey {
        &self.route.key
    }

    /// What the rule is called.
    #[must_use]
    pub fn name(&self) -> RuleName<'_> {
        RuleName { route: &self.route.key, rule: self.rule.name.as_str() }
    }
}

impl Lengths {
    fn bit(length: usize) -> (usize, u64) {
        let last = Self::default().0.len() - 1;
        ((length / 64).min(last), if length / 64 < last { 1 << (length % 64) } else { 1 })
    }

    fn contain(&self, length: usize) -> bool {
        let (at, bit) = Self::bit(length);
        self.0.get(at).is_some_and(|bits| bits & bit != 0)
    }
}

impl FromIterator<usize> for Lengths {
    fn from_iter<I: IntoIterator<Item = usize>>(lengths: I) -> Self {
        let mut all = Self::default();
        for (at, bit) in lengths.into_iter().map(Self::bit) {
            if let Some(bits) = all.0.get_mut(at) {
                *bits |= bit;
            }
        }
        all
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("matches", &self.entries.len()).finish_non_exhaustive()
    }
}

/// Where a match is found.
enum Place {
    Exact(Box<str>),
    Prefix(Box<str>),
    Begins(Box<str>),
    Other,
}

fn place(matched: Option<&Match>) -> Place {
    let Some(Match { path, .. }) = matched else { return Place::Prefix("".into()) };
    match path {
        PathMatch::Exact(path) => Place::Exact(path.clone()),
        PathMatch::Prefix(path) => Place::Prefix(path.strip_suffix('/').unwrap_or(path).into()),
        PathMatch::Grpc { service: None, method: None } => Place::Prefix("".into()),
        PathMatch::Grpc { service: Some(ValueMatch::Exact(service)), method: None } => {
            Place::Prefix(format!("/{service}").into())
        }
        PathMatch::Grpc {
            service: Some(ValueMatch::Exact(service)),
            method: Some(ValueMatch::Exact(method)),
        } => Place::Exact(format!("/{service}/{method}").into()),
        PathMatch::Begins { text, any_case: false } => Place::Begins(text.clone()),
        PathMatch::Grpc { .. } | PathMatch::Regex(_) | PathMatch::Begins { .. } => Place::Other,
    }
}

/// Whether a path is of a match that no index holds.
fn path_matches(of: &PathMatch, path: &str) -> bool {
    match of {
        PathMatch::Regex(pattern) => pattern.is_match(path.as_bytes()),
        PathMatch::Begins { text, any_case: _ } => {
            path.get(..text.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(text))
        }
        PathMatch::Grpc { service, method } => {
            let path = path.strip_prefix('/').unwrap_or(path);
            let (s, m) = path.split_once('/').map_or((path, None), |(s, m)| (s, Some(m)));
            let is = |of: &Option<ValueMatch>, part: Option<&str>| {
                let demanded = |of| part.is_some_and(|part| value_is_of(of, part.as_bytes()));
                of.as_ref().is_none_or(demanded)
            };
            is(service, Some(s)) && is(method, m)
        }
        PathMatch::Exact(_) | PathMatch::Prefix(_) => false,
    }
}

/// Compiles expressions now rather than with the first request.
fn prepare(one: &Match) {
    let Match { path, method: _, headers, query, more } = one;
    let (service, method) = match path {
        PathMatch::Regex(pattern) => {
            pattern.prepare();
            (None, None)
        }
        PathMatch::Grpc { service, method } => (service.as_ref(), method.as_ref()),
        PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::Begins { .. } => (None, None),
    };
    let values = headers.iter().map(|it| &it.value).chain(query.iter().map(|it| &it.value));
    let more = more.iter().flat_map(|more| more.values());
    for value in values.chain(service).chain(method).chain(more) {
        match value {
            ValueMatch::Regex(pattern) => pattern.prepare(),
            ValueMatch::Exact(_) | ValueMatch::Prefix(_) | ValueMatch::Present => {}
        }
    }
}

#[cfg(test)]
mod tests;
