//! Follows one kind: asks what `course` says, hands answers to the `mirror`, and passes on what changed.
//! Owns requests and waits; decides nothing.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::{debug, info};

use crate::api::client::{Client, Lines, request};
use crate::api::course::{Course, Definition, Outcome, Step, Then};
use crate::api::error::ApiError;
use crate::api::mirror::{Change, Line, Mirror, Page, version};
use crate::api::resource::{Wanted, accept, collection, definition, with_query};
use crate::fault::Fault;
use crate::files::Keep;
use crate::object::{Kind, ObjectRef};
use ambit_process::clock;

/// A watch that ends sooner, having told nothing, counts as a failure.
const CALM: Duration = Duration::from_secs(1);

/// Changes that are passed on together.
const BATCH: usize = 256;

/// What a follower tells.
pub(crate) struct Batch {
    pub(crate) kind: Kind,
    pub(crate) changes: Vec<Change>,
    /// All there is has been told.
    pub(crate) listed: bool,
    /// What is wrong with the kind as such; none: as before.
    pub(crate) trouble: Option<Option<Fault>>,
    /// The single object that was asked for by its name, and that this is the answer to.
    pub(crate) answered: Option<ObjectRef>,
}

/// The follower of one kind.
pub(crate) struct Follow {
    client: Client,
    wanted: Wanted,
    course: Course,
    mirror: Mirror,
    told: mpsc::Sender<Batch>,
}

/// Nobody listens any more.
struct Deaf;

impl Follow {
    pub(crate) fn new(client: Client, wanted: Wanted, keep: Keep, told: mpsc::Sender<Batch>) -> Self {
        let course = Course::new(wanted.kind, *client.limits());
        let mirror = Mirror::new(wanted.kind, keep);
        Self { client, wanted, course, mirror, told }
    }

    /// Follows until nobody listens any more. Dropped to stop.
    pub(crate) async fn run(mut self) {
        loop {
            let outcome = match self.course.step().clone() {
                Step::List { mark } => self.list(&mark).await,
                Step::Watch { version } => self.watch(&version).await,
                Step::Look => Ok(self.look().await),
            };
            let Ok(outcome) = outcome else { return };
            if let Outcome::Failed(error) = &outcome {
                debug!(target: "api", kind = %self.wanted.kind, error = %error, "a question failed");
            }
            let then = self.course.on(outcome);
            let pause = then.pause;
            if self.conclude(then).await.is_err() {
                return;
            }
            if !pause.is_zero() {
                tokio::time::sleep(varied(pause)).await;
            }
        }
    }

    async fn conclude(&mut self, then: Then) -> Result<(), Deaf> {
        let mut changes = Vec::new();
        if then.finish {
            self.mirror.finish(&mut changes);
        }
        if then.clear {
            self.mirror.clear(&mut changes);
        }
        let Then { listed, trouble, .. } = then;
        self.tell(changes, listed, trouble).await
    }

    async fn tell(
        &self,
        changes: Vec<Change>,
        listed: bool,
        trouble: Option<Option<Fault>>,
    ) -> Result<(), Deaf> {
        if changes.is_empty() && !listed && trouble.is_none() {
            return Ok(());
        }
        let batch = Batch { kind: self.wanted.kind, changes, listed, trouble, answered: None };
        self.told.send(batch).await.map_err(|_| Deaf)
    }

    async fn list(&mut self, mark: &str) -> Result<Outcome, Deaf> {
        if mark.is_empty() {
            self.mirror.begin();
        }
        let size = self.course.page().to_string();
        let query = [("limit", size.as_str()), ("continue", mark), ("fieldSelector", &self.wanted.fields)];
        let answer = self.client.whole(self.ask(&query, accept(self.wanted.kind).0)).await;
        let (changes, outcome) = match answer.map(|answer| self.page(&answer)) {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return Ok(Outcome::Failed(ApiError::Unreadable(error))),
            Err(error) => return Ok(Outcome::Failed(error)),
        };
        self.tell(changes, false, None).await?;
        Ok(outcome)
    }

    fn page(&mut self, answer: &Bytes) -> Result<(Vec<Change>, Outcome), serde_json::Error> {
        let page: Page<'_> = serde_json::from_slice(answer)?;
        let mut changes = Vec::new();
        for item in page.items.unwrap_or_default() {
            self.mirror.apply(item, &mut changes);
        }
        Ok((changes, Outcome::Page { mark: page.metadata.next, version: page.metadata.version }))
    }

