//! `ambit analyze`: reads manifests as the mesh would, or the objects of a cluster, and says what is wrong with them.
//! Owns what is read and how findings are shown. What is a fault of one object is decided where objects are read;
//! what is wrong between objects in the rooms below, each a pure look at a `View`.

mod finding;
mod hosts;
mod members;
mod policies;
mod view;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ambit_cluster::files::{Keep, Remark, load_once, load_text, review, review_text};
use ambit_cluster::{Object, ObjectRef};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::finding::{CODES, Finding, Severity};
pub(crate) use self::view::Surroundings;
use self::view::View;
use crate::args::fail;
use crate::cluster::{self, Survey};
use crate::output::{Output, render};
use crate::table::Table;

/// What `ambit analyze` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct AnalyzeArgs {
    /// Files and directories of manifests; `-` is standard input. With --cluster: as if they were applied to it.
    #[arg(required_unless_present_any = ["cluster", "list_codes"])]
    paths: Vec<PathBuf>,
    /// Analyze the objects of a cluster.
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    of: cluster::Which,
    /// Only what is wrong in this namespace; of a cluster else that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// What is wrong in all namespaces of a cluster.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Fail at findings as grave as this.
    #[arg(long, value_enum, default_value_t = Threshold::Error)]
    failure_threshold: Threshold,
    /// Print all codes and what they are about, and do nothing else.
    #[arg(short = 'L', long)]
    list_codes: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// From when on it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Threshold {
    Warning,
    Error,
}

/// What was read, and what is wrong with it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Analysis {
    /// Objects that the mesh could read.
    objects: usize,
    findings: Vec<Finding>,
}

/// A text may be as long as this.
const INPUT_LIMIT: u64 = 64 << 20;

/// Checks what it is given. Fails if anything in it is as grave as the threshold.
pub(crate) fn run(args: &AnalyzeArgs) -> ExitCode {
    if args.list_codes {
        print!("{}", codes());
        return ExitCode::SUCCESS;
    }
    let done = analysis(args).and_then(|analysis| {
        print!("{}", render(&analysis, args.output, text)?);
        let fatal = match args.failure_threshold {
            Threshold::Warning => analysis.findings.len(),
            Threshold::Error => analysis.count(Severity::Error),
        };
        Ok(fatal == 0)
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error.as_ref()),
    }
}

fn codes() -> String {
    let mut table = Table::new(&["CODE", "SEVERITY", "ABOUT"]);
    for code in CODES {
        table.row([code.id.into(), code.severity.label().into(), code.about.into()]);
    }
    table.text()
}

fn analysis(args: &AnalyzeArgs) -> Result<Analysis, Box<dyn Error>> {
    if args.cluster {
        let survey = cluster::survey(&args.of, cluster::LISTED)?;
        let all = args.all_namespaces;
        let namespace = args.namespace.clone().or_else(|| (!all).then(|| survey.namespace.clone()));
        return in_cluster(survey, &args.paths, namespace.as_deref());
    }
    let (mut analysis, objects) = read(&args.paths)?;
    let around = Surroundings { system: args.of.istio_namespace.clone(), ..Surroundings::default() };
    analysis.compare(&objects, &around);
    analysis.only(args.namespace.as_deref());
    Ok(analysis)
}

/// What is wrong with the objects of a whole cluster, as a text.
pub(crate) fn told(which: &cluster::Which, limit: Duration) -> Result<String, Box<dyn Error>> {
    Ok(text(&in_cluster(cluster::survey(which, limit)?, &[], None)?) + "\n")
}

/// The objects of a cluster as they were with those of the files.
fn in_cluster(survey: Survey, paths: &[PathBuf], only: Option<&str>) -> Result<Analysis, Box<dyn Error>> {
    let (mut analysis, given) = read(paths)?;
    analysis.findings.extend(survey.faults.into_iter().map(Finding::from));
    let mut objects: BTreeMap<ObjectRef, Object> =
        survey.objects.into_iter().map(|object| (object.reference.clone(), object)).collect();
    objects.extend(given.into_iter().map(|object| (object.reference.clone(), object)));
    let objects: Vec<Object> = objects.into_values().collect();
    analysis.objects = objects.len();
    analysis.compare(&objects, &survey.around);
    analysis.only(only);
    Ok(analysis)
}

