//! Routes that change while they are used: how soon a change is in force, whether a request is lost over it, and what
//! very many of them cost. Owns these measurements; who publishes is the tests' control plane, through the real publisher.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use ambit_model::delta::{Change, Delta};
use anyhow::{Context as _, Result, bail, ensure};

use super::stage::Stage;
use super::world::{OURS, SERVICE, route};
use super::{load, megabytes, number};
use crate::meter::Machine;
use crate::pods::Pod;
use crate::report::{Mark, TAKEN};

const EFFECT: Mark =
    Mark { name: "from a route's change to its effect, p99, ms", most: 50.0, tolerance: 0.0 };
const LOST: Mark = Mark { name: "requests lost while routes are added", most: 0.0, tolerance: 0.0 };
const ROUTES: Mark = Mark { name: "memory with 5,000 routes, MB", most: 60.0, tolerance: 0.0 };
const LOADED: Mark = Mark { name: "40,000 routes in force after, s", most: 2.0, tolerance: 0.5 };
/// A change that has not come by then never does.
const PATIENCE: Duration = Duration::from_secs(30);
/// The field by which an answer tells which generation of the route it went by.
const FIELD: &str = "x-generation: ";

/// The route is changed so often; each time, how long until an answer went by it.
pub(super) fn effect(stage: &Stage, changes: usize) -> Result<Option<String>> {
    stage.lead_through(Some(OURS))?;
    let machine = Machine::now()?;
    let (tell, told) = sync_channel(1);
    let over = AtomicBool::new(false);
    let mut took = std::thread::scope(|scope| {
        let asker = scope.spawn(|| watch(&stage.client, &tell, &over));
        let took = change(stage, (changes, &told));
        over.store(true, Ordering::Relaxed);
        // It may have a last one to tell.
        let _last = told.try_recv();
        let asked = asker.join().map_err(|_| anyhow::anyhow!("whoever asks panicked"))?;
        // Why nobody asked is the better reason.
        asked.and(took)
    })?;
    took.sort_unstable();
    let at = |part: usize| took.get((took.len() * part / 100).min(took.len().saturating_sub(1)));
    let at = |part: usize| at(part).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3);
    println!(
        "{changes} changes of a route: in force after {:.1} ms (p50), {:.1} ms (p99), {:.1} ms at most; {TAKEN}: {:.1}",
        at(50),
        at(99),
        at(100),
        machine.taken_since()?
    );
    println!("{}", EFFECT.shown(at(99)));
    Ok(EFFECT.failure(at(99)))
}

/// Changes it again and again, each time when the former change has been seen.
fn change(stage: &Stage, (changes, seen): (usize, &Receiver<(u64, Instant)>)) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    for generation in 1..=u64::try_from(changes)? {
        let change = [route("all", "/", Some(generation))?].into_iter().collect();
        let begun = Instant::now();
        // Returns when it is acknowledged, which is when it is in force, or a little later.
        stage.tell_ours(&change)?;
        let at = loop {
            match seen.recv_timeout(PATIENCE).context("a changed route is not in force")? {
                (it, at) if it == generation => break at,
                _ => {}
            }
        };
        took.push(at.saturating_duration_since(begun));
    }
    Ok(took)
}