    async fn watch(&mut self, from: &str) -> Result<Outcome, Deaf> {
        let lasts = varied(self.client.limits().watch).as_secs().max(1).to_string();
        let query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", from),
            ("timeoutSeconds", &lasts),
            ("fieldSelector", &self.wanted.fields),
        ];
        let began = clock::now();
        let mut lines = match self.client.lines(self.ask(&query, accept(self.wanted.kind).1)).await {
            Ok(lines) => lines,
            Err(error) => return Ok(Outcome::Failed(error)),
        };
        // The server is there and knows the version.
        self.tell(Vec::new(), false, Some(None)).await?;
        let mut heard = false;
        loop {
            let line = match tokio::time::timeout(self.client.limits().quiet, lines.next()).await {
                Err(_) => return Ok(Outcome::Ended { calm: true }),
                // Connections break and servers end watches; if that goes on, beginning the next one will say so.
                Ok(Err(ApiError::Unreachable(_)) | Ok(None)) => {
                    return Ok(Outcome::Ended { calm: heard || began.elapsed() >= CALM });
                }
                Ok(Err(error)) => return Ok(Outcome::Failed(error)),
                Ok(Ok(Some(line))) => line,
            };
            heard = true;
            let (changes, reached, ended) = self.take(line, &mut lines);
            self.tell(changes, false, None).await?;
            if let Some(reached) = reached {
                self.course.reached(reached);
            }
            if let Some(error) = ended {
                return Ok(Outcome::Failed(error));
            }
        }
    }

    /// A line and those that came with it.
    fn take(&mut self, first: Bytes, lines: &mut Lines) -> (Vec<Change>, Option<String>, Option<ApiError>) {
        let (mut changes, mut reached, mut line) = (Vec::new(), None, first);
        loop {
            match self.line(&line, &mut changes) {
                Ok(version) => reached = version.or(reached),
                Err(error) => return (changes, reached, Some(error)),
            }
            match lines.ready() {
                Some(next) if changes.len() < BATCH => line = next,
                // One more line than a batch holds does no harm; what is taken off must be looked at.
                Some(next) => {
                    let last = self.line(&next, &mut changes);
                    return match last {
                        Ok(version) => (changes, version.or(reached), None),
                        Err(error) => (changes, reached, Some(error)),
                    };
                }
                None => return (changes, reached, None),
            }
        }
    }

    /// One change. The version it leads to, if it says so.
    fn line(&mut self, line: &[u8], changes: &mut Vec<Change>) -> Result<Option<String>, ApiError> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(ApiError::Unreadable)?;
        match line.what.as_ref() {
            "ADDED" | "MODIFIED" => self.mirror.apply(line.object, changes),
            "DELETED" => self.mirror.remove(line.object, changes),
            "BOOKMARK" => {}
            // Whatever went wrong: what is there now has to be listed anew. Mostly the version has expired.
            "ERROR" => {
                info!(target: "api", kind = %self.wanted.kind, status = line.object.get(), "the watch was ended");
                return Err(ApiError::Expired);
            }
            _ => return Ok(None),
        }
        Ok(version(line.object))
    }

    async fn look(&self) -> Outcome {
        let Some(name) = definition(self.wanted.kind) else {
            return Outcome::Defined(Definition::Served);
        };
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        match self.client.get::<Definitions>(&path).await {
            Ok(found) => Outcome::Defined(found.read()),
            Err(ApiError::NotFound { name: Some(missing) }) if missing == name => {
                Outcome::Defined(Definition::Absent)
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    fn ask(&self, query: &[(&str, &str)], accept: &'static str) -> Request<Vec<u8>> {
        let path = with_query(&collection(&self.wanted), query);
        let mut request = request(Method::GET, &path, None, Vec::new());
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        request
    }
}

/// What is read of a resource definition.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Definitions {
    spec: DefinitionSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DefinitionSpec {
    versions: Vec<DefinedVersion>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DefinedVersion {
    name: String,
    served: bool,
}

impl Definitions {
    fn read(&self) -> Definition {
        let served: Vec<_> =
            self.spec.versions.iter().filter(|it| it.served).map(|it| it.name.as_str()).collect();
        if served.contains(&"v1") { Definition::Served } else { Definition::Others(served.join(", ")) }
    }
}

/// Not all clients at once: between half of a wait and all of it.
fn varied(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}
