//! What can be asked on the command line, and which module answers.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::analyze::AnalyzeArgs;
use crate::demo::DemoArgs;
use crate::enter::{EnterArgs, become_command};
use crate::local::LocalArgs;
use crate::observe::WhyArgs;
use crate::pod::PodCommand;
use crate::{analyze, cluster, demo, local, observe, pod};

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed, or not as it should be; 2 not understood; \
`local exec` passes on the command's own, and has 125 where it could not be tried, 126 where it could not be \
started, 127 where there is no such program.";

/// Ambit: a service mesh without sidecars.
#[derive(Debug, Clone, Parser)]
#[command(name = "ambit", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Run a mesh on this machine: nodes and pods as network namespaces, from ordinary manifests.
    Local(LocalArgs),
    /// Show the mesh at work: eight steps on a mesh of its own, then nothing is left.
    Demo(DemoArgs),
    /// Say which path a connection or a request would take, and which route and policy decide.
    Why(WhyArgs),
    /// Check manifests, or the objects of a cluster: says what is wrong, where, and what to do about it.
    Analyze(AnalyzeArgs),
    /// Install the mesh into a cluster, from the charts that this program was built with.
    Install(cluster::InstallArgs),
    /// Bring an installed mesh to this program's version, or to other values.
    Upgrade(cluster::InstallArgs),
    /// Take the mesh off a cluster: running pods leave first.
    Uninstall(cluster::UninstallArgs),
    /// Look at a cluster: whether it is fit for the mesh, and whether the mesh in it is well.
    Check(cluster::CheckArgs),
    /// Say whether the mesh of a cluster is well: control plane, nodes, enrolled pods. Fails when it is not.
    Status(cluster::StatusArgs),
    /// Show whom the control plane tells what, and whether he has taken it.
    #[command(visible_alias = "ps")]
    ProxyStatus(cluster::ProxiesArgs),
    /// Tell of a pod or a service how the mesh has it, and what is wrong with that.
    Describe(cluster::DescribeArgs),
    /// Write what others need to find out what is wrong: one archive, bounded, without secrets.
    BugReport(cluster::ReportArgs),
    /// Show what the node proxies of a cluster know and carry: workloads, services, policies, certificates.
    #[command(visible_alias = "zc")]
    ZtunnelConfig(cluster::ConfigArgs),
    /// See to waypoints: have one, list them, wait for them, take them away.
    #[command(visible_alias = "w")]
    Waypoint(cluster::WaypointArgs),
    /// Show what a waypoint knows: services that go through it, routes, policies, workloads, certificates.
    #[command(visible_alias = "wc")]
    WaypointConfig(cluster::WaypointConfigArgs),
    /// Print what a shell needs to complete these commands, for example: source <(ambit completion bash)
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Programs for pods.
    #[command(subcommand, hide = true)]
    Pod(PodCommand),
    /// Become a process of a mesh.
    #[command(hide = true)]
    Enter(EnterArgs),
}

/// Which mesh is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// Name of the mesh.
    #[arg(long, global = true)]
    pub(crate) name: Option<local::MeshName>,
    /// Where meshes keep what they make.
    #[arg(long, global = true, env = "AMBIT_RUN_DIR", default_value = "/run/ambit")]
    pub(crate) run_dir: std::path::PathBuf,
}

impl Which {
    /// The mesh that is meant: the one named, or `local`.
    pub(crate) fn mesh(&self) -> local::Mesh {
        let name = self.name.clone().unwrap_or_default();
        local::Mesh::new(&self.run_dir, name)
    }
}

/// Does what was asked.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Local(args) => local::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Why(args) => observe::why(&args),
        Command::Analyze(args) => analyze::run(&args),
        Command::Install(args) => cluster::install(&args),
        Command::Upgrade(args) => cluster::upgrade(&args),
        Command::Uninstall(args) => cluster::uninstall(&args),
        Command::Check(args) => cluster::check(&args),
        Command::Status(args) => cluster::status(&args),
        Command::ProxyStatus(args) => cluster::proxy_status(&args),
        Command::Describe(args) => cluster::describe(&args),
        Command::BugReport(args) => cluster::bug_report(&args),
        Command::ZtunnelConfig(args) => cluster::ztunnel_config(&args),
        Command::Waypoint(args) => cluster::waypoint(&args),
        Command::WaypointConfig(args) => cluster::waypoint_config(&args),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(
                shell,
                &mut <Cli as clap::CommandFactory>::command(),
                "ambit",
                &mut script,
            );
            print!("{}", String::from_utf8_lossy(&script));
            ExitCode::SUCCESS
        }
        Command::Pod(command) => pod::run(command),
        Command::Enter(args) => {
            let error = become_command(&args);
            fail_as(error.code(), &error)
        }
    }
}

/// Says what went wrong, with its causes, in one line; and in another what to do, where it does not say so itself.
pub(crate) fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    fail_as(1, error)
}

/// As [`fail`], with an exit code that says more.
pub(crate) fn fail_as(code: u8, error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("ambit: {}", chain(error));
    if let Some(remedy) = cluster::remedy(error) {
        eprintln!("  → {remedy}");
    }
    ExitCode::from(code)
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_do_not_contradict_each_other() {
        Cli::command().debug_assert();
        for line in [
            "ambit local label ns shop a=b",
            "ambit local --name x delete pod shop/web",
            "ambit why a b:1 -o yaml",
            "ambit local status -o json",
            "ambit local exec -it shop/web -- sh",
            "ambit local logs -f --tail 5 shop/web -c app",
            "ambit completion zsh",
            "ambit status --context kind -o yaml",
            "ambit proxy-status ztunnel-x.istio-system -o json",
            "ambit why shop/a shop/b:80 --cluster --context c -i mesh -o json",
            "ambit why a b:80 -f dump.json",
            "ambit why GET http://cart.shop/x?y=z --from shop/web -H x-user:bob --header a:b -o json",
            "ambit why --context c POST http://cart:81 --from web",
            "ambit analyze --cluster -A --failure-threshold warning a.yaml",
            "ambit analyze -L",
            "ambit bug-report --out r.tar.gz --timeout 30 --tail 10 -o json",
            "ambit describe svc web -n shop -o json",
            "ambit ztunnel-config workload --address 10.0.0.1 -o short",
            "ambit zc cert web.shop --kubeconfig k -i system",
            "ambit zc log --node n1 --level access:off,debug --reset",
            "ambit zc all -f - -o json",
            "ambit analyze -o json a.yaml dir -",
            "ambit waypoint apply -n shop --name w --for all --enroll-namespace --overwrite --wait -r blue",
            "ambit waypoint apply --service-account cart --waypoint-timeout 2m --context c",
            "ambit waypoint generate --for workload -o json",
            "ambit waypoint list -A -o yaml",
            "ambit waypoint status --name w -n shop --wait=false",
            "ambit waypoint delete a b -n shop",
            "ambit waypoint delete --all",
            "ambit waypoint-config service -n shop --all -o yaml",
            "ambit wc certs w -n shop",
            "ambit wc routes w -n shop -o json",
            "ambit wc policies -f dump.json",
            "ambit waypoint-config authn -f - -o yaml",
            "ambit check --context c -r blue -o yaml",
            "ambit install --set a=b --set c=d --profile ambient --platform k3s -y --wait --timeout 90s",
            "ambit upgrade --dry-run --revision blue --wait=false -i mesh",
            "ambit uninstall -y --purge --timeout 2m",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "ambit waypoint delete",
            "ambit waypoint delete a --all",
            "ambit waypoint apply --name none",
            "ambit why a b:80 --header a:b",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
