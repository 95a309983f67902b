//! What to ask next about one kind, from what came of the last question. Pure: no connection, no clock.
//! Owns pauses, and the rule that nothing is taken for gone unless the API server itself says so.

use std::error::Error;
use std::time::Duration;

use crate::api::client::Limits;
use crate::api::error::ApiError;
use crate::api::resource::{definition, plural};
use crate::fault::{Fault, Wrong};
use crate::object::Kind;

/// So many failures in a row are no news: a server restarts, a connection breaks.
const QUIET_FAILURES: u32 = 2;

/// After so many failed watches from a version, the version itself may be what fails.
const VERSION_FAILURES: u32 = 3;

/// A page that is too large is asked for again, so much smaller.
const SMALLER: usize = 4;

/// The next question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A page of all there is; from the start when the mark is empty.
    List {
        /// Where the last page ended.
        mark: String,
    },
    /// What changes from a version on.
    Watch {
        /// The version.
        version: String,
    },
    /// Whether the kind is installed at all.
    Look,
}

/// What came of a question.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A page was read.
    Page {
        /// Where it ended; empty: it was the last.
        mark: String,
        /// The list's version.
        version: String,
    },
    /// A watch ended in order.
    Ended {
        /// It lasted, or told something.
        calm: bool,
    },
    /// The kind's definition was read.
    Defined(Definition),
    /// The question failed.
    Failed(ApiError),
}

/// What is known of a kind's resource definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Definition {
    /// It serves the version that is read.
    Served,
    /// It serves others only.
    Others(String),
    /// There is none.
    Absent,
}

/// What follows.
#[derive(Debug, Default)]
pub(crate) struct Then {
    /// Before the next question; to be varied.
    pub(crate) pause: Duration,
    /// What was listed is all there is.
    pub(crate) finish: bool,
    /// There is nothing of this kind.
    pub(crate) clear: bool,
    /// What is known is complete now.
    pub(crate) listed: bool,
    /// What is wrong now; none: as before.
    pub(crate) trouble: Option<Option<Fault>>,
}

/// Where the follower of one kind stands.
pub(crate) struct Course {
    kind: Kind,
    limits: Limits,
    step: Step,
    /// In a row.
    failures: u32,
    /// All there is has been read once.
    listed: bool,
    page: usize,
}

impl Course {
    pub(crate) fn new(kind: Kind, limits: Limits) -> Self {
        let page = limits.page;
        Self { kind, limits, step: Step::List { mark: String::new() }, failures: 0, listed: false, page }
    }

    pub(crate) fn step(&self) -> &Step {
        &self.step
    }

    pub(crate) fn page(&self) -> usize {
        self.page
    }

    /// A watch has told everything up to a version.
    pub(crate) fn reached(&mut self, reached: String) {
        self.failures = 0;
        if let Step::Watch { version } = &mut self.step {
            *version = reached;
        }
    }

    pub(crate) fn on(&mut self, outcome: Outcome) -> Then {
        match outcome {
            Outcome::Page { mark, version } => self.on_page(mark, version),
            Outcome::Ended { calm: true } => {
                self.failures = 0;
                Then { trouble: Some(None), ..Then::default() }
            }
            Outcome::Ended { calm: false } => Then { pause: self.fail(), ..Then::default() },
            Outcome::Defined(found) => self.on_definition(found),
            Outcome::Failed(error) => self.on_failure(&error),
        }
    }

    fn on_page(&mut self, mark: String, version: String) -> Then {
        self.failures = 0;
        let finish = mark.is_empty();
        self.listed |= finish;
        self.step = if finish { Step::Watch { version } } else { Step::List { mark } };
        Then { finish, listed: finish, trouble: Some(None), ..Then::default() }
    }

