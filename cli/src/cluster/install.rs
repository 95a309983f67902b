//! `ambit install`, `upgrade`, `uninstall`: the charts that this program was built with, installed by Helm as an
//! ordinary release, looked at before, waited for after, and taken back where it fails. Owns that order.

mod charts;
mod helm;
mod progress;
mod removal;
mod trial;
mod values;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use ambit_cluster::api::Client;
use clap::Args;

use self::charts::Charts;
use self::helm::{Helm, HelmArgs, HelmError, Release};
use self::progress::{Steps, WaitError, Watched, is_shared, ready, release};
use self::values::{Known, Values};
use crate::args::fail_as;
use crate::cluster::check::facts::Facts;
use crate::cluster::check::{Report, State, platform};
use crate::cluster::{Which, block_on, revision};

/// What `ambit install` and `ambit upgrade` are told.
#[derive(Debug, Clone, Args)]
pub(crate) struct InstallArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    values: Values,
    #[command(flatten)]
    helm: HelmArgs,
    /// A name for this control plane; beside another one, only the control plane is installed.
    #[arg(short, long, default_value = "", hide_default_value = true, value_parser = revision)]
    revision: String,
    /// Render and have the API server judge it; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Ask nothing.
    #[arg(short, long, alias = "skip-confirmation")]
    yes: bool,
    /// Wait until every part is ready, and take it back where one does not get there.
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", value_name = "BOOL")]
    wait: bool,
    /// How long to wait, for example 90s or 5m.
    #[arg(long, default_value = "5m", value_parser = duration)]
    timeout: Duration,
    /// Leave what failed as it is, to be looked at.
    #[arg(long)]
    no_rollback: bool,
    /// Install whatever `ambit check` finds.
    #[arg(long, alias = "force")]
    skip_check: bool,
    /// Of an upgrade: forget what was set before.
    #[arg(long)]
    reset_values: bool,
}

/// What `ambit uninstall` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    helm: HelmArgs,
    /// The control plane of this name.
    #[arg(short, long, default_value = "", hide_default_value = true, value_parser = revision)]
    revision: String,
    /// Say what would be done; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Ask nothing.
    #[arg(short, long, alias = "skip-confirmation")]
    yes: bool,
    /// How long to wait for pods to leave, for example 90s or 5m.
    #[arg(long, default_value = "5m", value_parser = duration)]
    timeout: Duration,
    /// Take away also what the mesh made for itself: the root's secret, and the roots in each namespace.
    #[arg(long)]
    purge: bool,
    /// Take away also the definitions that came with the mesh, and with them every policy.
    #[arg(long)]
    purge_definitions: bool,
}

impl UninstallArgs {
    fn name(&self) -> String {
        release_name(&self.revision)
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum InstallError {
    #[error(
        "{name} is installed in {namespace} already ({app_version}, {status}); use `ambit upgrade`, or `ambit uninstall` first"
    )]
    There { name: String, namespace: String, app_version: String, status: String },
    #[error("there is no release {name} in {namespace}; `helm list -A` shows what there is")]
    NoRelease { name: String, namespace: String },
    #[error(
        "release {name} is {app_version}, and this program has the charts of {}; use an `ambit` that is as new, or go \
         back with --skip-check", env!("CARGO_PKG_VERSION")
    )]
    Older { name: String, app_version: String },
    #[error("{failed} of what was looked at would not work; mend it, or go on with --skip-check")]
    Unfit { failed: usize },
    #[error("the API server refuses {refused} objects; nothing was changed")]
    Refused { refused: usize },
    #[error("{plan}: not done, for there is nobody to ask; agree with -y")]
    Nobody { plan: String },
    #[error("{others} of the same mesh uses these too; uninstall that first, or say no --purge")]
    Shared { others: String },
    #[error(
        "{nodes} node daemons are still there after {limit:?}; see `kubectl get pods -A -l k8s-app=istio-cni-node`"
    )]
    StillThere { nodes: usize, limit: Duration },
    #[error("{why}\n{undone}")]
    Undone { why: String, undone: String },
}

/// Installs a mesh.
pub(crate) fn install(args: &InstallArgs) -> ExitCode {
    done(block_on(Box::pin(apply(args, Verb::Install))))
}

/// Brings a mesh to this program's version, or to other values.
pub(crate) fn upgrade(args: &InstallArgs) -> ExitCode {
    done(block_on(Box::pin(apply(args, Verb::Upgrade))))
}

/// Takes a mesh away.
pub(crate) fn uninstall(args: &UninstallArgs) -> ExitCode {
    done(block_on(Box::pin(removal::run(args))))
}

