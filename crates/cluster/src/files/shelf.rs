//! Which file holds which object, and what each object is now. A pure state: texts go in, events come out.
//! Owns conflicts, last good versions and the laying of overlays. Reads no file and watches none.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::fault::{Fault, Wrong};
use crate::files::documents::{self, Document};
use crate::files::{Event, Keep};
use crate::kinds;
use crate::object::{Object, ObjectRef};
use crate::overlay::{self, Layer};

/// Objects whose state may have changed.
pub(crate) type Touched = BTreeSet<ObjectRef>;

/// All that is known of the files.
pub(crate) struct Shelf {
    keep: Keep,
    files: BTreeMap<PathBuf, File>,
    /// Which files hold an object; the first by name wins.
    holders: HashMap<ObjectRef, BTreeSet<PathBuf>>,
    layers: HashMap<ObjectRef, BTreeMap<String, Layer>>,
    /// What was last handed out, as a hash of its text.
    current: HashMap<ObjectRef, u64>,
    faults: BTreeMap<PathBuf, Vec<Fault>>,
    /// Files that hold what another file holds already.
    conflicts: BTreeMap<ObjectRef, Vec<Fault>>,
    /// Objects that became bad by what was laid over them.
    laid: BTreeMap<ObjectRef, Fault>,
}

/// One manifest file.
#[derive(Default)]
struct File {
    /// Its objects: the document's number and the text of the object.
    objects: BTreeMap<ObjectRef, (usize, Box<str>)>,
    /// It is not there any more, but may be about to come back.
    missing: bool,
}

