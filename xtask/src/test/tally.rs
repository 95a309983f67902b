//! Counts tests from what the test programs print.
//! Owns the reading of `test result:` lines; runs nothing.

/// How many tests passed and failed, and which ones failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    failed: u32,
    pub(crate) ignored: u32,
    pub(crate) failures: Vec<String>,
    /// What tests said of why they failed, in lines that begin with `why: `.
    pub(crate) reasons: Vec<String>,
    is_listing: bool,
}

impl Tally {
    /// One failure that has no test to its name: something that did not build or start.
    pub(crate) fn broken(what: &str) -> Self {
        Self { failed: 1, failures: vec![what.to_owned()], ..Self::default() }
    }

    /// One check by name, passed or failed.
    pub(crate) fn count(&mut self, name: &str, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.add(Self::broken(name));
        }
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures);
        self.reasons.extend(other.reasons);
    }

    /// Takes one line of a test program's output; anything but a result is passed over.
    pub(crate) fn read(&mut self, line: &str) {
        let listed = line.strip_prefix("    ").filter(|_| self.is_listing);
        self.is_listing = line == "failures:" || listed.is_some();
        if let Some(name) = listed {
            // Where output is not captured, what a test prints stands between its name and its result.
            if !self.failures.iter().any(|known| known == name) {
                self.failures.push(name.to_owned());
            }
        } else if let Some(reason) = line.strip_prefix("why: ") {
            self.reasons.push(reason.to_owned());
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += number_before(counts, " passed");
            self.failed += number_before(counts, " failed");
            self.ignored += number_before(counts, " ignored");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }
}

fn number_before(counts: &str, word: &str) -> u32 {
    let before = counts.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_add_up_and_failures_keep_their_names() {
        let mut tally = Tally::default();
        let output = "running 3 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\
            test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 40 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s";
        output.lines().for_each(|line| tally.read(line));
        assert_eq!((tally.passed, tally.failed(), tally.ignored), (41, 1, 1));
        assert_eq!(tally.failures, ["a::c"]);
    }

    #[test]
    fn a_failure_amid_what_the_test_prints_has_a_name_and_a_reason() {
        let mut tally = Tally::default();
        let output = "running 1 test\ntest a_story ...   0.2 s  up\n\nwhy: story: no pod\nFAILED\n\n\
            failures:\n\nfailures:\n    a_story\n\n    not a name\n\
            test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.00s";
        output.lines().for_each(|line| tally.read(line));
        assert_eq!((tally.passed, tally.failed()), (0, 1));
        assert_eq!(
            (tally.failures, tally.reasons),
            (vec!["a_story".to_owned()], vec!["story: no pod".to_owned()])
        );
    }
}
