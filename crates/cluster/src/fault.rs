//! What is wrong with an object, in the words of the person who wrote it: where it stands, field, value, remedy.

use std::fmt;
use std::path::PathBuf;

use crate::object::ObjectRef;

/// One thing wrong in one document. The last good version of the object stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file; empty when it came from the Kubernetes API.
    pub file: PathBuf,
    /// Which document of the file, counted from 1; 0 when the file itself is at fault, or there is none.
    pub document: usize,
    /// The object, when it could be told.
    pub object: Option<ObjectRef>,
    /// What is wrong there.
    pub wrong: Wrong,
}

/// What is wrong with a value in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The field's path, for example `spec.ports[0].port`; empty: the whole document.
    pub field: String,
    /// The value as given, shortened.
    pub value: String,
    /// Why it is refused.
    pub problem: String,
    /// What to do instead.
    pub remedy: String,
}

/// Longest piece of a value that is repeated in a fault: enough to recognise it.
const VALUE_SHOWN: usize = 80;

impl Fault {
    /// An object of the Kubernetes API is at fault.
    #[must_use]
    pub fn of_object(object: ObjectRef, wrong: Wrong) -> Self {
        Self { file: PathBuf::new(), document: 0, object: Some(object), wrong }
    }

    /// The Kubernetes API itself is at fault, or what we may do there.
    #[must_use]
    pub fn of_api(wrong: Wrong) -> Self {
        Self { file: PathBuf::new(), document: 0, object: None, wrong }
    }
}

impl Wrong {
    /// A fault of the whole document.
    pub fn document(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: String::new(), value: String::new(), problem: problem.into(), remedy: remedy.into() }
    }

    /// A fault of one field.
    pub fn field(field: impl Into<String>, value: &str, problem: impl Into<String>, remedy: &str) -> Self {
        Self { field: field.into(), value: shorten(value), problem: problem.into(), remedy: remedy.into() }
    }
}

/// Cuts a value to what is worth showing, at a character's border.
#[must_use]
pub fn shorten(value: &str) -> String {
    match value.char_indices().nth(VALUE_SHOWN) {
        None => value.to_owned(),
        Some((at, _)) => format!("{}…", value.get(..at).unwrap_or_default()),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let in_file = !self.file.as_os_str().is_empty();
        if in_file {
            write!(f, "{}", self.file.display())?;
        }
        if self.document > 0 {
            write!(f, ", document {}", self.document)?;
        }
        match &self.object {
            Some(object) if in_file => write!(f, " ({object})")?,
            Some(object) => write!(f, "{object}")?,
            None if in_file => {}
            None => f.write_str("Kubernetes API")?,
        }
        if !self.wrong.field.is_empty() {
            write!(f, ", {}", self.wrong.field)?;
        }
        f.write_str(": ")?;
        if !self.wrong.value.is_empty() {
            write!(f, "{}: ", self.wrong.value)?;
        }
        write!(f, "{}", self.wrong.problem)?;
        if !self.wrong.remedy.is_empty() {
            write!(f, "; {}", self.wrong.remedy)?;
        }
        Ok(())
    }
}
