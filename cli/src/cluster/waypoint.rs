//! `ambit waypoint`: waypoints asked for, listed, waited for and taken away, by the words of `istioctl waypoint`.
//! Owns what can be asked. What a waypoint is in objects is `gateway`'s, a change is made in `apply` and `delete`, and
//! what there is is told by `show`.

mod apply;
mod delete;
mod gateway;
mod show;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use ambit_cluster::api::{ApiError, Client};
use clap::{Args, Subcommand};
use serde_json::Value;

use self::gateway::{Class, Design, GATEWAYS, Traffic, Waypoint};
use super::dump::text;
use super::{Which, block_on, revision};
use crate::args::fail;
use crate::output::{Output, render};

/// Where classes are.
const CLASSES: &str = "/apis/gateway.networking.k8s.io/v1/gatewayclasses";
/// Between two looks at a waypoint that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What `ambit waypoint` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaypointArgs {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Print what `apply` would apply.
    Generate(GenerateArgs),
    /// Have a waypoint in a namespace.
    Apply(ApplyArgs),
    /// Show which waypoints there are.
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Say whether waypoints are there, and if not, why. Fails when one is not.
    Status(StatusArgs),
    /// Take waypoints away.
    Delete(DeleteArgs),
}

/// How a waypoint is to be.
#[derive(Debug, Clone, Args)]
struct Wanted {
    /// The waypoint's name; else `waypoint`, or ACCOUNT-waypoint.
    #[arg(long, value_parser = name)]
    name: Option<Name>,
    /// What traffic goes through it; else what goes to services, or all that is for the account.
    #[arg(long = "for", value_enum, value_name = "TRAFFIC")]
    traffic: Option<Traffic>,
    /// Only what runs as this account goes through it, and services that nobody else is behind.
    #[arg(long, value_name = "ACCOUNT", value_parser = name)]
    service_account: Option<Name>,
    /// The control plane that sees to it, by its revision or a tag.
    #[arg(short, long, value_parser = revision)]
    revision: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct GenerateArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// The namespace; else none is written.
    #[arg(short, long)]
    namespace: Option<String>,
    /// How to print it.
    #[arg(short = 'o', long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

#[derive(Debug, Clone, Args)]
struct ApplyArgs {
    #[command(flatten)]
    wanted: Wanted,
    /// The namespace; else that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Label the namespace, so that its traffic goes through this waypoint.
    #[arg(long, conflicts_with = "service_account")]
    enroll_namespace: bool,
    /// Change also what was said otherwise: the namespace's label, and what somebody else wrote of this waypoint.
    #[arg(long)]
    overwrite: bool,
    /// Wait until it is ready.
    #[arg(short, long)]
    wait: bool,
    /// How long to wait, for example 90s or 5m.
    #[arg(long, visible_alias = "timeout", default_value = "90s", value_parser = super::install::duration)]
    waypoint_timeout: Duration,
}

/// Whose waypoints are meant.
#[derive(Debug, Clone, Args)]
struct Scope {
    /// The namespace; else that of the kubeconfig's context.
    #[arg(short, long, conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// Those of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// How to print it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Args)]
struct ListArgs {
    #[command(flatten)]
    scope: Scope,
}

#[derive(Debug, Clone, Args)]
struct StatusArgs {
    /// Only the one of this name.
    #[arg(long, value_parser = name)]
    name: Option<Name>,
    #[command(flatten)]
    scope: Scope,
    /// Wait until all are ready.
    #[arg(short, long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", value_name = "BOOL")]
    wait: bool,
    /// How long to wait, for example 90s or 5m.
    #[arg(long, visible_alias = "timeout", default_value = "90s", value_parser = super::install::duration)]
    waypoint_timeout: Duration,
}

#[derive(Debug, Clone, Args)]
struct DeleteArgs {
    /// Their names.
    #[arg(value_parser = name, required_unless_present_any = ["all", "revision"])]
    names: Vec<Name>,
    /// All of the namespace.
    #[arg(long, conflicts_with_all = ["names", "revision"])]
    all: bool,
    /// Those that this control plane sees to.
    #[arg(short, long, conflicts_with = "names", value_parser = revision)]
    revision: Option<String>,
    /// The namespace; else that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
}

/// A name that a Service can have: a waypoint's Service is called as the waypoint.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name(String);

/// What became of a command: whether all is well.
type Done = Result<bool, Box<dyn Error>>;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum WaypointError {
    #[error(
        "the cluster does not have the Gateway API; install its definitions: kubectl apply --server-side -f \
         https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.0/standard-install.yaml"
    )]
    NoGatewayApi,
    #[error("there is no namespace {0}; kubectl create namespace {0}")]
    NoNamespace(String),
    #[error(
        "namespace {namespace} goes through waypoint {other} already, and nothing was applied; --overwrite changes that"
    )]
    Enrolled { namespace: String, other: String },
    #[error(
        "somebody else wrote of waypoint {0} what this would change; --overwrite takes it over, and `kubectl get gateway \
         --show-managed-fields -o yaml` says who"
    )]
    Others(String),
    #[error("waypoint {name} is not ready after {limit:?}: {why}")]
    NotReady { name: String, limit: Duration, why: String },
}

