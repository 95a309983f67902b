//! Probes over time, with answers made up.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn probe() -> Probe {
    let ask = Ask::Tcp { port: 80 };
    Probe { ask, delay: Duration::ZERO, period: SECOND, limit: SECOND, successes: 1, failures: 3 }
}

fn no() -> Result<(), String> {
    Err("refused".to_owned())
}

fn kinds(due: &[(ProbeKind, Probe)]) -> Vec<ProbeKind> {
    due.iter().map(|(kind, _)| *kind).collect()
}

#[test]
fn a_container_without_probes_is_ready_at_once() {
    assert!(Health::new(&Probes::default(), Instant::now()).is_ready());
}

#[test]
fn readiness_comes_with_successes_in_a_row_and_goes_with_failures_in_a_row() {
    let now = Instant::now();
    let probes = Probes { readiness: Some(Probe { successes: 2, ..probe() }), ..Probes::default() };
    let mut health = Health::new(&probes, now);
    let mut seen = Vec::new();
    for answer in [Ok(()), no(), Ok(()), Ok(()), no(), no(), Ok(()), no(), no(), no(), Ok(()), Ok(())] {
        assert_eq!(health.take(ProbeKind::Readiness, answer), Verdict::Live, "unready is no reason to kill");
        seen.push(u8::from(health.is_ready()));
    }
    assert_eq!(seen, [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1]);
}

#[test]
fn a_probe_is_asked_once_a_period_and_never_twice_at_a_time() {
    let now = Instant::now();
    let probes = Probes { readiness: Some(Probe { delay: 2 * SECOND, ..probe() }), ..Probes::default() };
    let mut health = Health::new(&probes, now);
    assert_eq!(kinds(&health.due(now + SECOND)), []);
    assert_eq!(kinds(&health.due(now + 2 * SECOND)), [ProbeKind::Readiness]);
    assert_eq!(kinds(&health.due(now + 9 * SECOND)), [], "no answer yet");
    health.take(ProbeKind::Readiness, no());
    assert_eq!(health.why().unwrap(), "readinessProbe: refused");
    assert_eq!(kinds(&health.due(now + 9 * SECOND)), [ProbeKind::Readiness]);
    health.take(ProbeKind::Readiness, Ok(()));
    assert_eq!(health.why(), None);
    assert_eq!(kinds(&health.due(now + 9 * SECOND)), [], "asked a moment ago");
}

#[test]
fn until_it_has_started_a_container_is_neither_ready_nor_judged() {
    let now = Instant::now();
    let probes = Probes { startup: Some(probe()), readiness: Some(probe()), liveness: Some(probe()) };
    let mut health = Health::new(&probes, now);
    assert_eq!(kinds(&health.due(now)), [ProbeKind::Startup]);
    health.take(ProbeKind::Startup, no());
    assert!(!health.is_ready());
    assert_eq!(kinds(&health.due(now + SECOND)), [ProbeKind::Startup]);
    health.take(ProbeKind::Startup, Ok(()));
    assert_eq!(kinds(&health.due(now + 2 * SECOND)), [ProbeKind::Readiness, ProbeKind::Liveness]);
    health.take(ProbeKind::Readiness, Ok(()));
    assert!(health.is_ready());
}

#[test]
fn a_container_is_killed_when_it_never_starts_or_lives_no_more() {
    let now = Instant::now();
    let probes = Probes { startup: Some(probe()), liveness: Some(probe()), ..Probes::default() };
    for kind in [ProbeKind::Startup, ProbeKind::Liveness] {
        let mut health = Health::new(&probes, now);
        let verdicts = [no(), no(), no()].map(|answer| health.take(kind, answer));
        assert_eq!(verdicts, [Verdict::Live, Verdict::Live, Verdict::Kill], "{kind}");
    }
}