/// What a review of manifests says, a finding a line; with the remedies.
pub(crate) fn reviewed(remarks: Vec<Remark>) -> String {
    let findings = remarks.into_iter().map(Finding::from).collect();
    listed(&Analysis { objects: 0, findings })
}

fn read(paths: &[PathBuf]) -> Result<(Analysis, Vec<Object>), Box<dyn Error>> {
    let (mut analysis, mut objects) = (Analysis::default(), Vec::new());
    for path in paths {
        let (review, loaded) = if path == Path::new("-") {
            let name = Path::new("standard input");
            let text = whole(name, io::stdin().lock())?;
            (review_text(name, &text), load_text(name, &text))
        } else if path.is_file() {
            // Whoever names a file means it, whatever it is called: folders leave some out.
            let wrong = |error: io::Error| format!("cannot read {}: {error}", path.display());
            let text = whole(path, std::fs::File::open(path).map_err(wrong)?)?;
            (review_text(path, &text), load_text(path, &text))
        } else {
            (review(path)?, load_once(path, None, Keep::Slim)?)
        };
        analysis.objects += review.objects;
        analysis.findings.extend(review.remarks.into_iter().map(Finding::from));
        objects.extend(loaded.objects);
    }
    Ok((analysis, objects))
}

/// A text that is not longer than any that is meant to be read.
fn whole(name: &Path, from: impl Read) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    let read = from.take(INPUT_LIMIT + 1).read_to_string(&mut text);
    read.map_err(|error| format!("cannot read {}: {error}", name.display()))?;
    if u64::try_from(text.len())? > INPUT_LIMIT {
        return Err(format!("{} is longer than {INPUT_LIMIT} bytes; give its parts", name.display()).into());
    }
    Ok(text)
}

impl Analysis {
    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Looks at the objects together.
    fn compare(&mut self, objects: &[Object], around: &Surroundings) {
        let view = View::of(objects, around);
        let mut found = [policies::check(&view), members::check(&view), hosts::check(&view)].concat();
        found.sort_by(|a, b| (&a.namespace, &a.object, a.code).cmp(&(&b.namespace, &b.object, b.code)));
        self.findings.extend(found);
    }

    /// Drops what is about other namespaces.
    fn only(&mut self, namespace: Option<&str>) {
        let Some(namespace) = namespace else { return };
        self.findings.retain(|it| it.namespace.is_empty() || it.namespace == namespace);
    }
}

fn listed(analysis: &Analysis) -> String {
    let mut text = String::new();
    for finding in &analysis.findings {
        // Writing to a String cannot fail.
        let _written = line(&mut text, finding);
    }
    text
}

fn text(analysis: &Analysis) -> String {
    let text = listed(analysis);
    let [errors, warnings] = [Severity::Error, Severity::Warning].map(|severity| analysis.count(severity));
    text + &format!("objects read: {}, errors: {errors}, warnings: {warnings}", analysis.objects)
}

/// The place first, as compilers say it; then what is wrong, and the remedy on a line of its own.
fn line(text: &mut String, finding: &Finding) -> std::fmt::Result {
    match (&finding.file, &finding.object) {
        (None, object) => text.push_str(object.as_deref().unwrap_or("cluster")),
        (Some(file), object) => {
            write!(text, "{}", file.display())?;
            if let Some(document) = finding.document {
                write!(text, ", document {document}")?;
            }
            if let Some(object) = object {
                write!(text, " ({object})")?;
            }
        }
    }
    write!(text, ": {} {}: ", finding.severity.label(), finding.code)?;
    if !finding.field.is_empty() {
        write!(text, "{}: ", finding.field)?;
    }
    if !finding.value.is_empty() {
        write!(text, "{}: ", finding.value)?;
    }
    writeln!(text, "{}", finding.problem)?;
    if finding.remedy.is_empty() { Ok(()) } else { writeln!(text, "    {}", finding.remedy) }
}

#[cfg(test)]
mod tests;
