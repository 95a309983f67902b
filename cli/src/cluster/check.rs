//! `ambit check`: whether a cluster is fit for the mesh, and whether the mesh in it is well.
//! Owns how findings are shown, and what they make of the exit code. `facts` asks the cluster; the rooms judge, purely.

pub(crate) mod facts;
mod health;
mod network;
mod nodes;
mod others;
mod policies;
mod server;

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use self::facts::Facts;
pub(crate) use self::health::readiness;
pub(crate) use self::nodes::platform;
pub(crate) use self::server::numbers;
use crate::args::fail;
use crate::cluster::{Which, block_on};
use crate::output::{Output, render};

/// What `ambit check` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    which: Which,
    /// The revision that is to be installed, or is.
    #[arg(short = 'r', long, default_value = "", hide_default_value = true, value_parser = crate::cluster::revision)]
    revision: String,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    /// It works, but perhaps not as meant.
    Warning,
    /// It does not work.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) state: State,
    pub(crate) found: String,
    /// What to do about it; empty where nothing has to be done.
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), remedy: String::new() }
    }

    pub(crate) fn warning(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Warning, found: found.into(), remedy: remedy.into() }
    }

    pub(crate) fn failed(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, state: State::Failed, found: found.into(), remedy: remedy.into() }
    }
}

/// All that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// Before an installation: what it would stumble over.
    pub(crate) fn before(facts: &Facts) -> Self {
        let mut findings = server::judge(facts);
        findings.extend(nodes::judge(facts));
        findings.extend(network::judge(facts));
        findings.extend(policies::judge(facts));
        findings.extend(others::judge(facts));
        findings.extend(facts.unread.iter().map(|(what, why)| {
            let remedy = format!("let this account list {what}, or have somebody check who may");
            Finding::warning("what may be read", format!("{what}: {why}"), remedy)
        }));
        Self { findings }
    }

    /// With what became of one.
    fn all(facts: &Facts) -> Self {
        let mut report = Self::before(facts);
        report.findings.extend(health::judge(facts));
        report
    }

    pub(crate) fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }

    /// For people; with what is well only where `whole`.
    pub(crate) fn text(&self, whole: bool) -> String {
        let shown = self.findings.iter().filter(|it| whole || it.state != State::Ok);
        let width = self.findings.iter().map(|it| it.check.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for Finding { check, state, found, remedy } in shown {
            let sign = match state {
                State::Ok => '✓',
                State::Warning => '!',
                State::Failed => '✗',
            };
            text.push_str(&format!("{sign} {check:<width$}  {found}\n"));
            if !remedy.is_empty() {
                text.push_str(&format!("  {:<width$}  → {remedy}\n", ""));
            }
        }
        text
    }
}

/// Looks at a cluster. Fails if anything in it would keep the mesh from working.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    match look(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error.as_ref()),
    }
}

fn look(args: &CheckArgs) -> Result<bool, Box<dyn Error>> {
    let facts = block_on(async {
        let client = args.which.client().await?;
        Ok(Facts::gather(&client, &args.which.istio_namespace, &args.revision).await?)
    })?;
    let report = Report::all(&facts);
    print!("{}", render(&report, args.output, summary)?);
    Ok(report.count(State::Failed) == 0)
}

fn summary(report: &Report) -> String {
    let [ok, warnings, failed] = [State::Ok, State::Warning, State::Failed].map(|state| report.count(state));
    report.text(true) + &format!("{ok} fine, {warnings} to know of, {failed} wrong")
}

/// The text at a place in an object; empty where there is none.
pub(crate) fn text_at<'a>(object: &'a Value, place: &str) -> &'a str {
    object.pointer(place).and_then(Value::as_str).unwrap_or_default()
}

/// The list at a place in an object; empty where there is none.
pub(crate) fn list_at<'a>(object: &'a Value, place: &str) -> &'a [Value] {
    object.pointer(place).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// An object's label; empty where it has none of the name.
pub(crate) fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    object.pointer("/metadata/labels").and_then(|it| it.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// Namespace and name, as people write them.
pub(crate) fn named(object: &Value) -> String {
    let (namespace, name) = (text_at(object, "/metadata/namespace"), text_at(object, "/metadata/name"));
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// The first few of many, for people.
pub(crate) fn few<T: AsRef<str>>(all: &[T]) -> String {
    let mut text: Vec<&str> = all.iter().take(3).map(AsRef::as_ref).collect();
    let more = format!("and {} more", all.len().saturating_sub(3));
    if all.len() > 3 {
        text.push(&more);
    }
    text.join(", ")
}

/// Made by our charts.
pub(crate) fn is_ours(object: &Value) -> bool {
    label(object, "app.kubernetes.io/part-of") == "ambit"
}

#[cfg(test)]
mod tests;
