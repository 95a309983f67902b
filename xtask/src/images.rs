//! `cargo xtask images`: our programs as container images, one tar each.
//! Owns building the programs; what is in an image, and how it is written, is deploy/images'.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace::{Workspace, cargo};
use crate::{demo, need, run};
use ambit_images::Component;

/// What was asked for.
struct Asked {
    out: PathBuf,
    profile: &'static str,
    registry: String,
    tag: String,
}

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let asked = parse(workspace, args)?;
    need::tools(&[&need::COMPILER])?;
    let programs = build(workspace, asked.profile)?;
    let plugin = build_plugin(workspace)?;
    std::fs::create_dir_all(&asked.out).with_context(|| asked.out.display().to_string())?;
    for component in Component::all() {
        let image = component.image((&asked.registry, &asked.tag), &programs, &plugin)?;
        let tar = asked.out.join(format!("{}.tar", component.name));
        let written = image.write(&tar)?;
        println!("{}  {} ({} MB)", written.sha256, tar.display(), written.bytes >> 20);
    }
    Ok(())
}

fn parse(workspace: &Workspace, args: &[String]) -> Result<Asked> {
    let mut asked = Asked {
        out: workspace.target.join("images"),
        profile: "release",
        registry: "localhost/ambit".to_owned(),
        tag: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{arg} wants a value")).cloned();
        match arg.as_str() {
            "--debug" => asked.profile = "debug",
            "--out" => asked.out = value()?.into(),
            "--registry" => asked.registry = value()?,
            "--tag" => asked.tag = value()?,
            _ => bail!("no option `{arg}`; `cargo xtask images --help` lists them"),
        }
    }
    Ok(asked)
}

/// Builds the programs; returns where they are.
fn build(workspace: &Workspace, profile: &str) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--workspace"]).current_dir(&workspace.root);
    for program in Component::all().iter().flat_map(|component| component.programs) {
        build.args(["--bin", program]);
    }
    if profile == "release" {
        build.arg("--release");
    } else {
        build.args(demo::AS_TESTS_DO);
    }
    run::shown(&mut build)?;
    Ok(workspace.target.join(profile))
}

/// The plugin runs on nodes beside unknown libraries: it brings its own.
pub(crate) fn build_plugin(workspace: &Workspace) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut build = cargo();
    build.args(["build", "--profile", "plugin", "-p", "ambit-cni-plugin", "--target", &target]);
    build.env("RUSTFLAGS", "-C target-feature=+crt-static").current_dir(&workspace.root);
    run::shown(&mut build)?;
    Ok(workspace.target.join(Path::new(&target)).join("plugin/ambit-cni"))
}
