//! What became of each test, read from what Go's test programs print. Owns reading and counting: a test that did not run
//! has not passed.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};

/// The release of the suite.
pub(super) const RELEASE: &str = "gateway-api-v1.6.0";
/// Its tests of meshes, each of which must have passed.
const MESHES: [&str; 22] = [
    "MeshBasic",
    "MeshConsumerRoute",
    "MeshFrontend",
    "MeshFrontendHostname",
    "MeshGRPCRouteWeight",
    "MeshHTTPRoute303Redirect",
    "MeshHTTPRoute307Redirect",
    "MeshHTTPRoute308Redirect",
    "MeshHTTPRouteBackendRequestHeaderModifier",
    "MeshHTTPRouteMatching",
    "MeshHTTPRouteNamedRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectHostAndStatus",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRequestHeaderModifier",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "MeshHTTPRouteSimpleSameNamespace",
    "MeshHTTPRouteWeight",
    "MeshPorts",
    "MeshTrafficSplit",
];
/// Ours, of what the suite tests in later releases.
const OWN: [&str; 1] = ["MeshGRPCRouteRequestHeaderModifier"];
/// Tests of gateways with a service in the gateway's place: as many as `twins_test.go` lists.
const TWINS: usize = 39;
/// Lines that say why a test failed.
const REASONS: [&str; 5] = ["not ready yet", "Error:", "--- FAIL", "panic:", "failed ("];

/// A part of the run: a function of the program of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The suite's tests of meshes.
    Published,
    /// Ours.
    Own,
    /// The suite's tests of gateways, as tests of a mesh.
    Twins,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Passed,
    Failed,
    Skipped,
}

/// What became of all tests.
#[derive(Debug, Default)]
pub(super) struct Verdict(BTreeMap<(Part, String), Ended>);

impl Part {
    /// All, in their order.
    pub(super) const ALL: [Self; 3] = [Self::Published, Self::Own, Self::Twins];

    /// The function's name.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Published => "TestConformance",
            Self::Own => "TestOwn",
            Self::Twins => "TestTwins",
        }
    }

    /// Whether it has a test of this name.
    pub(super) fn has(self, test: &str) -> bool {
        match self {
            Self::Published => MESHES.contains(&test),
            Self::Own => OWN.contains(&test),
            Self::Twins => !test.starts_with("Mesh"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        })
    }
}

impl Verdict {
    /// Hears a line; returns what to tell of it. Tests of gateways that are skipped as such are not told of.
    pub(super) fn hear(&mut self, line: &str) -> Option<String> {
        let (part, name, ended, took) = read(line)?;
        if ended == Ended::Skipped && part == Part::Published && !name.starts_with("Mesh") {
            return None;
        }
        self.0.insert((part, name.to_owned()), ended);
        Some(format!("{ended}  {name} {took}"))
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{RELEASE}: {} of {} tests of meshes passed, {} of {TWINS} tests of gateways as tests of a mesh; {} of {} of ours",
            self.passed(Part::Published),
            MESHES.len(),
            self.passed(Part::Twins),
            self.passed(Part::Own),
            OWN.len(),
        )
    }

    /// Every test passed, and there is none of meshes that is not known here.
    pub(super) fn all(&self) -> Result<()> {
        let ended = self.0.iter().filter(|(_, ended)| **ended != Ended::Passed);
        let mut faults: Vec<String> = ended.map(|((_, name), ended)| format!("{name} {ended}")).collect();
        let listed = MESHES.iter().map(|name| (Part::Published, *name));
        let listed = listed.chain(OWN.iter().map(|name| (Part::Own, *name)));
        let missing = listed.filter(|(part, name)| !self.0.contains_key(&(*part, (*name).to_owned())));
        faults.extend(missing.map(|(_, name)| format!("{name} did not run")));
        let unknown = self.0.keys().filter(|(part, name)| !part.has(name));
        faults.extend(unknown.map(|(_, name)| format!("{name} is not listed")));
        let twins = self.0.keys().filter(|(part, _)| *part == Part::Twins).count();
        if twins != TWINS {
            faults.push(format!("{twins} of {TWINS} tests of gateways ran"));
        }
        ensure!(faults.is_empty(), "{}", faults.join(", "));
        Ok(())
    }

    /// The one that was asked for passed; others are skipped.
    pub(super) fn one(&self, test: &str) -> Result<()> {
        let failed = self.0.values().any(|ended| *ended == Ended::Failed);
        let passed = self.0.iter().any(|((_, name), ended)| name == test && *ended == Ended::Passed);
        ensure!(passed && !failed, "{test} did not pass");
        Ok(())
    }

    /// A line for each test, for people.
    pub(super) fn table(&self) -> String {
        let of = |part: Part| {
            let named = self.0.iter().filter(move |((other, _), _)| *other == part);
            named.map(|((_, name), ended)| format!("{ended}  {name}\n")).collect::<String>()
        };
        format!(
            "# {RELEASE}, tests of meshes\n{}\n# ours, of what later releases test\n{}\n\
             # {RELEASE}, tests of gateways with a service in the gateway's place\n{}",
            of(Part::Published),
            of(Part::Own),
            of(Part::Twins),
        )
    }

    fn passed(&self, part: Part) -> usize {
        self.0.iter().filter(|((other, _), ended)| *other == part && **ended == Ended::Passed).count()
    }
}

