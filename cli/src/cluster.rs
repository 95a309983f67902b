//! Commands about a mesh in a Kubernetes cluster. Owns which cluster is meant, and the way to it; what is asked and
//! shown is the commands'.

mod aim;
mod check;
mod config;
mod describe;
mod dump;
mod enrolment;
mod install;
mod parts;
mod proxies;
mod reason;
mod remedy;
mod report;
mod status;
mod survey;
mod waypoint;

use std::error::Error;
use std::future::Future;
use std::path::PathBuf;

use ambit_cluster::api::{Client, OpenError};
use clap::Args;

pub(crate) use check::{CheckArgs, run as check};
pub(crate) use config::{
    ConfigArgs, WaypointConfigArgs, run as ztunnel_config, run_of_waypoint as waypoint_config,
};
pub(crate) use describe::{DescribeArgs, run as describe};
pub(crate) use enrolment::{MODE, Rules, Standing};
pub(crate) use install::{InstallArgs, UninstallArgs, install, uninstall, upgrade};
pub(crate) use proxies::{ProxiesArgs, run as proxy_status};
pub(crate) use reason::{why, why_request};
pub(crate) use remedy::remedy;
pub(crate) use report::{ReportArgs, run as bug_report};
pub(crate) use status::{StatusArgs, run as status};
pub(crate) use survey::{LISTED, Survey, survey};
pub(crate) use waypoint::{WaypointArgs, run as waypoint};

/// Which cluster is meant, and where the mesh is in it.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub(crate) struct Which {
    /// The kubeconfig; else $KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; else its current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The namespace of the mesh.
    #[arg(
        short = 'i',
        long = "istioNamespace",
        visible_alias = "istio-namespace",
        global = true,
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    pub(crate) istio_namespace: String,
}

impl Which {
    /// The way to the cluster's API server. Connects at the first question.
    pub(crate) async fn client(&self) -> Result<Client, OpenError> {
        Client::of_user(self.kubeconfig.as_deref(), self.context.as_deref()).await
    }
}

/// A revision's name: it is part of objects' names, and a label's value.
pub(crate) fn revision(text: &str) -> Result<String, String> {
    let is_inner = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    let is_name =
        text.len() <= 48 && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-');
    let wanted =
        "lower-case letters, digits and dashes, beginning and ending with none, at most 48; for example 1-28";
    if is_name { Ok(text.to_owned()) } else { Err(format!("a revision is {wanted}")) }
}

/// Runs a command to its end. Every wait in it is bounded by the command itself.
pub(crate) fn block_on<T>(
    command: impl Future<Output = Result<T, Box<dyn Error>>>,
) -> Result<T, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(command);
    // A connection that still lingers holds nothing up.
    runtime.shutdown_background();
    done
}
