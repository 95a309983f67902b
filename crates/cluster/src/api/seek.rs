//! Single objects that others refer to, read by their names again and again: a right to follow all objects of such a kind
//! would be a right to read everybody's. Owns the reading and its pace; which objects are sought is the caller's to say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use tokio::sync::{mpsc, watch};
use tracing::debug;

use crate::api::client::{Client, request};
use crate::api::error::ApiError;
use crate::api::follow::Batch;
use crate::api::mirror::Change;
use crate::api::resource::{object as path_of, plural};
use crate::fault::{Fault, Wrong};
use crate::kinds;
use crate::object::{Body, Kind, Object, ObjectRef};

/// So much time for each of many, so that no API server is asked more than twenty times a second.
const FOR_EACH: Duration = Duration::from_millis(50);
/// Objects that are sought; of more nobody could say who means them.
const SOUGHT_MOST: usize = 1_024;

/// Reads what is sought.
pub(crate) struct Seek {
    client: Client,
    wanted: watch::Receiver<BTreeSet<ObjectRef>>,
    told: mpsc::Sender<Batch>,
    /// What was answered, and with what; none: it is not there.
    known: BTreeMap<ObjectRef, Option<Body>>,
    /// Objects that are not readable, or do not read, and why.
    bad: BTreeMap<ObjectRef, Fault>,
}

/// What one object is now.
enum Found {
    /// There, and as it is.
    There(Body),
    /// Not there.
    Absent,
    /// It does not read, or may not be read: what was there stays.
    Bad(Fault),
    /// Nobody knows now.
    Unanswered,
}

impl Seek {
    pub(crate) fn new(
        client: Client,
        wanted: watch::Receiver<BTreeSet<ObjectRef>>,
        told: mpsc::Sender<Batch>,
    ) -> Self {
        Self { client, wanted, told, known: BTreeMap::new(), bad: BTreeMap::new() }
    }

