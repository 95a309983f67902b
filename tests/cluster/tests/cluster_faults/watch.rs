//! What must hold whatever breaks: nothing readable between hosts, nobody from outside let in. Owns looking for it
//! from before a fault until after it.

use std::time::Duration;

use ambit_cluster_lab::{Lab, Load, Running};
use anyhow::{Context as _, Result, ensure};

use crate::cast::PRIVATE;

/// Watches over a fault, and says how long it took.
pub(crate) fn over<T>(lab: &Lab, what: &str, fault: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = std::time::Instant::now();
    let wire = lab.capture()?;
    let outsider = lab.load("outside/outsider", "http://far.shop/uninvited", 10)?;
    let done = fault().with_context(|| what.to_owned())?;
    let outsider = outsider.finish()?;
    let frames = wire.finish();
    ensure!(outsider.sent > 0 && outsider.failed == outsider.sent, "{what}: let in: {outsider:?}");
    ensure!(frames.missed() == 0, "{what}: {} frames were not looked at", frames.missed());
    ensure!(frames.with_port(15008) > 0, "{what}: nothing was carried");
    let readable = format!("GET {PRIVATE}");
    ensure!(!frames.contain(readable.as_bytes()), "{what}: readable on the wire");
    let (seconds, count) = (begun.elapsed().as_secs_f32(), frames.count());
    eprintln!("{what}: {seconds:.1} s, {count} frames, the outsider was refused {} times", outsider.sent);
    Ok(done)
}

/// Fifty requests a second from the client to a service.
pub(crate) fn fifty(lab: &Lab, service: &str) -> Result<Running> {
    lab.load("shop/client", &format!("http://{service}.shop{PRIVATE}{service}"), 50)
}

/// Ends a load of which nothing may have failed.
pub(crate) fn unharmed(what: &str, load: Running) -> Result<Load> {
    let changes = load.lines();
    let load = load.finish()?;
    let Load { sent, failed, longest_ms, longest_naming_ms: naming, .. } = load;
    eprintln!(
        "{what}: {sent} requests, {failed} failed, the longest took {longest_ms} ms, a name at most {naming} ms"
    );
    for (_, slow) in changes.iter().filter(|(_, line)| line.contains("slow_ms")) {
        eprintln!("{what}: {slow}");
    }
    let changes: Vec<&str> = changes.iter().map(|(_, line)| line.as_str()).collect();
    ensure!(sent > 0 && failed == 0, "{what}: {load:?}\n{}", changes.join("\n"));
    Ok(load)
}

/// A held connection goes on.
pub(crate) fn goes_on(what: &str, held: &Running) -> Result<()> {
    ensure!(held.ended().is_none(), "{what}: the open connection has ended: {:?}", held.ended());
    Ok(())
}

/// Answers over a held connection come again: it did not merely stay open.
pub(crate) fn answers(lab: &Lab, what: &str, held: &Running) -> Result<()> {
    let before = held.lines().len();
    lab.wait("an answer over the open connection", Duration::from_secs(60), || {
        goes_on(what, held)?;
        ensure!(held.lines().len() > before, "none yet");
        Ok(())
    })
}