fn done(done: Result<bool, Box<dyn Error>>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // A value that a schema refuses is a word that was not understood.
            let misunderstood = matches!(error.downcast_ref(), Some(HelmError::Values { .. }));
            fail_as(if misunderstood { 2 } else { 1 }, error.as_ref())
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Install,
    Upgrade,
}

async fn apply(args: &InstallArgs, verb: Verb) -> Result<bool, Box<dyn Error>> {
    let helm = Helm::find(&args.helm, &args.which)?;
    let client = args.which.client().await?;
    let name = release_name(&args.revision);
    let facts = Facts::gather(&client, &args.which.istio_namespace, &args.revision).await?;
    if !facts.missing_rights.is_empty() {
        // Before Helm stumbles over it, whose words do not say what to do.
        is_fit(args, &facts)?;
    }
    let before = agreed(&helm, &name, args, verb)?;
    let charts = Charts::unpack()?;
    let known = known(args, (&helm, before.as_ref()), &facts, &name)?;
    let mut words: Vec<OsString> = vec![name.clone().into(), charts.all().into()];
    words.extend(args.values.words(&charts, &known)?);
    // Values that are none are refused before anything else is said.
    let rendered = render(&helm, &words, &facts.version)?;
    is_fit(args, &facts)?;
    if args.dry_run {
        return rehearse(&client, &rendered, &args.which.istio_namespace).await;
    }
    let what = if verb == Verb::Install { "installed" } else { "upgraded" };
    let plan = format!("release {name} in {} is {what}", args.which.istio_namespace);
    if !confirmed(&plan, args.yes, false)? {
        return Ok(false);
    }
    let steps = Steps::begin();
    let order = Order { args, client: &client, helm: &helm, name: &name, before: before.as_ref() };
    order.carry_out(words, &steps).await?;
    if verb == Verb::Install {
        println!(
            "installed; put a namespace in: kubectl label namespace NAME istio.io/dataplane-mode=ambient"
        );
    } else {
        println!("upgraded to {}", env!("CARGO_PKG_VERSION"));
    }
    Ok(true)
}

/// The release that is there, if that is what this is about.
fn agreed(
    helm: &Helm,
    name: &str,
    args: &InstallArgs,
    verb: Verb,
) -> Result<Option<Release>, Box<dyn Error>> {
    match (helm.release(name)?, verb) {
        (Some(Release { name, namespace, app_version, status, .. }), Verb::Install) => {
            Err(InstallError::There { name, namespace, app_version, status }.into())
        }
        (None, Verb::Upgrade) => {
            let namespace = args.which.istio_namespace.clone();
            Err(InstallError::NoRelease { name: name.to_owned(), namespace }.into())
        }
        (Some(Release { name, app_version, .. }), Verb::Upgrade)
            if !args.skip_check && is_newer(&app_version, env!("CARGO_PKG_VERSION")) =>
        {
            Err(InstallError::Older { name, app_version }.into())
        }
        (found, _) => Ok(found),
    }
}

/// By their numbers; what is no version is not newer than anything.
fn is_newer(there: &str, here: &str) -> bool {
    let numbers = |version: &str| -> Option<Vec<u64>> {
        let numbers = version.trim_start_matches('v').split(['-', '+']).next()?;
        numbers.split('.').map(|it| it.parse().ok()).collect()
    };
    numbers(there).zip(numbers(here)).is_some_and(|(there, here)| there > here)
}

fn known<'a>(
    args: &'a InstallArgs,
    (helm, before): (&Helm, Option<&Release>),
    facts: &Facts,
    name: &str,
) -> Result<Known<'a>, HelmError> {
    let before = match before {
        Some(before) if !args.reset_values => {
            let values = helm.run(&["get", "values", &before.name, "--output", "yaml"])?;
            // Nothing was set.
            (values.trim() != "null").then_some(values)
        }
        _ => None,
    };
    let platform = platform(facts).filter(|_| args.values.platform().is_none());
    if let Some(found) = platform {
        println!("platform {}: {}", found.name, found.sign);
    }
    let is_further = facts.daemon_sets.iter().any(|it| is_shared(it) && release(it) != name);
    if is_further {
        println!("a control plane beside another one: node daemons and proxies stay with their release");
    }
    Ok(Known { platform: platform.map(|it| it.name), revision: &args.revision, is_further, before })
}

