//! What became of each test, read from what Go's test programs print. Owns reading and counting: a test that did not run
//! has not passed.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};

/// The release of the suite.
pub(super) const RELEASE: &str = "gateway-api-v1.6.0";
/// Its tests of meshes, each of which must have passed.
const PUBLISHED: [&str; 22] = [
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
/// Lines that say why a test failed.
const REASONS: [&str; 5] = ["not ready yet", "Error:", "--- FAIL", "panic:", "failed ("];

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Passed,
    Failed,
    Skipped,
}

/// What became of all tests.
#[derive(Debug, Default)]
pub(super) struct Verdict(BTreeMap<String, Ended>);

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
    /// Hears a line; returns what to tell of it. Tests of gateways, which are skipped, are not told of.
    pub(super) fn hear(&mut self, line: &str) -> Option<String> {
        let (name, ended, took) = read(line)?;
        self.0.insert(name.to_owned(), ended);
        (ended != Ended::Skipped || name.starts_with("Mesh")).then(|| format!("{ended}  {name} {took}"))
    }

    /// Whether a test is ours.
    pub(super) fn is_own(&self, test: &str) -> bool {
        OWN.contains(&test)
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{} of {} tests of meshes that {RELEASE} has passed, and {} of {} of ours",
            self.passed(&PUBLISHED),
            PUBLISHED.len(),
            self.passed(&OWN),
            OWN.len()
        )
    }

    /// Every test passed, and there is none of meshes that is not known here.
    pub(super) fn all(&self) -> Result<()> {
        let others: Vec<String> = expected()
            .filter(|name| self.0.get(*name) != Some(&Ended::Passed))
            .map(|name| {
                format!("{name} {}", self.0.get(name).map_or("did not run".to_owned(), Ended::to_string))
            })
            .collect();
        ensure!(others.is_empty(), "{}", others.join(", "));
        let unknown: Vec<&String> = self
            .0
            .keys()
            .filter(|name| name.starts_with("Mesh") && !expected().any(|it| it == *name))
            .collect();
        ensure!(unknown.is_empty(), "the suite has tests that are not listed: {unknown:?}");
        let failed: Vec<&str> = self.named(Ended::Failed);
        ensure!(failed.is_empty(), "failed: {failed:?}");
        Ok(())
    }

    /// The one that was asked for passed.
    pub(super) fn one(&self) -> Result<()> {
        ensure!(
            self.named(Ended::Passed).len() == 1 && self.named(Ended::Failed).is_empty(),
            "it did not pass"
        );
        Ok(())
    }

    /// A line for each test, for people.
    pub(super) fn table(&self) -> String {
        let line = |name: &str, whose: &str| {
            let ended = self.0.get(name).map_or("did not run".to_owned(), Ended::to_string);
            format!("{ended}  {name}{whose}\n")
        };
        let published: String = PUBLISHED.iter().map(|name| line(name, "")).collect();
        let own: String =
            OWN.iter().map(|name| line(name, " (ours; the suite has it since a later release)")).collect();
        published + &own
    }

    fn passed(&self, names: &[&str]) -> usize {
        names.iter().filter(|name| self.0.get(**name) == Some(&Ended::Passed)).count()
    }

    fn named(&self, how: Ended) -> Vec<&str> {
        self.0.iter().filter(|(_, ended)| **ended == how).map(|(name, _)| name.as_str()).collect()
    }
}

/// Whether a line says why a test failed.
pub(super) fn is_reason(line: &str) -> bool {
    REASONS.iter().any(|word| line.contains(word))
}

fn expected() -> impl Iterator<Item = &'static str> {
    PUBLISHED.into_iter().chain(OWN)
}

/// The end of a test, not of one of its cases: `    --- PASS: TestConformance/MeshBasic (0.31s)`.
fn read(line: &str) -> Option<(&str, Ended, &str)> {
    let (how, rest) = line.trim_start().strip_prefix("--- ")?.split_once(": ")?;
    let ended = match how {
        "PASS" => Ended::Passed,
        "FAIL" => Ended::Failed,
        "SKIP" => Ended::Skipped,
        _ => return None,
    };
    let (path, took) = rest.split_once(' ')?;
    let (_, name) = path.split_once('/')?;
    (!name.contains('/')).then_some((name, ended, took))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[String]) -> Verdict {
        let mut verdict = Verdict::default();
        lines.iter().for_each(|line| drop(verdict.hear(line)));
        verdict
    }

    fn all_but(other: &str, end: &str) -> Vec<String> {
        expected()
            .map(|name| {
                format!(
                    "    --- {}: TestConformance/{name} (1.50s)",
                    if name == other { end } else { "PASS" }
                )
            })
            .collect()
    }

    #[test]
    fn ends_of_tests_are_read_and_ends_of_their_cases_are_not() {
        for (line, end) in [
            (
                "    --- PASS: TestConformance/MeshBasic (0.31s)",
                Some(("MeshBasic", Ended::Passed, "(0.31s)")),
            ),
            (
                "    --- FAIL: TestConformance/MeshPorts (30.1s)",
                Some(("MeshPorts", Ended::Failed, "(30.1s)")),
            ),
            ("    --- SKIP: TestOwn/MeshX (0.00s)", Some(("MeshX", Ended::Skipped, "(0.00s)"))),
            ("        --- PASS: TestConformance/MeshBasic/0_request (0.1s)", None),
            ("--- PASS: TestConformance (80.2s)", None),
            ("=== RUN   TestConformance/MeshBasic", None),
            ("    pod.go:50: --- PASS", None),
        ] {
            assert_eq!(read(line), end, "{line}");
        }
    }

    #[test]
    fn a_test_that_failed_was_skipped_or_did_not_run_is_named_and_one_that_is_not_known_as_well() {
        heard(&all_but("", "")).all().unwrap();
        for (end, word) in
            [("FAIL", "MeshPorts FAILED"), ("SKIP", "MeshPorts skipped"), ("RUN", "MeshPorts did not run")]
        {
            let refused = heard(&all_but("MeshPorts", end)).all().unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
        let mut more = all_but("", "");
        more.push("    --- SKIP: TestConformance/MeshTomorrow (0.00s)".to_owned());
        assert!(heard(&more).all().unwrap_err().to_string().contains("MeshTomorrow"));
        more = all_but("", "");
        more.push("    --- FAIL: TestConformance/HTTPRouteCORS (0.00s)".to_owned());
        assert!(heard(&more).all().unwrap_err().to_string().contains("HTTPRouteCORS"));
    }
}