/// Asks over one connection all the while, and tells each generation that it sees for the first time.
fn watch(client: &Pod, tell: &SyncSender<(u64, Instant)>, over: &AtomicBool) -> Result<()> {
    let mut stream = client.namespace().within(|| TcpStream::connect((SERVICE, 80)))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {SERVICE}\r\n\r\n");
    let mut last = None;
    while !over.load(Ordering::Relaxed) {
        stream.write_all(request.as_bytes())?;
        let generation = answered(&mut stream)?;
        if let Some(now) = generation.filter(|it| Some(*it) != last) {
            last = Some(now);
            if tell.send((now, Instant::now())).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Reads an answer, the whole of it; which generation of the route it went by.
fn answered(stream: &mut TcpStream) -> Result<Option<u64>> {
    let mut held = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the connection ended");
        held.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(held.get(..end).unwrap_or_default())?;
        ensure!(head.starts_with("HTTP/1.1 200"), "answered {}", head.lines().next().unwrap_or_default());
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let length = field("content-length: ").context("an answer without a length")?;
        if held.len() as u64 >= end as u64 + 4 + length {
            return Ok(field(FIELD));
        }
    }
}

/// Routes are added one by one while so many requests a second are sent; none of those may be lost.
pub(super) fn added(stage: &Stage, (routes, rate): (usize, u32)) -> Result<Option<String>> {
    stage.lead_through(Some(OURS))?;
    let machine = Machine::now()?;
    let over = AtomicBool::new(false);
    let (took, asked) = std::thread::scope(|scope| {
        let asker = scope.spawn(|| ask(stage, (rate, &over)));
        let took = add(stage, routes);
        over.store(true, Ordering::Relaxed);
        let asked = asker.join().map_err(|_| anyhow::anyhow!("whoever asks panicked"))?;
        anyhow::Ok((took?, asked))
    })?;
    let (requests, p99) = match asked {
        Ok(told) => told,
        // The first that is lost ends the load.
        Err(why) => {
            let line = format!("{}: one at least, {why:#}", LOST.name);
            println!("{line}");
            return Ok(Some(line));
        }
    };
    println!(
        "{routes} routes added one by one within {:.1} s, meanwhile {requests} requests, p99 {p99:.0} µs at worst; \
         {TAKEN}: {:.1}",
        took.as_secs_f64(),
        machine.taken_since()?
    );
    println!("{}", LOST.shown(0.0));
    // What is measured after it is measured without them.
    let gone = (0..routes).map(|number| {
        let name = format!("HTTPRoute/perf/{}", added_name(number));
        Ok(Change::RouteGone(name.parse()?))
    });
    stage.tell_ours(&gone.collect::<Result<Vec<Change>>>()?.into_iter().collect())?;
    Ok(None)
}

fn added_name(number: usize) -> String {
    format!("added-{number}")
}

fn add(stage: &Stage, routes: usize) -> Result<Duration> {
    let begun = Instant::now();
    for number in 0..routes {
        let one = [route(&added_name(number), &format!("/added/{number}"), None)?];
        stage.tell_ours(&one.into_iter().collect())?;
    }
    Ok(begun.elapsed())
}

/// Sends requests until told; how many they were, and the worst p99 of a second, in µs.
fn ask(stage: &Stage, (rate, over): (u32, &AtomicBool)) -> Result<(u64, f64)> {
    let (mut requests, mut worst) = (0.0, 0.0_f64);
    while !over.load(Ordering::Relaxed) {
        let told = load(stage, &["--seconds", "1", "--rate", &rate.to_string()])?;
        requests += number(&told, "requests")?;
        worst = worst.max(number(&told, "p99_us")?);
    }
    if requests < 1.0 {
        bail!("nobody asked");
    }
    Ok((requests as u64, worst))
}

/// Many routes: memory, time until they are in force, and nothing lost meanwhile.
pub(super) fn many(stage: &Stage) -> Result<Vec<String>> {
    stage.lead_through(Some(OURS))?;
    let some = |numbers: std::ops::Range<usize>| -> Result<Delta> {
        numbers
            .map(|n| route(&format!("r{n}"), &format!("/r{n}"), None))
            .collect::<Result<Vec<Change>>>()
            .map(|all| all.into_iter().collect())
    };
    stage.tell_ours(&some(0..5_000)?)?;
    let held = megabytes(stage, OURS)?;
    println!("{}", ROUTES.shown(held));
    let rest = some(5_000..40_000)?;
    let begin = Instant::now();
    stage.tell_ours(&rest)?;
    let took = begin.elapsed().as_secs_f64();
    println!("{}", LOADED.shown(took));
    println!("memory with 40,000 routes: {:.1} MB", megabytes(stage, OURS)?);
    load(stage, &["--seconds", "0.5"])?;
    Ok([ROUTES.failure(held), LOADED.failure(took)].into_iter().flatten().collect())
}
