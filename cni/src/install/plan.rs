//! What a folder of network configurations should hold, decided from what it holds. Pure: same folder, same answer;
//! a folder that is as it should be needs nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::install::list::{Network, TYPE, text};

/// What a runtime reads, in the order of names. Upstream passes `.json` over, runtimes do not.
const READ: [&str; 3] = [".conf", ".conflist", ".json"];

/// Beside a file that we changed: as it was. No runtime reads this ending.
pub(super) const ORIGINAL: &str = ".ambit-original";

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// All files of the folder.
pub type Folder = BTreeMap<String, File>;

/// How our entry gets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Into the primary configuration: the named one, else the first.
    Chained {
        /// The primary's name, if it is not to be discovered.
        named: Option<String>,
        /// A copy of the primary as the next way makes it: no primary, and of no use beside one.
        former: String,
    },
    /// A copy of the primary with our entry, before it, which survives that the primary is rewritten.
    Owned {
        /// Our file.
        own: String,
        /// The primary's name, if it is not to be discovered.
        named: Option<String>,
    },
    /// Our entry alone, for a runtime that is told to use it beside others.
    Standalone {
        /// Our file.
        own: String,
    },
}

/// A change of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This file is to be there.
    Write(String, File),
    /// This file is not to be there.
    Remove(String),
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// In this order; nothing when all is as it should be.
    Do(Vec<Step>),
    /// There is no configuration to get into yet.
    NoPrimary,
}

/// What to do so that the runtime calls our plugin last. `mode`: for files that were not there.
#[must_use]
pub fn install(folder: &Folder, way: &Way, entry: &Value, mode: u32) -> Plan {
    let steps = match way {
        Way::Standalone { own } => {
            let mut alone = entry.as_object().cloned().unwrap_or_default();
            alone.insert("name".into(), json!(TYPE));
            alone.insert("cniVersion".into(), json!("0.3.1"));
            put(folder, own, &alone, mode).into_iter().collect()
        }
        Way::Owned { own, named } => {
            let Some((_, primary)) = primary(folder, named.as_deref(), Some(own)) else {
                return Plan::NoPrimary;
            };
            // Whatever is of ours in the primary would be called twice after a change of ways.
            put(folder, own, &primary.with(entry), mode).into_iter().collect()
        }
        Way::Chained { named, former } => {
            let found = primary(folder, named.as_deref(), Some(former));
            let Some((name, primary)) = found else { return Plan::NoPrimary };
            let mut steps = chained(folder, name, &primary, entry);
            let is_ours = networks(folder).any(|(name, it)| name == former && it.has_ours());
            // After it: until then it is what puts the plugin in.
            steps.extend(is_ours.then(|| Step::Remove(former.clone())));
            steps
        }
    };
    Plan::Do(steps)
}

/// What to do so that nothing of ours is left, and what we changed is as it was.
#[must_use]
pub fn remove(folder: &Folder, own: Option<&str>) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, network) in networks(folder) {
        if own == Some(name) {
            steps.push(Step::Remove(name.to_owned()));
        } else if network.has_ours() {
            steps.extend(restore(folder, name, &network));
        }
    }
    let left = folder.keys().filter(|name| name.ends_with(ORIGINAL));
    steps.extend(left.map(|name| Step::Remove(name.clone())));
    steps
}

/// The primary configuration: the named one under either ending, else the first that a runtime would use.
fn primary<'a>(folder: &'a Folder, named: Option<&str>, own: Option<&str>) -> Option<(&'a str, Network)> {
    let mut all = networks(folder).filter(|(name, _)| own != Some(name));
    match named {
        Some(named) => {
            all.filter(|(name, _)| stem(name) == stem(named)).max_by_key(|(name, _)| *name == named)
        }
        // What is of ours alone is nobody's primary.
        None => all.find(|(_, network)| network.without().is_some()),
    }
}

/// A file's name without its ending.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn networks(folder: &Folder) -> impl Iterator<Item = (&str, Network)> {
    let read = |name: &str| READ.iter().any(|ending| name.ends_with(ending));
    folder.iter().filter_map(move |(name, file)| {
        let network = read(name).then(|| Network::parse(name, &file.bytes).ok()).flatten()?;
        Some((name.as_str(), network))
    })
}

fn chained(folder: &Folder, name: &str, primary: &Network, entry: &Value) -> Vec<Step> {
    let Some(before) = folder.get(name) else { return Vec::new() };
    let list = primary.with(entry);
    let target = match primary {
        Network::List(_) => name.to_owned(),
        Network::Single(_) => format!("{}.conflist", stem(name)),
    };
    let Some(write) = put(folder, &target, &list, before.mode).or_else(|| {
        (target != name).then(|| Step::Write(target.clone(), File { bytes: text(&list), mode: before.mode }))
    }) else {
        return Vec::new();
    };
    let mut steps = Vec::new();
    if !primary.has_ours() {
        // First, so that at no moment a changed file is there without what it was.
        steps.push(Step::Write(format!("{name}{ORIGINAL}"), before.clone()));
    }
    steps.push(write);
    if target != name {
        // The single file sorts first: while it is there the runtime would not see the list.
        steps.push(Step::Remove(name.to_owned()));
    }
    steps
}

/// A file with these members, unless it says the same already.
fn put(folder: &Folder, name: &str, members: &Map<String, Value>, mode: u32) -> Option<Step> {
    let there = folder.get(name);
    let same =
        there.is_some_and(|it| serde_json::from_slice(&it.bytes).is_ok_and(|it: Map<_, _>| it == *members));
    let mode = there.map_or(mode, |it| it.mode);
    (!same).then(|| Step::Write(name.to_owned(), File { bytes: text(members), mode }))
}

/// A file as it was before us, to the byte if nobody else changed it meanwhile.
fn restore(folder: &Folder, name: &str, network: &Network) -> Vec<Step> {
    let Some(left) = network.without() else { return vec![Step::Remove(name.to_owned())] };
    let originals = folder.iter().filter_map(|(backup, file)| Some((backup.strip_suffix(ORIGINAL)?, file)));
    for (original, file) in originals {
        if stem(original) != stem(name) {
            continue;
        }
        let Ok(former) = Network::parse(original, &file.bytes) else { continue };
        if former.with(&Value::Null) != Network::List(left.clone()).with(&Value::Null) {
            continue;
        }
        let write = Step::Write(original.to_owned(), file.clone());
        let gone = (original != name).then(|| Step::Remove(name.to_owned()));
        return std::iter::once(write).chain(gone).collect();
    }
    let mode = folder.get(name).map_or(0o600, |it| it.mode);
    vec![Step::Write(name.to_owned(), File { bytes: text(&left), mode })]
}