    /// Reads until nobody listens any more. Dropped to stop.
    pub(crate) async fn run(mut self) {
        let mut only_new = false;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let Some(missed) = self.pass(&wanted, only_new).await else { return };
            let each = FOR_EACH.saturating_mul(u32::try_from(wanted.len()).unwrap_or(u32::MAX));
            let limits = self.client.limits();
            let pause = if missed { limits.first_pause } else { limits.look_again.max(each) };
            // Both arms are cancel-safe. What is sought anew does not wait for its turn.
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    only_new = true;
                }
                () = tokio::time::sleep(pause), if !wanted.is_empty() => only_new = missed,
            }
        }
    }

    /// Looks at all, or at what was not answered yet; whether something was not. None: nobody listens any more.
    async fn pass(&mut self, wanted: &BTreeSet<ObjectRef>, only_new: bool) -> Option<bool> {
        self.leave(wanted).await?;
        let mut missed = false;
        for object in wanted.iter().take(SOUGHT_MOST) {
            if only_new && self.known.contains_key(object) {
                continue;
            }
            let found = self.look(object).await;
            missed |= matches!(found, Found::Unanswered);
            self.tell(object, found).await?;
        }
        for object in wanted.iter().skip(SOUGHT_MOST) {
            let problem =
                format!("more than {SOUGHT_MOST} objects are referred to, and this one is not read");
            let wrong = Wrong::document(problem, "refer to fewer: several may refer to the same");
            self.tell(object, Found::Bad(Fault::of_object(object.clone(), wrong))).await?;
        }
        Some(missed)
    }

    /// What nobody refers to any more is not kept.
    async fn leave(&mut self, wanted: &BTreeSet<ObjectRef>) -> Option<()> {
        let gone: Vec<_> = self.known.keys().filter(|it| !wanted.contains(*it)).cloned().collect();
        for object in gone {
            self.tell(&object, Found::Absent).await?;
            self.known.remove(&object);
        }
        Some(())
    }

    async fn look(&self, object: &ObjectRef) -> Found {
        let ask = request(Method::GET, &path_of(object), None, Vec::new());
        let answer = match self.client.whole(ask).await {
            Ok(answer) => answer,
            Err(ApiError::NotFound { .. }) => return Found::Absent,
            Err(ApiError::Forbidden { message }) => {
                let what = plural(object.kind);
                let wrong = Wrong::field(
                    "",
                    what,
                    format!("not readable by this account: {message}"),
                    &format!("give this account's ClusterRole get on {what}"),
                );
                return Found::Bad(Fault::of_object(object.clone(), wrong));
            }
            Err(error) => {
                debug!(target: "api", object = %object, error = %error, "not read now");
                return Found::Unanswered;
            }
        };
        let read = std::str::from_utf8(&answer).map(|text| kinds::read_text(object.kind, text));
        match read {
            Ok(Ok(body)) => Found::There(body),
            Ok(Err(wrong)) => Found::Bad(Fault::of_object(object.clone(), wrong)),
            Err(_) => {
                let wrong = Wrong::document("not a text", "write it anew");
                Found::Bad(Fault::of_object(object.clone(), wrong))
            }
        }
    }

    async fn tell(&mut self, object: &ObjectRef, found: Found) -> Option<()> {
        let first = !self.known.contains_key(object);
        let mut changes = Vec::new();
        if !matches!(found, Found::Bad(_) | Found::Unanswered) && self.bad.remove(object).is_some() {
            changes.push(Change::Good(object.clone()));
        }
        match found {
            Found::Unanswered => return Some(()),
            Found::There(body) => {
                if self.known.insert(object.clone(), Some(body.clone())) != Some(Some(body.clone())) {
                    changes.push(Change::Applied(Object { reference: object.clone(), body, raw: None }));
                }
            }
            Found::Absent => {
                if self.known.insert(object.clone(), None).flatten().is_some() {
                    changes.push(Change::Gone(object.clone()));
                }
            }
            Found::Bad(fault) => {
                self.known.entry(object.clone()).or_default();
                if self.bad.insert(object.clone(), fault.clone()).as_ref() != Some(&fault) {
                    changes.push(Change::Bad(object.clone(), fault));
                }
            }
        }
        if changes.is_empty() && !first {
            return Some(());
        }
        let (kind, answered): (Kind, _) = (object.kind, Some(object.clone()));
        let batch = Batch { kind, changes, listed: false, trouble: None, answered };
        self.told.send(batch).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ambit_process::stop::Stop;
    use ambit_process::tasks::Tasks;
    use serde_json::json;

    use super::*;
    use crate::api::tests::client;
    use crate::api::tests::fake::{FakeApi, Trick};

    const MAPS: &str = "/api/v1/configmaps";

    fn map(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::ConfigMap, "shop", name)
    }

    /// Waits until this is told of an object.
    async fn until(news: &mut mpsc::Receiver<Batch>, wanted: &str) {
        loop {
            let batch = tokio::time::timeout(Duration::from_secs(60), news.recv()).await.unwrap().unwrap();
            let answered = format!("answered {}", batch.answered.unwrap().name);
            let word = |it: Change| match it {
                Change::Applied(it) => format!("applied {}", it.reference.name),
                Change::Gone(it) => format!("gone {}", it.name),
                Change::Bad(it, _) => format!("bad {}", it.name),
                Change::Good(it) => format!("good {}", it.name),
            };
            let words: Vec<_> = batch.changes.into_iter().map(word).chain([answered]).collect();
            assert!(!words.iter().any(|it| it.ends_with("others")), "{words:?}");
            if words.iter().any(|it| it == wanted) {
                return;
            }
        }
    }

    #[tokio::test]
    async fn what_is_sought_is_told_when_it_comes_changes_and_goes_and_nothing_else_is_read() {
        let fake = FakeApi::start().await;
        let put = |name: &str, text: &str| {
            fake.put(
                MAPS,
                json!({"metadata": {"name": name, "namespace": "shop"}, "data": {"ca.crt": text}}),
            );
        };
        put("roots", "one");
        put("others", "no");
        // A server that is not able to answer says nothing of what is there.
        fake.trick("GET", Trick::Refuse(503), 3);
        let (wanted, heard) = watch::channel(BTreeSet::from([map("absent"), map("roots")]));
        let (told, mut news) = mpsc::channel(16);
        let mut tasks = Tasks::new(&Stop::new());
        let seek = Seek::new(client(&fake).await, heard, told);
        tasks.spawn("seek", |_| seek.run());
        until(&mut news, "applied roots").await;
        until(&mut news, "answered absent").await;
        wanted.send_replace(BTreeSet::from([map("roots"), map("new")]));
        until(&mut news, "answered new").await;
        put("new", "one");
        until(&mut news, "applied new").await;
        put("roots", "two");
        until(&mut news, "applied roots").await;
        fake.trick("configmaps/roots", Trick::Refuse(403), 1);
        until(&mut news, "bad roots").await;
        until(&mut news, "good roots").await;
        wanted.send_replace(BTreeSet::from([map("roots")]));
        until(&mut news, "gone new").await;
    }
}
