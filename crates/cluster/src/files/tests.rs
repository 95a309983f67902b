//! The watch against a real folder: what editors do, and how soon it is told.

use super::*;
use crate::object::Kind;
use crate::overlay::{Overlay, beside};

const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: NAME}}\n";

struct Place {
    _root: tempfile::TempDir,
    source: PathBuf,
    overlay: PathBuf,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("mesh");
        fs::create_dir(&source).unwrap();
        let overlay = beside(&source);
        Self { _root: root, source, overlay }
    }

    fn write(&self, file: &str, name: &str) {
        fs::write(self.source.join(file), NAMESPACE.replace("NAME", name)).unwrap();
    }

    fn watch(&self) -> Watch {
        watch(&self.source, Some(&self.overlay), Keep::Slim).unwrap()
    }
}

async fn next(watch: &mut Watch) -> String {
    let event = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("an event");
    match event {
        Event::Applied(object) => format!("+{}", object.reference.name),
        Event::Gone(object) => format!("-{}", object.name),
        Event::Complete => "complete".into(),
        Event::Fault(fault) => format!("!{}", fault.wrong.problem),
    }
}

async fn quiet(watch: &mut Watch) {
    let more = tokio::time::timeout(GRACE * 4, watch.next()).await;
    assert!(more.is_err(), "nothing more happens: {more:?}");
}

#[tokio::test]
async fn what_is_there_is_told_then_complete_then_each_change() {
    let place = Place::new();
    place.write("a.yaml", "a");
    fs::create_dir(place.source.join("deeper")).unwrap();
    place.write("deeper/b.yml", "b");
    place.write(".hidden.yaml", "h");
    place.write("notes.txt", "n");
    let mut watch = place.watch();
    let mut first = [next(&mut watch).await, next(&mut watch).await];
    first.sort();
    assert_eq!(first, ["+a", "+b"]);
    assert_eq!(next(&mut watch).await, "complete");
    place.write("c.json", "c");
    assert_eq!(next(&mut watch).await, "+c");
    fs::create_dir_all(place.source.join("new/newer")).unwrap();
    place.write("new/newer/d.yaml", "d");
    assert_eq!(next(&mut watch).await, "+d");
    fs::remove_dir_all(place.source.join("new")).unwrap();
    assert_eq!(next(&mut watch).await, "-d");
    fs::remove_file(place.source.join("a.yaml")).unwrap();
    assert_eq!(next(&mut watch).await, "-a");
    quiet(&mut watch).await;
}

#[tokio::test]
async fn no_way_of_saving_makes_an_object_flicker() {
    let place = Place::new();
    place.write("a.yaml", "a");
    let mut watch = place.watch();
    assert_eq!([next(&mut watch).await, next(&mut watch).await], ["+a", "complete"]);
    let file = place.source.join("a.yaml");
    // vim: move the old one off, write anew, drop the old one; git: remove, write anew; sed -i: rename over.
    fs::rename(&file, place.source.join("a.yaml~")).unwrap();
    tokio::time::sleep(GRACE / 5).await;
    place.write("a.yaml", "a");
    fs::remove_file(place.source.join("a.yaml~")).unwrap();
    quiet(&mut watch).await;
    fs::remove_file(&file).unwrap();
    tokio::task::yield_now().await;
    place.write("a.yaml", "a");
    quiet(&mut watch).await;
    fs::write(place.source.join(".a.yaml.swp"), "nonsense: [").unwrap();
    fs::write(place.source.join("tmp"), NAMESPACE.replace("NAME", "a")).unwrap();
    fs::rename(place.source.join("tmp"), &file).unwrap();
    quiet(&mut watch).await;
    fs::rename(&file, place.source.join("b.yaml")).unwrap();
    quiet(&mut watch).await;
}

