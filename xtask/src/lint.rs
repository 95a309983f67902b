//! `cargo xtask lint`: everything a machine can object to.
//! Owns the order and the summary; `tidy` owns the rules that are ours alone.

use anyhow::{Result, ensure};

use crate::need;
use crate::run;
use crate::tidy;
use crate::workspace::{Workspace, cargo};

type Step = fn(&Workspace) -> Result<()>;

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    ensure!(args.is_empty(), "lint takes no arguments");
    need::tools(&[&need::COMPILER])?;
    let steps: [(&str, Step); 4] = [
        ("format", format),
        ("clippy", clippy),
        ("tidy", |workspace| tidy::run(workspace, &[])),
        ("deny", deny),
    ];
    let mut failed = Vec::new();
    for (name, step) in steps {
        if let Err(error) = step(workspace) {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "lint failed: {}", failed.join(", "));
    println!("lint: format, clippy, tidy, deny are clean");
    Ok(())
}

fn format(workspace: &Workspace) -> Result<()> {
    run::shown(cargo().args(["fmt", "--all", "--check"]).current_dir(&workspace.root))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut clippy = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    run::shown(clippy.current_dir(&workspace.root))?;
    // They are no members: what they are made with is not what the product is made with.
    let mut fuzz = cargo();
    fuzz.args([
        "clippy",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target-dir",
        "target",
        "--no-default-features",
    ]);
    fuzz.args(["--locked", "--", "-D", "warnings"]);
    run::shown(fuzz.current_dir(&workspace.root))
}

/// The advisory database is a git repository elsewhere; without a way there the other checks still run.
fn deny(workspace: &Workspace) -> Result<()> {
    need::cargo_tool("deny", "cargo-deny")?;
    let mut deny = cargo();
    deny.args(["deny", "check", "bans", "licenses", "sources"]);
    if run::succeeds(cargo().args(["deny", "fetch", "db"]).current_dir(&workspace.root)) {
        deny.args(["advisories", "--disable-fetch"]);
    } else {
        eprintln!("deny: advisories not checked, their database cannot be fetched from this machine");
    }
    run::shown(deny.current_dir(&workspace.root))
}