    fn on_definition(&mut self, found: Definition) -> Then {
        match found {
            Definition::Served => {
                self.step = Step::List { mark: String::new() };
                // A definition that is there and a list that is not: the server is about to serve it.
                let pause = if self.failures == 0 { Duration::ZERO } else { self.fail() };
                Then { pause, ..Then::default() }
            }
            Definition::Absent => {
                self.failures = 0;
                self.listed = true;
                let pause = self.limits.look_again;
                Then { pause, clear: true, listed: true, trouble: Some(None), ..Then::default() }
            }
            Definition::Others(served) => {
                // What was read of the version that is read stays; where there was none, there is nothing to wait for.
                self.listed = true;
                let problem = format!("only {served} are served, which are not read");
                let name = definition(self.kind).unwrap_or_default();
                let wrong = Wrong::field("", &name, problem, "install the definition that serves v1");
                let trouble = Some(Some(Fault::of_api(wrong)));
                Then { pause: self.limits.look_again, listed: true, trouble, ..Then::default() }
            }
        }
    }

    fn on_failure(&mut self, error: &ApiError) -> Then {
        let pause = self.fail();
        let anew = Step::List { mark: String::new() };
        match error {
            ApiError::Expired => {
                self.step = anew;
                return Then { pause, ..Then::default() };
            }
            ApiError::NotFound { .. } if self.step != Step::Look && definition(self.kind).is_some() => {
                self.step = Step::Look;
                return Then::default();
            }
            ApiError::TooLarge { .. } if self.page > 1 => {
                self.page = (self.page / SMALLER).max(1);
                self.step = anew;
                return Then::default();
            }
            // The version may be what fails: it is of a cluster that was restored from an older copy.
            ApiError::Unable { .. } | ApiError::Refused { .. } | ApiError::TooLarge { .. }
                if self.failures >= VERSION_FAILURES && matches!(self.step, Step::Watch { .. }) =>
            {
                self.step = anew;
            }
            ApiError::NotFound { .. } if self.step != Step::Look => self.step = anew,
            _ => {}
        }
        let told = !error.passes() || self.failures >= QUIET_FAILURES;
        Then { pause, trouble: told.then(|| Some(self.blame(error))), ..Then::default() }
    }

    /// Counts a failure and says how long to wait.
    fn fail(&mut self) -> Duration {
        let doubled = self.limits.first_pause.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.limits.longest_pause)
    }

    fn blame(&self, error: &ApiError) -> Fault {
        let asked = match (&self.step, definition(self.kind)) {
            (Step::Look, Some(name)) => format!("customresourcedefinitions/{name}"),
            _ => plural(self.kind).to_owned(),
        };
        Fault::of_api(match error {
            ApiError::Forbidden { message } => {
                let verbs = if self.step == Step::Look { "get" } else { "list and watch" };
                let what = asked.split('/').next().unwrap_or_default();
                let remedy = format!("give this account's ClusterRole {verbs} on {what}");
                Wrong::field("", &asked, format!("not readable by this account: {message}"), &remedy)
            }
            ApiError::Unknown => Wrong::document(
                "the API server does not accept this account's credentials; what was read stays in force",
                "renew the token or certificate in the kubeconfig, or the pod's service account",
            ),
            error if error.passes() => Wrong::document(
                format!("cannot be followed, what was read stays in force: {}", root_cause(error)),
                "make the API server reachable; it is tried again",
            ),
            error => Wrong::field("", &asked, root_cause(error), "see the API server's log"),
        })
    }
}

