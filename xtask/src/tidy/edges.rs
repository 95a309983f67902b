//! Who may know whom, and where outside crates are at home.
//! Reads the two tables from ARCHITECTURE.md, so that the page and the check cannot disagree.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::workspace::{Kind, Need, Package, Workspace};

type Table = BTreeMap<String, Vec<String>>;

/// Every dependency the tables do not permit, one line each.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let page = std::fs::read_to_string(workspace.root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let edges = table(&page, "edges").context("ARCHITECTURE.md has no block marked `edges`")?;
    let homes = table(&page, "homes").context("ARCHITECTURE.md has no block marked `homes`")?;
    Ok(judge(&workspace.packages, &edges, &homes))
}

fn judge(packages: &[Package], edges: &Table, homes: &Table) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        let name = short(&package.name);
        let Some(known) = edges.get(name) else {
            complaints.push(format!("{name}: not in the `edges` table of ARCHITECTURE.md"));
            continue;
        };
        // `*` drives everything and is known by nobody.
        let drives = known.iter().any(|other| other == "*");
        for need in &package.needs {
            let other = short(&need.name);
            if need.name.starts_with("ambit-") {
                if !drives && !permitted(name, known, other, need) {
                    complaints.push(format!("{name} knows {other}: not in the `edges` table"));
                }
            } else if !drives && need.kind == Kind::Normal && !at_home(homes, name, &need.name) {
                complaints.push(format!("{name} uses {}: not at home there (the `homes` table)", need.name));
            }
        }
    }
    complaints
}

/// What tests need may be more, but a library's tests stay within the library's world.
fn permitted(name: &str, known: &[String], other: &str, need: &Need) -> bool {
    let program = matches!(name, "ztunnel" | "waypoint" | "istiod-lite" | "cni" | "cni-plugin" | "cli");
    known.iter().any(|one| one == other) || (program && need.kind == Kind::Dev && other == "kit")
}

fn at_home(homes: &Table, name: &str, outside: &str) -> bool {
    homes.get(outside).is_none_or(|places| places.iter().any(|place| place == name))
}

fn short(package: &str) -> &str {
    package.strip_prefix("ambit-").unwrap_or(package)
}

/// A fenced block with this mark: a name, then the names that go with it. `#` begins a remark.
fn table(page: &str, mark: &str) -> Option<Table> {
    let (_, after) = page.split_once(&format!("```{mark}\n"))?;
    let (block, _) = after.split_once("```")?;
    let mut table = Table::new();
    for line in block.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace().map(str::to_owned);
        if let Some(name) = words.next() {
            table.entry(name).or_default().extend(words);
        }
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "```edges\nmodel\nwire model\ncli wire  # and more\ntests *\n```\n```homes\nrustls tls\n```\n";

    fn complaints(package: &str, need: &str, kind: Kind) -> Vec<String> {
        let needs = vec![Need { name: need.to_owned(), kind }];
        let package = Package { name: package.to_owned(), needs, targets: Vec::new() };
        judge(&[package], &table(PAGE, "edges").unwrap(), &table(PAGE, "homes").unwrap())
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_refused() {
        let cases = [
            ("ambit-wire", "ambit-model", Kind::Normal, 0),
            ("ambit-model", "ambit-wire", Kind::Normal, 1),
            ("ambit-model", "ambit-kit", Kind::Dev, 1),
            ("ambit-cli", "ambit-kit", Kind::Dev, 0),
            ("ambit-cli", "ambit-kit", Kind::Normal, 1),
            ("ambit-cli", "rustls", Kind::Normal, 1),
            ("ambit-cli", "rustls", Kind::Dev, 0),
            ("ambit-cli", "bytes", Kind::Normal, 0),
            ("ambit-tests", "ambit-cli", Kind::Normal, 0),
            ("ambit-news", "bytes", Kind::Normal, 1),
        ];
        for (package, need, kind, wanted) in cases {
            let found = complaints(package, need, kind);
            assert_eq!(found.len(), wanted, "{package} -> {need}: {found:?}");
        }
    }
}