#[tokio::test]
async fn a_file_that_breaks_is_told_once_and_its_objects_stay() {
    let place = Place::new();
    place.write("a.yaml", "a");
    let mut watch = place.watch();
    assert_eq!([next(&mut watch).await, next(&mut watch).await], ["+a", "complete"]);
    fs::write(place.source.join("a.yaml"), "kind: Nonsense\n").unwrap();
    assert_eq!(next(&mut watch).await, "!unknown kind");
    place.write("b.yaml", "b");
    assert_eq!(next(&mut watch).await, "+b");
    quiet(&mut watch).await;
    assert_eq!(watch.faults().len(), 1);
    place.write("a.yaml", "a");
    quiet(&mut watch).await;
    assert_eq!(watch.faults(), []);
}

#[tokio::test]
async fn what_is_written_to_the_overlay_is_told_and_taken_back() {
    let place = Place::new();
    place.write("a.yaml", "a");
    let mut watch = place.watch();
    assert_eq!([next(&mut watch).await, next(&mut watch).await], ["+a", "complete"]);
    let user = Overlay::new(&place.overlay, "user");
    let a = ObjectRef::new(Kind::Namespace, "", "a");
    user.patch(&a, serde_json::json!({"metadata": {"labels": {"istio.io/dataplane-mode": "ambient"}}}))
        .unwrap();
    let Event::Applied(object) = watch.next().await else { panic!("applied") };
    assert_eq!(object.meta().label("istio.io/dataplane-mode"), Some("ambient"));
    user.tombstone(&a).unwrap();
    assert_eq!(next(&mut watch).await, "-a");
    user.clear(&a).unwrap();
    assert_eq!(next(&mut watch).await, "+a");
    user.put(serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "z"}}))
        .unwrap();
    assert_eq!(next(&mut watch).await, "+z");
    assert!(user.put(serde_json::json!({"kind": "Secret"})).is_err());
    let loaded = load_once(&place.source, Some(&place.overlay), Keep::Whole).unwrap();
    assert_eq!(loaded.objects.len(), 2);
    assert!(loaded.objects.iter().all(|object| object.raw.is_some()));
}

#[tokio::test]
async fn a_folder_that_vanishes_and_returns_is_read_again() {
    let place = Place::new();
    place.write("a.yaml", "a");
    let mut watch = place.watch();
    assert_eq!([next(&mut watch).await, next(&mut watch).await], ["+a", "complete"]);
    let away = place.source.with_file_name("away");
    fs::rename(&place.source, &away).unwrap();
    quiet(&mut watch).await;
    fs::rename(&away, &place.source).unwrap();
    place.write("b.yaml", "b");
    assert_eq!(next(&mut watch).await, "+b");
    quiet(&mut watch).await;
}

#[tokio::test]
async fn events_that_the_kernel_dropped_are_made_up_for() {
    let place = Place::new();
    place.write("a.yaml", "a");
    place.write("b.yaml", "b");
    let mut watch = place.watch();
    assert_eq!(
        [next(&mut watch).await, next(&mut watch).await, next(&mut watch).await],
        ["+a", "+b", "complete"]
    );
    // As if nothing of this had been told: the folder is not watched while it happens.
    watch.notify.forget(&place.source);
    fs::remove_file(place.source.join("a.yaml")).unwrap();
    place.write("b.yaml", "changed");
    fs::create_dir(place.source.join("deeper")).unwrap();
    place.write("deeper/c.yaml", "c");
    watch.digest(vec![News::Overflow]);
    place.write("nudge.yaml", "nudge");
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(next(&mut watch).await);
    }
    told.sort();
    assert_eq!(told, ["+c", "+changed", "+nudge", "-a", "-b"]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_says_what_to_do() {
    let error = load_once(Path::new("/nonexistent-manifests"), None, Keep::Slim).unwrap_err();
    assert!(error.to_string().contains("name a folder of manifests that exists"), "{error}");
}

#[test]
fn a_single_file_can_be_read_as_a_source() {
    let place = Place::new();
    place.write("a.yaml", "a");
    place.write("b.yaml", "b");
    let loaded = load_once(&place.source.join("b.yaml"), None, Keep::Slim).unwrap();
    let names: Vec<_> = loaded.objects.iter().map(|object| object.reference.name.as_ref()).collect();
    assert_eq!(names, ["b"]);
}