impl Shelf {
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            keep,
            files: BTreeMap::new(),
            holders: HashMap::new(),
            layers: HashMap::new(),
            current: HashMap::new(),
            faults: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            laid: BTreeMap::new(),
        }
    }

    /// What is wrong now, file by file.
    pub(crate) fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.values().flatten().chain(self.conflicts.values().flatten()).chain(self.laid.values())
    }

    /// Files that are known and lie under a path.
    pub(crate) fn under(&self, path: &Path) -> Vec<PathBuf> {
        self.files.keys().filter(|known| known.starts_with(path)).cloned().collect()
    }

    /// A file's new text.
    pub(crate) fn load(&mut self, path: &Path, text: &str) -> Touched {
        let before = self.files.remove(path).unwrap_or_default();
        let mut reading = Reading {
            path,
            before: &before,
            now: File::default(),
            faults: Vec::new(),
            lost: false,
            unknown: BTreeSet::new(),
        };
        for document in documents::read(text) {
            reading.document(document);
        }
        reading.keep();
        let Reading { now, faults, .. } = reading;
        let touched: Touched = before.objects.keys().chain(now.objects.keys()).cloned().collect();
        for object in &touched {
            let holders = self.holders.entry(object.clone()).or_default();
            if now.objects.contains_key(object) {
                holders.insert(path.into());
            } else {
                holders.remove(path);
            }
        }
        self.files.insert(path.into(), now);
        self.blame(path, faults);
        touched
    }

    /// The file cannot be read; its objects stay.
    pub(crate) fn unreadable(&mut self, path: &Path, wrong: Wrong) {
        self.blame(path, vec![Fault { file: path.into(), document: 0, object: None, wrong }]);
    }

    /// The file is not there, for now: until `forget` its objects stay, but give way to other files'.
    pub(crate) fn miss(&mut self, path: &Path) -> Touched {
        let Some(file) = self.files.get_mut(path) else { return Touched::new() };
        file.missing = true;
        file.objects.keys().cloned().collect()
    }

    /// The file did not come back.
    pub(crate) fn forget(&mut self, path: &Path) -> Touched {
        self.faults.remove(path);
        let Some(file) = self.files.remove(path) else { return Touched::new() };
        for object in file.objects.keys() {
            self.holders.entry(object.clone()).or_default().remove(path);
        }
        file.objects.into_keys().collect()
    }

    /// A layer's new text.
    pub(crate) fn load_layer(&mut self, path: &Path, text: &str) -> Touched {
        let Some((writer, object)) = layer_of(path) else { return Touched::new() };
        match serde_json::from_str::<Layer>(text) {
            Ok(layer) => {
                self.faults.remove(path);
                self.layers.entry(object.clone()).or_default().insert(writer, layer);
            }
            Err(error) => {
                let wrong = Wrong::document(error.to_string(), "remove the file; its writer writes it again");
                self.blame(
                    path,
                    vec![Fault { file: path.into(), document: 0, object: Some(object.clone()), wrong }],
                );
            }
        }
        Touched::from([object])
    }

    /// A layer is gone.
    pub(crate) fn forget_layer(&mut self, path: &Path) -> Touched {
        self.faults.remove(path);
        let Some((writer, object)) = layer_of(path) else { return Touched::new() };
        if let Some(layers) = self.layers.get_mut(&object) {
            layers.remove(&writer);
        }
        self.layers.retain(|_, layers| !layers.is_empty());
        Touched::from([object])
    }

    /// What became of the objects, as events; nothing for those that are as they were.
    pub(crate) fn settle(&mut self, touched: Touched) -> Vec<Event> {
        let mut events = Vec::new();
        for object in touched {
            self.laid.remove(&object);
            match self.effective(&object) {
                None => {
                    if self.current.remove(&object).is_some() {
                        events.push(Event::Gone(object));
                    }
                }
                Some(value) => events.extend(self.renew(object, value)),
            }
        }
        events
    }

    fn renew(&mut self, reference: ObjectRef, mut value: Value) -> Option<Event> {
        kinds::without_nulls(&mut value);
        at_home(&reference, &mut value);
        let mut hasher = DefaultHasher::new();
        value.to_string().hash(&mut hasher);
        let hash = hasher.finish();
        if self.current.get(&reference) == Some(&hash) {
            return None;
        }
        match kinds::read(reference.kind, &value) {
            Ok(body) => {
                self.current.insert(reference.clone(), hash);
                let raw = (self.keep == Keep::Whole).then(|| Arc::new(value));
                Some(Event::Applied(Object { reference, body, raw }))
            }
            // The source alone was good, or it would not be here: what an overlay says made it bad.
            Err(wrong) => {
                let writers =
                    self.layers.get(&reference).map(|layers| layers.keys().cloned().collect::<Vec<_>>());
                let file = PathBuf::from(format!("overlay of {}", writers.unwrap_or_default().join(", ")));
                let fault = Fault { file, document: 0, object: Some(reference.clone()), wrong };
                self.laid.insert(reference, fault);
                None
            }
        }
    }

    fn effective(&mut self, object: &ObjectRef) -> Option<Value> {
        self.settle_conflicts(object);
        let source = self.source(object);
        match self.layers.get(object) {
            None => source,
            Some(layers) => overlay::lay(source, layers),
        }
    }

    /// The object as the first file has it; files that are missing come last.
    fn source(&self, object: &ObjectRef) -> Option<Value> {
        let (_, file) = self.holding(object, false).next().or_else(|| self.holding(object, true).next())?;
        let (_, text) = file.objects.get(object)?;
        serde_json::from_str(text).ok()
    }

    fn holding<'a>(
        &'a self,
        object: &ObjectRef,
        missing: bool,
    ) -> impl Iterator<Item = (&'a PathBuf, &'a File)> {
        let holders = self.holders.get(object).into_iter().flatten();
        holders
            .filter_map(move |path| Some((path, self.files.get(path)?)))
            .filter(move |(_, file)| file.missing == missing)
    }

    /// More than one file that holds the object is a fault of all but the first.
    fn settle_conflicts(&mut self, object: &ObjectRef) {
        let faults = self.repeated(object);
        if faults.is_empty() {
            self.conflicts.remove(object);
        } else {
            self.conflicts.insert(object.clone(), faults);
        }
        if self.holders.get(object).is_some_and(BTreeSet::is_empty) {
            self.holders.remove(object);
        }
    }

    fn repeated(&self, object: &ObjectRef) -> Vec<Fault> {
        let mut holding = self.holding(object, false);
        let Some((winner, _)) = holding.next() else { return Vec::new() };
        let problem = format!("the same object is in {}, which is the one in force", winner.display());
        holding
            .map(|(loser, file)| Fault {
                file: loser.clone(),
                document: file.objects.get(object).map_or(0, |(number, _)| *number),
                object: Some(object.clone()),
                wrong: Wrong::document(problem.clone(), "keep it in one file"),
            })
            .collect()
    }

    fn blame(&mut self, path: &Path, faults: Vec<Fault>) {
        if faults.is_empty() {
            self.faults.remove(path);
        } else {
            self.faults.insert(path.into(), faults);
        }
    }
}

