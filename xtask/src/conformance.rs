//! `cargo xtask conformance`: the Gateway API's own tests of meshes, against ours on a real cluster.
//! Owns prerequisites and builds; what is done is `ambit-lab`'s, in tests/cluster.

use std::process::Command;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{cluster, demo, images, need, run};

/// Where reports are kept, below the repository.
const REPORTS: &str = "deploy/conformance";

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    need::root("a cluster")?;
    cluster::tools()?;
    demo::programs_of_tests(workspace)?;
    images::build_plugin(workspace)?;
    cluster::build(workspace, &["--conformance"])?;
    let mut suite = Command::new(workspace.built("debug", "ambit-lab"));
    suite.arg("conformance").args(args);
    if !args.iter().any(|arg| arg == "--out") {
        suite.arg("--out").arg(workspace.root.join(REPORTS));
    }
    run::shown(&mut suite)
}