/// Does what was asked of waypoints.
pub(crate) fn run(args: &WaypointArgs) -> ExitCode {
    let which = &args.which;
    let done = match &args.what {
        What::Generate(args) => generate(args),
        What::Apply(args) => block_on(Box::pin(async { apply::run(&which.client().await?, args).await })),
        What::List(args) => {
            block_on(Box::pin(async { show::list(&which.client().await?, &args.scope).await }))
        }
        What::Status(args) => block_on(Box::pin(async { show::status(&which.client().await?, args).await })),
        What::Delete(args) => block_on(Box::pin(async { delete::run(&which.client().await?, args).await })),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error.as_ref()),
    }
}

fn generate(args: &GenerateArgs) -> Done {
    let object = args.wanted.design(args.namespace.clone()).object();
    print!("{}", render(&object, args.output, |object| yaml_serde::to_string(object).unwrap_or_default())?);
    Ok(true)
}

impl Wanted {
    fn design(&self, namespace: Option<String>) -> Design {
        let account = self.service_account.as_ref().map(|it| it.0.clone());
        // A waypoint runs as the account of its own name: it must not be the one that it is for.
        let usual = || account.as_ref().map_or_else(|| "waypoint".to_owned(), |it| format!("{it}-waypoint"));
        Design {
            name: self.name.as_ref().map_or_else(usual, |it| it.0.clone()),
            namespace,
            traffic: self.traffic,
            account,
            revision: self.revision.clone(),
        }
    }
}

/// The namespace that is meant.
fn namespace(client: &Client, said: Option<&String>) -> String {
    said.map_or_else(|| client.namespace().to_owned(), Clone::clone)
}

/// Waypoints of a namespace, or of all.
async fn waypoints(client: &Client, namespace: Option<&str>) -> Result<Vec<Waypoint>, Box<dyn Error>> {
    let classes = client.list(CLASSES, &[]).await.map_err(no_gateway_api)?;
    let classes: Vec<Class> = classes.iter().map(Class::of).collect();
    let collection = match namespace {
        Some(namespace) => gateway::collection(namespace),
        None => GATEWAYS.to_owned(),
    };
    let objects = client.list(&collection, &[]).await.map_err(no_gateway_api)?;
    let mut found: Vec<Waypoint> = objects.iter().filter_map(|it| Waypoint::of(it, &classes)).collect();
    found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(found)
}

/// A path that the API server does not know is that of a kind that is not installed.
fn no_gateway_api(error: ApiError) -> Box<dyn Error> {
    match error {
        ApiError::NotFound { name: None } => WaypointError::NoGatewayApi.into(),
        error => error.into(),
    }
}

/// A label of an object.
fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/labels")?.get(key)?.as_str()
}

fn name(said: &str) -> Result<Name, String> {
    let is_inner = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    let is_name = said.len() <= 63
        && said.bytes().all(is_inner)
        && said.starts_with(|it: char| it.is_ascii_lowercase())
        && !said.ends_with('-');
    match said {
        // As if nothing was said.
        "" => Ok(Name("waypoint".into())),
        "none" => Err("`none` is how labels say that there is no waypoint; choose another name".into()),
        _ if is_name => Ok(Name(said.into())),
        _ => Err("a name is lower-case letters, digits and dashes, begins with a letter, ends with no dash, and has \
                  at most 63 of them"
            .into()),
    }
}

/// Of a namespaced object, for people.
fn full_name(object: &Value) -> String {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    format!("{}/{}", text(metadata, "namespace"), text(metadata, "name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_services_can_have_and_none_is_none() {
        for good in ["waypoint", "a", "w-2"] {
            assert_eq!(name(good).unwrap().0, good);
        }
        assert_eq!(name("").unwrap().0, "waypoint");
        for bad in ["none", "2w", "w-", "W", "a.b", &"w".repeat(64)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_waypoint_for_an_account_is_not_called_as_the_account() {
        let wanted = |account: Option<&str>, said: Option<&str>| {
            let name = |it: &str| Name(it.into());
            let (name, service_account) = (said.map(name), account.map(name));
            Wanted { name, service_account, traffic: None, revision: None }.design(None).name
        };
        assert_eq!(wanted(None, None), "waypoint");
        assert_eq!(wanted(Some("cart"), None), "cart-waypoint");
        assert_eq!(wanted(Some("cart"), Some("w")), "w");
    }

    #[test]
    fn a_kind_that_is_not_installed_is_told_with_what_to_install() {
        let missing = no_gateway_api(ApiError::NotFound { name: None }).to_string();
        assert!(missing.contains("standard-install.yaml"), "{missing}");
        let other = no_gateway_api(ApiError::NotFound { name: Some("x".into()) }).to_string();
        assert!(!other.contains("standard-install.yaml"), "{other}");
    }
}
