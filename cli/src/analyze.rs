//! `ambit analyze`: reads manifests as the mesh would and says what is wrong with them, without a cluster.
//! Owns which files are read and how findings are shown; what is a fault is decided where objects are read.

use std::error::Error;
use std::fmt::Write;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ambit_cluster::files::{Remark, review, review_text};
use clap::Args;
use serde::Serialize;

use crate::args::fail;
use crate::output::{Output, render};

/// What `ambit analyze` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct AnalyzeArgs {
    /// Files and directories of manifests; `-` is standard input.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What was read, and what is wrong with it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Analysis {
    /// Objects that the mesh could read.
    objects: usize,
    findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    severity: Severity,
    file: PathBuf,
    /// Counted from 1; none where the file itself is at fault.
    document: Option<usize>,
    object: Option<String>,
    field: String,
    value: String,
    problem: String,
    remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// The object would be refused.
    Error,
    /// It would be taken, and may not mean what was meant.
    Warning,
}

/// Text on standard input may be as long as this.
const INPUT_LIMIT: u64 = 64 << 20;

/// Checks what it is given. Fails if anything in it would be refused.
pub(crate) fn run(args: &AnalyzeArgs) -> ExitCode {
    let done = read(&args.paths).and_then(|analysis| {
        print!("{}", render(&analysis, args.output, text)?);
        Ok(analysis.count(Severity::Error) == 0)
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(error.as_ref()),
    }
}

fn read(paths: &[PathBuf]) -> Result<Analysis, Box<dyn Error>> {
    let mut analysis = Analysis::default();
    for path in paths {
        let review = if path == Path::new("-") {
            let mut text = String::new();
            io::stdin().lock().take(INPUT_LIMIT).read_to_string(&mut text)?;
            review_text(Path::new("standard input"), &text)
        } else {
            review(path)?
        };
        analysis.objects += review.objects;
        analysis.findings.extend(review.remarks.into_iter().map(Finding::from));
    }
    Ok(analysis)
}

impl Analysis {
    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl From<Remark> for Finding {
    fn from(Remark { fault, refused }: Remark) -> Self {
        Self {
            severity: if refused { Severity::Error } else { Severity::Warning },
            file: fault.file,
            document: (fault.document > 0).then_some(fault.document),
            object: fault.object.map(|object| object.to_string()),
            field: fault.wrong.field,
            value: fault.wrong.value,
            problem: fault.wrong.problem,
            remedy: fault.wrong.remedy,
        }
    }
}

fn text(analysis: &Analysis) -> String {
    let mut text = String::new();
    for finding in &analysis.findings {
        // Writing to a String cannot fail.
        let _written = line(&mut text, finding);
    }
    let [errors, warnings] = [Severity::Error, Severity::Warning].map(|severity| analysis.count(severity));
    text + &format!("objects read: {}, errors: {errors}, warnings: {warnings}", analysis.objects)
}

/// The place first, as compilers say it; then what is wrong, and the remedy on a line of its own.
fn line(text: &mut String, finding: &Finding) -> std::fmt::Result {
    write!(text, "{}", finding.file.display())?;
    if let Some(document) = finding.document {
        write!(text, ", document {document}")?;
    }
    if let Some(object) = &finding.object {
        write!(text, " ({object})")?;
    }
    text.push_str(match finding.severity {
        Severity::Error => ": error: ",
        Severity::Warning => ": warning: ",
    });
    if !finding.field.is_empty() {
        write!(text, "{}: ", finding.field)?;
    }
    if !finding.value.is_empty() {
        write!(text, "{}: ", finding.value)?;
    }
    writeln!(text, "{}", finding.problem)?;
    if finding.remedy.is_empty() { Ok(()) } else { writeln!(text, "    {}", finding.remedy) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n---\n";

    #[test]
    fn a_fault_is_told_with_file_document_object_field_value_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let bad = "apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: shop }\n\
                   spec: { ports: [{ port: 123456 }] }\n";
        let path = dir.path().join("all.yaml");
        std::fs::write(&path, format!("{GOOD}{bad}")).unwrap();
        for given in [path.clone(), dir.path().to_owned()] {
            let analysis = read(&[given]).unwrap();
            let [finding] = analysis.findings.as_slice() else { panic!("{analysis:?}") };
            assert_eq!((analysis.objects, finding.document), (1, Some(2)));
            assert_eq!((&finding.file, finding.field.as_str()), (&path, "spec.ports[0].port"));
            let object = finding.object.as_deref().unwrap();
            assert!(object.contains("shop/web") && finding.value.contains("123456"), "{finding:?}");
            let text = text(&analysis);
            assert!(text.contains("all.yaml, document 2 ("), "{text}");
            assert!(text.ends_with("objects read: 1, errors: 1, warnings: 0"), "{text}");
        }
    }

    #[test]
    fn a_warning_is_told_and_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let wide = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                    metadata: { name: a, namespace: shop }\nspec: { selector: { matchLabels: {} }, rules: [{}] }\n";
        std::fs::write(dir.path().join("a.yaml"), wide).unwrap();
        let analysis = read(&[dir.path().to_owned()]).unwrap();
        assert_eq!(
            (analysis.count(Severity::Error), analysis.count(Severity::Warning)),
            (0, 1),
            "{analysis:?}"
        );
    }

    #[test]
    fn what_is_good_is_counted_and_what_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yaml"), GOOD).unwrap();
        let analysis = read(&[dir.path().to_owned()]).unwrap();
        assert_eq!(text(&analysis), "objects read: 1, errors: 0, warnings: 0");
        assert!(read(&[dir.path().join("b.yaml")]).is_err());
    }
}
