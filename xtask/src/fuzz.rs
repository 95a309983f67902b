//! `cargo xtask fuzz`: random bytes against every parser that faces a network, a file or another process.
//! Owns running the targets of `fuzz/`; what a target feeds is in `fuzz/fuzz_targets`,
//! and what it begins with in `fuzz/seeds`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::need;
use crate::run;
use crate::workspace::Workspace;

/// Long enough to walk the corpus and find the shallow faults; nightly runs give more.
const SECONDS: u32 = 60;

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let manifest = workspace.root.join("fuzz/Cargo.toml");
    let known = targets(&std::fs::read_to_string(&manifest).context("fuzz/Cargo.toml cannot be read")?);
    let (seconds, named) = parse(args)?;
    if let Some(unknown) = named.iter().find(|name| !known.contains(name)) {
        bail!("no fuzz target `{unknown}`; there are: {}", known.join(", "));
    }
    let chosen = if named.is_empty() { known } else { named };
    ensure!(!chosen.is_empty(), "fuzz/Cargo.toml names no target");
    prepare()?;
    let mut found = Vec::new();
    for target in &chosen {
        let mut fuzz = Command::new("cargo");
        fuzz.args(["+nightly", "fuzz", "run", target]).args(inputs(&workspace.root.join("fuzz"), target)?);
        fuzz.arg("--").arg(format!("-max_total_time={seconds}")).current_dir(&workspace.root);
        // The pinned cargo that runs us hands its choice down in variables; nightly must win here.
        fuzz.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        if let Err(error) = run::shown(&mut fuzz) {
            eprintln!("{error:#}");
            found.push(target.as_str());
        }
    }
    println!("{} targets, {seconds} s each, {} with findings", chosen.len(), found.len());
    ensure!(found.is_empty(), "findings in: {} (inputs under fuzz/artifacts)", found.join(", "));
    Ok(())
}

/// The folders of inputs to begin with. What is found goes into the first, which is never the seeds.
fn inputs(fuzz: &Path, target: &str) -> Result<Vec<PathBuf>> {
    let (found, seeds) = (fuzz.join("corpus").join(target), fuzz.join("seeds").join(target));
    std::fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    Ok(if seeds.is_dir() { vec![found, seeds] } else { vec![found] })
}

fn prepare() -> Result<()> {
    need::tools(&[&need::COMPILER, &need::Tool { program: "c++", package: "g++" }])?;
    if !run::succeeds(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])) {
        run::shown(Command::new("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]))?;
    }
    need::cargo_tool("fuzz", "cargo-fuzz")
}

fn parse(args: &[String]) -> Result<(u32, Vec<String>)> {
    let (mut seconds, mut named) = (SECONDS, Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--seconds" {
            let number = rest.next().context("--seconds wants a number")?;
            seconds = number.parse().with_context(|| format!("--seconds {number} is not a number"))?;
        } else if arg.starts_with('-') {
            bail!("no option `{arg}`; see `cargo xtask fuzz --help`");
        } else {
            named.push(arg.clone());
        }
    }
    Ok((seconds, named))
}

/// The names under `[[bin]]`, read without a TOML parser: cargo-fuzz writes one key a line.
fn targets(manifest: &str) -> Vec<String> {
    let mut in_bin = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_bin = line == "[[bin]]";
        } else if in_bin && let Some(name) = line.strip_prefix("name = ") {
            names.push(name.trim_matches('"').to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_names_of_bins_and_of_nothing_else() {
        let manifest =
            "[package]\nname = \"fuzz\"\n[[bin]]\nname = \"zds\"\npath = \"x\"\n[[bin]]\nname = \"head\"";
        assert_eq!(targets(manifest), ["zds", "head"]);
    }

    #[test]
    fn every_target_has_its_file_and_every_seed_its_target() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let mut known = targets(&std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap());
        let names = |folder: &str| {
            let entries = std::fs::read_dir(fuzz.join(folder)).unwrap();
            entries.map(|it| it.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        };
        assert!(names("seeds").all(|name| known.contains(&name)), "{:?}", names("seeds").collect::<Vec<_>>());
        let mut files: Vec<_> = names("fuzz_targets").collect();
        files.sort();
        known.sort();
        assert_eq!(files, known);
    }

    #[test]
    fn seconds_and_names_may_stand_in_any_order() {
        let args = ["zds", "--seconds", "5", "head"].map(str::to_owned);
        assert_eq!(parse(&args).unwrap(), (5, vec!["zds".to_owned(), "head".to_owned()]));
        assert!(parse(&["--seconds".to_owned()]).is_err());
        assert!(parse(&["--minutes".to_owned()]).is_err());
    }
}
