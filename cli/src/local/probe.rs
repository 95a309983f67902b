//! A container's probes and what their answers mean: started, ready, to be killed. Pure: time and answers are
//! given; asking is `ask`'s, obeying is `pods`'.

mod ask;

use std::fmt;
use std::time::{Duration, Instant};

pub(crate) use self::ask::{Place, ask};

/// The probes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Probes {
    pub(crate) startup: Option<Probe>,
    pub(crate) readiness: Option<Probe>,
    pub(crate) liveness: Option<Probe>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) ask: Ask,
    /// From the container's start to the first question.
    pub(crate) delay: Duration,
    pub(crate) period: Duration,
    /// An answer that takes longer is none.
    pub(crate) limit: Duration,
    /// Answers in a row that change the verdict.
    pub(crate) successes: u32,
    pub(crate) failures: u32,
}

/// How to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Http { port: u16, path: String, headers: Vec<(String, String)> },
    Tcp { port: u16 },
    Exec { command: Vec<String> },
}

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "startupProbe",
            Self::Readiness => "readinessProbe",
            Self::Liveness => "livenessProbe",
        })
    }
}

/// What an answer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Live,
    /// The container has failed its probe as often as it may.
    Kill,
}

/// One run of a container, as its probes see it.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    startup: Option<Course>,
    readiness: Option<Course>,
    liveness: Option<Course>,
}

/// A probe on its way.
#[derive(Debug, Clone)]
struct Course {
    probe: Probe,
    due: Instant,
    asking: bool,
    passed: bool,
    /// The last answer, and how many like it came in a row.
    row: (bool, u32),
    /// The last failure, while it is the last answer.
    why: String,
}

impl Health {
    /// Of a container that started now.
    pub(crate) fn new(probes: &Probes, now: Instant) -> Self {
        let course = |probe: &Option<Probe>, passed| {
            probe.clone().map(|probe| Course {
                due: now + probe.delay,
                probe,
                asking: false,
                passed,
                row: (passed, 0),
                why: String::new(),
            })
        };
        Self {
            startup: course(&probes.startup, false),
            readiness: course(&probes.readiness, false),
            liveness: course(&probes.liveness, true),
        }
    }

    /// What is to be asked now. Until it has started, a container is asked nothing else.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(ProbeKind, Probe)> {
        let started = self.has_started();
        let courses = [
            (ProbeKind::Startup, self.startup.as_mut().filter(|_| !started)),
            (ProbeKind::Readiness, self.readiness.as_mut().filter(|_| started)),
            (ProbeKind::Liveness, self.liveness.as_mut().filter(|_| started)),
        ];
        let due = courses.into_iter().filter_map(|(kind, course)| {
            let course = course.filter(|course| course.due <= now && !course.asking)?;
            course.asking = true;
            course.due = now + course.probe.period;
            Some((kind, course.probe.clone()))
        });
        due.collect()
    }

    /// Takes an answer in.
    pub(crate) fn take(&mut self, kind: ProbeKind, answer: Result<(), String>) -> Verdict {
        let course = match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Readiness => &mut self.readiness,
            ProbeKind::Liveness => &mut self.liveness,
        };
        let Some(course) = course else { return Verdict::Live };
        course.asking = false;
        let failed_for_good = course.take(answer);
        match kind {
            ProbeKind::Startup | ProbeKind::Liveness if failed_for_good => Verdict::Kill,
            ProbeKind::Startup | ProbeKind::Liveness | ProbeKind::Readiness => Verdict::Live,
        }
    }

    /// Whether the container may be sent traffic.
    pub(crate) fn is_ready(&self) -> bool {
        self.has_started() && self.readiness.as_ref().is_none_or(|course| course.passed)
    }

    pub(crate) fn has_started(&self) -> bool {
        self.startup.as_ref().is_none_or(|course| course.passed)
    }

    /// The failure that was seen last, if a probe fails now.
    pub(crate) fn why(&self) -> Option<String> {
        let courses = [
            (ProbeKind::Startup, &self.startup),
            (ProbeKind::Liveness, &self.liveness),
            (ProbeKind::Readiness, &self.readiness),
        ];
        let failing = |(kind, course): (ProbeKind, &Option<Course>)| {
            let why = &course.as_ref()?.why;
            (!why.is_empty()).then(|| format!("{kind}: {why}"))
        };
        courses.into_iter().find_map(failing)
    }
}

impl Course {
    /// Whether as many failures came in a row as may.
    fn take(&mut self, answer: Result<(), String>) -> bool {
        let passes = answer.is_ok();
        self.why = answer.err().unwrap_or_default();
        let before = if self.row.0 == passes { self.row.1 } else { 0 };
        self.row = (passes, before.saturating_add(1));
        let needed = if passes { self.probe.successes } else { self.probe.failures };
        if self.row.1 < needed {
            return false;
        }
        self.passed = passes;
        !passes
    }
}

#[cfg(test)]
mod tests;
