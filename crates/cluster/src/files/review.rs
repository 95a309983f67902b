//! Manifests reviewed before anybody applies them: what reading them refuses, and what admission would say.
//! Owns where each remark stands. What is said of an object is `kinds::admit`'s.

use std::path::Path;

use crate::fault::Fault;
use crate::files::disk::text;
use crate::files::{Keep, WatchError, documents, load_once, manifests, parse};
use crate::kinds::admit;

/// What is to be said about manifests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Objects that can be read.
    pub objects: usize,
    /// File by file, in the order of the documents.
    pub remarks: Vec<Remark>,
}

/// One thing to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Where it stands, and what it is.
    pub fault: Fault,
    /// Whether the object would be refused; otherwise this is a warning.
    pub refused: bool,
}

/// Reviews a directory, or one file.
///
/// # Errors
/// When it cannot be read.
pub fn review(source: &Path) -> Result<Review, WatchError> {
    let loaded = load_once(source, None, Keep::Slim)?;
    let mut review = Review { objects: loaded.objects.len(), remarks: refusals(loaded.faults) };
    let files =
        manifests(source).map_err(|error| WatchError::Folder { path: source.into(), source: error })?;
    for file in files {
        // What cannot be read is a fault already.
        if let Ok(Some(text)) = text(&file) {
            review.add(&file, &text);
        }
    }
    review.sort();
    Ok(review)
}

/// Reviews a text, for commands that are given one.
#[must_use]
pub fn review_text(name: &Path, text: &str) -> Review {
    let (objects, faults) = parse(name, text);
    let mut review = Review { objects: objects.len(), remarks: refusals(faults) };
    review.add(name, text);
    review.sort();
    review
}

fn refusals(faults: Vec<Fault>) -> Vec<Remark> {
    faults.into_iter().map(|fault| Remark { fault, refused: true }).collect()
}

impl Review {
    fn add(&mut self, file: &Path, text: &str) {
        for document in documents::read(text) {
            for item in document.content.into_iter().flatten() {
                let Ok((object, value)) = item.found else { continue };
                for mut finding in admit::review(&value) {
                    if !item.at.is_empty() {
                        finding.wrong.field = format!("{}.{}", item.at, finding.wrong.field);
                    }
                    self.say(Remark {
                        fault: Fault {
                            file: file.into(),
                            document: document.number,
                            object: Some(object.clone()),
                            wrong: finding.wrong,
                        },
                        refused: finding.refused,
                    });
                }
            }
        }
    }

    /// Reading and admission may find the same.
    fn say(&mut self, remark: Remark) {
        let place = |it: &Fault| (it.file.clone(), it.document, it.wrong.field.clone());
        if !self.remarks.iter().any(|said| said.refused && place(&said.fault) == place(&remark.fault)) {
            self.remarks.push(remark);
        }
    }

    fn sort(&mut self) {
        self.remarks
            .sort_by(|a, b| (&a.fault.file, a.fault.document).cmp(&(&b.fault.file, b.fault.document)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: a, namespace: shop }
spec: { selector: { matchLabels: { app: 'we*' } } }
---
apiVersion: v1
kind: Service
metadata: { name: s, namespace: shop }
spec: { ports: [{ port: 99999 }] }
";

    #[test]
    fn what_reading_and_admission_say_is_told_once_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep").join("all.yaml");
        std::fs::create_dir(dir.path().join("deep")).unwrap();
        std::fs::write(&file, TEXT).unwrap();
        for review in [review(dir.path()).unwrap(), review(&file).unwrap(), review_text(&file, TEXT)] {
            let places = review.remarks.iter().map(|it| (&it.fault.file, it.fault.document, it.refused));
            assert_eq!(places.collect::<Vec<_>>(), [(&file, 2, true), (&file, 3, true)], "{review:?}");
            assert!(review.remarks[0].fault.wrong.problem.contains("wildcards"), "{review:?}");
            assert_eq!(review.remarks[1].fault.wrong.field, "spec.ports[0].port");
            assert_eq!(review.objects, 2, "the policy can be read, and would not be admitted");
        }
    }
}