/// As Helm would apply it; also looked up in the cluster where this Helm can.
fn render(helm: &Helm, words: &[OsString], version: &str) -> Result<String, HelmError> {
    let mut all: Vec<OsString> = vec!["template".into()];
    all.extend(words.iter().cloned());
    all.extend(["--kube-version".into(), version.into()]);
    if helm.looks_up() {
        all.push("--dry-run=server".into());
    }
    helm.run(&all)
}

fn is_fit(args: &InstallArgs, facts: &Facts) -> Result<(), InstallError> {
    let report = Report::before(facts);
    print!("{}", report.text(false));
    let failed = report.count(State::Failed);
    if failed > 0 && !args.skip_check {
        return Err(InstallError::Unfit { failed });
    }
    Ok(())
}

async fn rehearse(client: &Client, rendered: &str, namespace: &str) -> Result<bool, Box<dyn Error>> {
    match trial::judge(client, rendered, namespace).await? {
        0 => println!("all of it would be accepted; nothing was changed"),
        refused => return Err(InstallError::Refused { refused }.into()),
    }
    Ok(true)
}

/// A release that is to be made or changed.
struct Order<'a> {
    args: &'a InstallArgs,
    client: &'a Client,
    helm: &'a Helm,
    name: &'a str,
    before: Option<&'a Release>,
}

impl Order<'_> {
    async fn carry_out(&self, words: Vec<OsString>, steps: &Steps) -> Result<(), Box<dyn Error>> {
        let mut all: Vec<OsString> = match self.before {
            None => vec!["install".into(), "--create-namespace".into()],
            Some(_) => vec!["upgrade".into(), "--reset-values".into()],
        };
        all.extend(words);
        if let Err(error) = self.helm.run(&all) {
            return Err(self.undo(error.to_string(), steps).into());
        }
        steps.tell(&format!("charts of {} are applied as release {}", env!("CARGO_PKG_VERSION"), self.name));
        if !self.args.wait {
            return Ok(());
        }
        let (namespace, revision) = (self.args.which.istio_namespace.as_str(), &self.args.revision);
        let suffix = if revision.is_empty() { String::new() } else { format!("-{revision}") };
        let webhook = format!("istio-validator{suffix}-{namespace}");
        let watched = Watched { namespace, release: self.name, webhook: &webhook };
        match ready(self.client, watched, self.args.timeout, steps).await {
            Ok(()) => Ok(()),
            Err(error @ WaitError::Api(_)) => Err(error.into()),
            Err(error) => Err(self.undo(error.to_string(), steps).into()),
        }
    }

    /// Puts back what was there: the release before, or none.
    fn undo(&self, why: String, steps: &Steps) -> InstallError {
        if self.args.no_rollback {
            return InstallError::Undone { why, undone: "left as it is, as told".into() };
        }
        let limit = format!("{}s", self.args.timeout.as_secs());
        let (verb, to) = match self.before {
            None => ("uninstall", None),
            Some(before) => ("rollback", Some(before.revision.as_str())),
        };
        steps.tell(&format!("taking it back: helm {verb} {}", self.name));
        let mut words = vec![verb, self.name];
        words.extend(to);
        words.extend(["--wait", "--timeout", &limit]);
        let undone = match (self.helm.run(&words), self.before) {
            (Ok(_), None) => "taken back: nothing is installed".to_owned(),
            (Ok(_), Some(before)) => {
                format!("taken back: revision {} of the release is in force", before.revision)
            }
            // Helm had not begun.
            (Err(_), None) if matches!(self.helm.release(self.name), Ok(None)) => {
                "nothing was changed".to_owned()
            }
            (Err(error), _) => format!("and could not be taken back: {error}"),
        };
        InstallError::Undone { why, undone }
    }
}

/// The release of a control plane's name.
fn release_name(revision: &str) -> String {
    if revision.is_empty() { "ambit".into() } else { format!("ambit-{revision}") }
}

/// Asks, where there is somebody; where there is nobody, what is `grave` has to be agreed to beforehand.
fn confirmed(plan: &str, yes: bool, grave: bool) -> Result<bool, Box<dyn Error>> {
    if yes {
        println!("{plan}");
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return if grave { Err(InstallError::Nobody { plan: plan.to_owned() }.into()) } else { Ok(true) };
    }
    print!("{plan}; go on? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// `90s`, `5m`, `1h`, or seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = factor.and_then(|factor| number.parse::<u64>().ok()?.checked_mul(factor));
    match seconds {
        Some(seconds) if (1..=86_400).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err("a time is a number with s, m or h, at most a day; for example 90s or 5m".to_owned()),
    }
}

#[cfg(test)]
mod tests;
