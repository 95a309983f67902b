//! `ambit bug-report`: what somebody needs who was not there, in one archive, without secrets, bounded in size and time.
//! Owns what the file is and how long it may take. `collect` says what goes in, `archive` is the door, `redact` the guard.

mod archive;
mod collect;
mod redact;

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ambit_cluster::api::Limits;
use ambit_process::clock;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use self::archive::{Archive, BOUNDS};
use self::collect::Collector;
use super::{LISTED, Which, block_on};
use crate::analyze;
use crate::args::{chain, fail};
use crate::output::{Output, render};

/// One answer is not waited for longer: others are to come.
const ANSWER: Duration = Duration::from_secs(10);

/// What `ambit bug-report` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    which: Which,
    /// The archive to write; it must not be there yet.
    #[arg(long, value_name = "FILE.tar.gz")]
    out: Option<PathBuf>,
    /// Seconds after which it is ended with what there is.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Lines of each log, from its end.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tail: u32,
    /// How to print what was written.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    output: Output,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    file: PathBuf,
    bytes: u64,
    /// What is not in it, and why.
    missing: Vec<String>,
}

/// Writes a report. Fails when nothing could be written; that something could not be asked is part of the report.
pub(crate) fn run(args: &ReportArgs) -> ExitCode {
    match write(args).and_then(|written| render(&written, args.output, text)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(error.as_ref()),
    }
}

fn write(args: &ReportArgs) -> Result<Written, Box<dyn Error>> {
    let now = Timestamp::try_from(clock::now_system())?;
    let root = format!("ambit-bug-report-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let path = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{root}.tar.gz")));
    let file = create(&path)?;
    let mut archive = Archive::new(file, root, u64::try_from(now.as_second())?, BOUNDS);
    let timeout = Duration::from_secs(args.timeout);
    let until = clock::now() + timeout;
    match analyze::told(&args.which, timeout.min(LISTED)) {
        Ok(said) => archive.text("analysis.txt", &said)?,
        Err(error) => archive.miss("analysis.txt", &chain(error.as_ref())),
    }
    let collected = block_on(async {
        let limits = Limits { answer: ANSWER, ..Limits::default() };
        let client = args.which.client().await?.limited(limits);
        let mut collector = Collector::new(client, args.which.clone(), archive, until);
        Box::pin(collector.collect(args.tail)).await?;
        Ok(collector.into_archive())
    });
    match collected {
        Ok(archive) => {
            let missing = archive.missing().to_vec();
            let file = archive.finish()?;
            file.sync_all()?;
            Ok(Written { bytes: file.metadata()?.len(), file: path, missing })
        }
        Err(error) => {
            // What is no archive is not left behind; it was made by us a moment ago.
            std::fs::remove_file(&path)?;
            Err(error)
        }
    }
}

/// A new file that only its owner reads.
fn create(path: &Path) -> Result<File, String> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| format!("cannot write {}: {error}; name another file with --out", path.display()))
}

fn text(written: &Written) -> String {
    let mut text = format!("{} is written ({} kB).\n", written.file.display(), written.bytes.div_ceil(1024));
    if !written.missing.is_empty() {
        text.push_str("Not in it:\n");
        text.extend(written.missing.iter().map(|it| format!("  {it}\n")));
    }
    text + "Keys, tokens and passwords were taken out; look it through before you hand it on."
}