/// Says the namespace where the manifest left it out.
fn at_home(reference: &ObjectRef, value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".into(), reference.namespace.as_ref().into());
    }
}

/// A layer's writer and object, from `<overlay>/<writer>/<object>.json`.
fn layer_of(path: &Path) -> Option<(String, ObjectRef)> {
    let writer = path.parent()?.file_name()?.to_str()?.to_owned();
    Some((writer, overlay::named(path)?))
}

/// A file while it is read: what it held before stands by for what cannot be read now.
struct Reading<'a> {
    path: &'a Path,
    before: &'a File,
    now: File,
    faults: Vec<Fault>,
    /// A document could not be told apart, so any object that is missing may be in it.
    lost: bool,
    /// Names in documents that are otherwise not understood: objects of that name may be in them.
    unknown: BTreeSet<String>,
}

impl Reading<'_> {
    fn document(&mut self, document: Document) {
        match document.content {
            Err(wrong) => {
                self.lost = true;
                self.fault(document.number, None, wrong);
            }
            Ok(items) => {
                for item in items {
                    self.item(document.number, item);
                }
            }
        }
    }

    fn item(&mut self, number: usize, item: documents::Item) {
        let within = |mut wrong: Wrong| {
            if !item.at.is_empty() {
                wrong.field = format!("{}.{}", item.at, wrong.field);
            }
            wrong
        };
        match item.found {
            Err(wrong) => {
                match item.name.clone() {
                    Some(name) => drop(self.unknown.insert(name)),
                    None => self.lost = true,
                }
                self.fault(number, None, within(wrong));
            }
            Ok((object, value)) => match kinds::read(object.kind, &value) {
                Ok(_) => self.hold(number, object, &value),
                Err(wrong) => {
                    if let Some(good) = self.before.objects.get(&object) {
                        self.now.objects.insert(object.clone(), good.clone());
                    }
                    self.fault(number, Some(object), within(wrong));
                }
            },
        }
    }

    fn hold(&mut self, number: usize, object: ObjectRef, value: &Value) {
        if let Some((first, _)) = self.now.objects.get(&object) {
            let problem = format!("the same object is in document {first}, which is the one in force");
            self.fault(number, Some(object), Wrong::document(problem, "keep it once"));
            return;
        }
        self.now.objects.insert(object, (number, value.to_string().into()));
    }

    /// What may be in a document that could not be understood stays as it was.
    fn keep(&mut self) {
        let may_be = |object: &ObjectRef| self.lost || self.unknown.contains(object.name.as_ref());
        let kept: Vec<_> = self.before.objects.iter().filter(|(object, _)| may_be(object)).collect();
        for (object, good) in kept {
            self.now.objects.entry(object.clone()).or_insert_with(|| good.clone());
        }
    }

    fn fault(&mut self, document: usize, object: Option<ObjectRef>, wrong: Wrong) {
        self.faults.push(Fault { file: self.path.into(), document, object, wrong });
    }
}

#[cfg(test)]
mod tests;