/// The innermost reason, which is the one that says what to do.
fn root_cause(error: &ApiError) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(kind: Kind) -> Course {
        Course::new(kind, Limits::default())
    }

    fn last(version: &str) -> Outcome {
        Outcome::Page { mark: String::new(), version: version.into() }
    }

    fn unknown_path() -> Outcome {
        Outcome::Failed(ApiError::NotFound { name: None })
    }

    fn unable() -> ApiError {
        ApiError::Unable { code: 503, message: "starting".into() }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_success() {
        let mut course = course(Kind::Pod);
        let pauses: Vec<_> = (0..8).map(|_| course.on(Outcome::Failed(unable())).pause.as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        assert!(course.on(last("7")).finish);
        assert_eq!(course.on(Outcome::Failed(unable())).pause.as_millis(), 250);
    }

    #[test]
    fn an_unknown_path_clears_a_kind_only_when_its_definition_is_proven_to_be_absent() {
        let mut course = course(Kind::AuthorizationPolicy);
        course.on(last("7"));
        let then = course.on(unknown_path());
        assert!(!then.clear && !then.finish, "the server may be starting");
        assert_eq!(course.step(), &Step::Look);
        let then = course.on(Outcome::Defined(Definition::Served));
        assert!(!then.clear && !then.finish && then.pause > Duration::ZERO);
        assert_eq!(course.step(), &Step::List { mark: String::new() });
        course.on(unknown_path());
        let then = course.on(Outcome::Failed(ApiError::NotFound { name: None }));
        assert!(!then.clear && course.step() == &Step::Look, "not even the definitions are served");
        assert!(course.on(Outcome::Defined(Definition::Absent)).clear);
    }

    #[test]
    fn an_unknown_path_of_a_kind_that_is_always_there_is_a_fault_and_never_an_empty_list() {
        let mut course = course(Kind::Pod);
        let then = course.on(unknown_path());
        assert!(!then.clear && !then.finish && !then.listed);
        assert!(matches!(then.trouble, Some(Some(_))));
    }

    #[test]
    fn forbidden_is_told_at_once_with_the_right_that_is_missing_and_completes_nothing() {
        let mut course = course(Kind::ServiceEntry);
        let forbidden = || Outcome::Failed(ApiError::Forbidden { message: "no".into() });
        let then = course.on(forbidden());
        assert!(!then.listed && !then.clear && !then.finish);
        let text = then.trouble.flatten().map(|fault| fault.to_string()).unwrap_or_default();
        assert!(text.contains("serviceentries") && text.contains("list and watch"), "{text}");
        course.on(unknown_path());
        let then = course.on(forbidden());
        assert!(!then.listed && !then.clear);
        let text = then.trouble.flatten().map(|fault| fault.to_string()).unwrap_or_default();
        assert!(text.contains("get on customresourcedefinitions"), "{text}");
    }

    #[test]
    fn a_watch_goes_on_where_it_was_and_an_expired_version_lists_anew() {
        let mut course = course(Kind::Pod);
        course.on(last("7"));
        course.reached("9".into());
        course.on(Outcome::Ended { calm: true });
        assert_eq!(course.step(), &Step::Watch { version: "9".into() });
        course.on(Outcome::Failed(ApiError::broken("cut")));
        assert_eq!(course.step(), &Step::Watch { version: "9".into() });
        let then = course.on(Outcome::Failed(ApiError::Expired));
        assert!(!then.finish && !then.clear && then.pause > Duration::ZERO);
        assert_eq!(course.step(), &Step::List { mark: String::new() });
    }

    #[test]
    fn a_version_that_the_server_keeps_failing_on_is_given_up() {
        let mut course = course(Kind::Pod);
        course.on(last("7"));
        for _ in 0..VERSION_FAILURES {
            course.on(Outcome::Failed(unable()));
        }
        assert_eq!(course.step(), &Step::List { mark: String::new() });
    }

    #[test]
    fn pages_that_are_too_large_are_asked_for_smaller_down_to_one_object() {
        let mut course = course(Kind::Pod);
        for size in [25, 6, 1] {
            let then = course.on(Outcome::Failed(ApiError::TooLarge { most: 1 }));
            assert_eq!((course.page(), then.trouble.is_none()), (size, true));
        }
        assert!(course.on(Outcome::Failed(ApiError::TooLarge { most: 1 })).trouble.is_some());
    }

    #[test]
    fn a_definition_of_other_versions_is_a_fault_that_neither_blocks_nor_empties() {
        let mut course = course(Kind::PeerAuthentication);
        course.on(unknown_path());
        let then = course.on(Outcome::Defined(Definition::Others("v1beta1".into())));
        assert!(then.listed && !then.clear && !then.finish);
        assert!(then.trouble.flatten().is_some_and(|fault| fault.to_string().contains("v1beta1")));
    }

    #[test]
    fn a_watch_that_ends_at_once_again_and_again_is_not_begun_without_a_pause() {
        let mut course = course(Kind::Pod);
        course.on(last("7"));
        let pauses: Vec<_> =
            (0..3).map(|_| course.on(Outcome::Ended { calm: false }).pause.as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000]);
    }
}
