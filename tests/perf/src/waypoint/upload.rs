//! What a large body costs a waypoint: it is passed on as it comes, so its length makes no difference to memory.
//! Owns the measurement; the body is sent by a program of its own.

use std::process::Stdio;

use anyhow::{Result, ensure};

use super::number;
use super::stage::Stage;
use super::world::{OURS, SERVICE};
use crate::meter::{self, Machine};
use crate::report::{Mark, TAKEN};

const EXTRA: Mark = Mark { name: "extra memory of an upload, MB", most: 10.0, tolerance: 0.0 };

/// Sends so much through our waypoint, and says what misses its mark.
pub(super) fn measure(stage: &Stage, megabytes: u64) -> Result<Option<String>> {
    stage.lead_through(Some(OURS))?;
    super::load(stage, &["--seconds", "0.2"])?;
    let pid = stage.process(OURS)?;
    meter::forget_peak(pid)?;
    let (before, machine, spent) = (meter::memory(pid)?.0, Machine::now()?, meter::cpu(pid)?);
    let mut command = stage.client.inside(&std::env::current_exe()?);
    command.args(["upload", "--to", &format!("{SERVICE}:80"), "--megabytes", &megabytes.to_string()]);
    let output = command.stderr(Stdio::piped()).output()?;
    ensure!(output.status.success(), "upload: {}", String::from_utf8_lossy(&output.stderr).trim());
    let (after, spent) = (meter::memory(pid)?.1, meter::cpu(pid)?.saturating_sub(spent));
    // What came past it would have cost it nothing.
    let least = megabytes as f64 * 1e-5;
    ensure!(spent.as_secs_f64() > least, "the waypoint used {spent:?}: the body went past it");
    let seconds = number(&serde_json::from_slice(&output.stdout)?, "seconds")?;
    println!(
        "an upload of {megabytes} MB: {:.0} MB/s, {:.0} ms of processor per 100 MB; {TAKEN}: {:.1}",
        megabytes as f64 / seconds,
        spent.as_secs_f64() * 1e5 / megabytes.max(1) as f64,
        machine.taken_since()?
    );
    let extra = after.saturating_sub(before) as f64 / 1024.0;
    println!("{}", EXTRA.shown(extra));
    Ok(EXTRA.failure(extra))
}