/// Whether a line says why a test failed.
pub(super) fn is_reason(line: &str) -> bool {
    REASONS.iter().any(|word| line.contains(word))
}

/// The end of a test, not of one of its cases: `    --- PASS: TestConformance/MeshBasic (0.31s)`.
fn read(line: &str) -> Option<(Part, &str, Ended, &str)> {
    let (how, rest) = line.trim_start().strip_prefix("--- ")?.split_once(": ")?;
    let ended = match how {
        "PASS" => Ended::Passed,
        "FAIL" => Ended::Failed,
        "SKIP" => Ended::Skipped,
        _ => return None,
    };
    let (path, took) = rest.split_once(' ')?;
    let (function, name) = path.split_once('/')?;
    let part = Part::ALL.into_iter().find(|part| part.function() == function)?;
    (!name.contains('/')).then_some((part, name, ended, took))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(end: &str, part: Part, name: &str) -> String {
        format!("    --- {end}: {}/{name} (1.50s)", part.function())
    }

    /// All tests pass, but for one, which ends in another way.
    fn heard(other: &str, end: &str) -> Verdict {
        let twins: Vec<String> = (0..TWINS).map(|number| format!("HTTPRoute{number}")).collect();
        let listed = MESHES.iter().map(|name| (Part::Published, *name));
        let listed = listed.chain(OWN.iter().map(|name| (Part::Own, *name)));
        let mut verdict = Verdict::default();
        for (part, name) in listed.chain(twins.iter().map(|name| (Part::Twins, name.as_str()))) {
            verdict.hear(&line(if name == other { end } else { "PASS" }, part, name));
        }
        verdict
    }

    #[test]
    fn ends_of_tests_are_read_and_ends_of_their_cases_are_not() {
        for (line, end) in [
            (
                "    --- PASS: TestConformance/MeshBasic (0.31s)",
                Some((Part::Published, "MeshBasic", Ended::Passed, "(0.31s)")),
            ),
            ("    --- FAIL: TestTwins/GRPCX (30.1s)", Some((Part::Twins, "GRPCX", Ended::Failed, "(30.1s)"))),
            ("    --- SKIP: TestOwn/MeshX (0.00s)", Some((Part::Own, "MeshX", Ended::Skipped, "(0.00s)"))),
            ("        --- PASS: TestConformance/MeshBasic/0_request (0.1s)", None),
            ("--- PASS: TestConformance (80.2s)", None),
            ("=== RUN   TestConformance/MeshBasic", None),
            ("    pod.go:50: --- PASS", None),
        ] {
            assert_eq!(read(line), end, "{line}");
        }
    }

    #[test]
    fn as_many_tests_of_gateways_are_waited_for_as_are_listed() {
        let list = include_str!("../../go/conformance/twins_test.go");
        let names = list.lines().filter(|line| line.starts_with("\t\"") && line.ends_with("\","));
        assert_eq!(names.count(), TWINS);
    }

    #[test]
    fn a_test_that_failed_was_skipped_or_did_not_run_is_named() {
        heard("", "").all().unwrap();
        for (test, end, word) in [
            ("MeshPorts", "FAIL", "MeshPorts FAILED"),
            ("MeshPorts", "SKIP", "MeshPorts skipped"),
            ("MeshPorts", "RUN", "MeshPorts did not run"),
            (OWN[0], "RUN", "HeaderModifier did not run"),
            ("HTTPRoute7", "FAIL", "HTTPRoute7 FAILED"),
            ("HTTPRoute7", "SKIP", "HTTPRoute7 skipped"),
            ("HTTPRoute7", "RUN", "38 of 39"),
        ] {
            let refused = heard(test, end).all().unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }

    #[test]
    fn a_test_of_meshes_that_is_not_listed_is_told_of_and_one_of_gateways_that_is_skipped_is_not() {
        let mut verdict = heard("", "");
        assert_eq!(verdict.hear(&line("SKIP", Part::Published, "HTTPRouteCORS")), None);
        verdict.all().unwrap();
        assert!(verdict.hear(&line("PASS", Part::Published, "MeshTomorrow")).is_some());
        assert!(verdict.all().unwrap_err().to_string().contains("MeshTomorrow is not listed"));
    }
}
