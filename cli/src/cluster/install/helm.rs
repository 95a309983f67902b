//! Helm, as a program of this machine: found, old enough, told what to do. Go's templates are Helm's to render, and a
//! release made here is an ordinary one. Owns calling it, and how it complains.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use serde::Deserialize;

use crate::cluster::Which;

/// The oldest that knows all that is asked of it.
const OLDEST: (u32, u32) = (3, 8);
/// Since then a rendering may look into the cluster.
const LOOKS_UP: (u32, u32) = (3, 13);

/// What a chart says of values that mean something else to it (`templates/refused.yaml`).
const REFUSED: &str = "these values are refused:";

/// Where Helm is.
#[derive(Debug, Clone, Args)]
pub(super) struct HelmArgs {
    /// The program `helm`, 3.8 or newer; else the one on the path.
    #[arg(long, env = "HELM", value_name = "PATH")]
    helm: Option<PathBuf>,
}

/// What is wrong with Helm, or what it says is wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelmError {
    #[error(
        "{} is not there; install Helm 3.8 or newer (https://helm.sh/docs/intro/install), or name it with --helm PATH",
        program.display()
    )]
    Missing { program: PathBuf },
    #[error("{} does not start", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("{} is Helm {found:?}; 3.8 or newer is needed, name it with --helm PATH", program.display())]
    Old { program: PathBuf, found: String },
    #[error("these values are refused:{said}")]
    Values { said: String },
    #[error("helm {what}: {said}")]
    Failed { what: String, said: String },
    #[error("what Helm says of its releases does not read")]
    Unreadable(#[source] serde_json::Error),
}

/// A release as Helm lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Release {
    pub(super) name: String,
    pub(super) namespace: String,
    /// Counted up with each change.
    pub(super) revision: String,
    /// `deployed`, `failed`, `pending-install`, …
    pub(super) status: String,
    pub(super) app_version: String,
}

/// A Helm that is new enough.
#[derive(Debug)]
pub(super) struct Helm {
    program: PathBuf,
    version: (u32, u32),
    /// Which cluster and namespace.
    common: Vec<OsString>,
}

impl Helm {
    /// Looks for it, and asks for its version.
    pub(super) fn find(args: &HelmArgs, which: &Which) -> Result<Self, HelmError> {
        let program = args.helm.clone().unwrap_or_else(|| "helm".into());
        let mut common: Vec<OsString> = vec!["--namespace".into(), (&which.istio_namespace).into()];
        if let Some(path) = &which.kubeconfig {
            common.extend(["--kubeconfig".into(), path.into()]);
        }
        if let Some(context) = &which.context {
            common.extend(["--kube-context".into(), context.into()]);
        }
        let mut helm = Self { program, version: OLDEST, common };
        let said = helm.run(&["version", "--template", "{{.Version}}"])?;
        let found = crate::cluster::check::numbers(&said);
        match found {
            Some(version) if version >= OLDEST => helm.version = version,
            _ => return Err(HelmError::Old { program: helm.program, found: said.trim().to_owned() }),
        }
        Ok(helm)
    }

    /// Runs it to its end; what it printed.
    pub(super) fn run<T: Into<OsString> + Clone>(&self, words: &[T]) -> Result<String, HelmError> {
        let words: Vec<OsString> = words.iter().cloned().map(Into::into).collect();
        let what = words.first().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = Command::new(&self.program);
        command.args(&words).args(&self.common).stdin(Stdio::null());
        let program = || self.program.clone();
        let output = command.output().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HelmError::Missing { program: program() },
            _ => HelmError::Start { program: program(), source },
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(complaint(what, &String::from_utf8_lossy(&output.stderr)))
    }

    /// The release of this name; none when there is none.
    pub(super) fn release(&self, name: &str) -> Result<Option<Release>, HelmError> {
        let filter = format!("^{name}$");
        let said = self.run(&["list", "--all", "--output", "json", "--filter", &filter])?;
        let all: Vec<Release> = serde_json::from_str(&said).map_err(HelmError::Unreadable)?;
        Ok(all.into_iter().next())
    }

    /// Whether templates that are only rendered may look into the cluster.
    pub(super) fn looks_up(&self) -> bool {
        self.version >= LOOKS_UP
    }
}

/// Values that a schema refuses are the user's to mend, and are listed; everything else is told as Helm says it.
fn complaint(what: String, said: &str) -> HelmError {
    if let Some((_, faults)) = said.split_once(REFUSED) {
        // A chart's own words: named as the user does, with what to do.
        let faults = faults.lines().filter_map(|it| it.trim().strip_prefix("- "));
        return HelmError::Values { said: faults.map(|it| format!("\n  {it}")).collect() };
    }
    if !said.contains("values don't meet the specifications of the schema") {
        let said = said.trim().trim_start_matches("Error: ").to_owned();
        return HelmError::Failed { what, said };
    }
    let mut lines: Vec<String> = Vec::new();
    let mut chart = "";
    for line in said.lines().map(str::trim) {
        match line.strip_prefix("- ") {
            Some(fault) => {
                let fault = refused(chart, fault);
                // What is for all charts is refused by each.
                if !lines.contains(&fault) {
                    lines.push(fault);
                }
            }
            None if line.ends_with(':') && !line.contains(' ') => chart = line.trim_end_matches(':'),
            None => {}
        }
    }
    let said = if lines.is_empty() { format!(" {}", said.trim()) } else { lines.concat() };
    HelmError::Values { said }
}

/// The value as the user names it, and what is wrong with it: `at '/a/b': why` of a chart is `chart.a.b: why`. Older
/// versions of Helm say `a.b: why`.
fn refused(chart: &str, fault: &str) -> String {
    let pointed = fault.strip_prefix("at '").and_then(|it| it.split_once("': "));
    let (place, why) = match pointed {
        Some((pointer, why)) => (pointer.trim_start_matches('/').replace('/', "."), why),
        None => fault.split_once(": ").map_or((String::new(), fault), |(place, why)| (place.to_owned(), why)),
    };
    let of_all = chart == "ambit" || place == "global" || place.starts_with("global.");
    let place = match (of_all, place.is_empty()) {
        (true, true) => "values".to_owned(),
        (true, false) => place,
        (false, true) => chart.to_owned(),
        (false, false) => format!("{chart}.{place}"),
    };
    format!("\n  {place}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which() -> Which {
        Which { kubeconfig: None, context: Some("c".into()), istio_namespace: "mesh".into() }
    }

    /// A program that says what it is told to.
    fn played(script: &str) -> (tempfile::TempDir, HelmArgs) {
        let folder = tempfile::tempdir().unwrap();
        let program = crate::cluster::install::tests::played(folder.path(), script);
        (folder, HelmArgs { helm: Some(program) })
    }

    #[test]
    fn a_helm_that_is_missing_or_too_old_is_named_with_what_to_do() {
        let missing = HelmArgs { helm: Some("/nonexistent/helm".into()) };
        let error = Helm::find(&missing, &which()).unwrap_err();
        assert!(
            matches!(error, HelmError::Missing { .. }) && error.to_string().contains("helm.sh"),
            "{error}"
        );
        for (said, is_good) in
            [("v3.7.2", false), ("v2.17.0", false), ("v3.8.0", true), ("v4.0.1", true), ("?", false)]
        {
            let (_folder, args) = played(&format!("echo {said}"));
            match Helm::find(&args, &which()) {
                Ok(helm) => assert!(is_good && helm.looks_up() == (said == "v4.0.1"), "{said}"),
                Err(HelmError::Old { found, .. }) => assert!(!is_good && found == said),
                Err(error) => panic!("{said}: {error}"),
            }
        }
    }

    #[test]
    fn cluster_and_namespace_are_told_each_time_and_releases_are_read() {
        let list = r#"[{"name":"ambit","namespace":"mesh","revision":"3","updated":"","status":"deployed","chart":"ambit-0.1.0","app_version":"0.1.0"}]"#;
        let script = format!(
            r#"case "$*" in version*) echo v3.14;; list*"--namespace mesh --kube-context c") echo '{list}';; *) echo "$*" >&2; exit 1;; esac"#
        );
        let (_folder, args) = played(&script);
        let helm = Helm::find(&args, &which()).unwrap();
        let release = helm.release("ambit").unwrap().unwrap();
        assert_eq!((release.revision.as_str(), release.status.as_str()), ("3", "deployed"));
        let error = helm.run(&["rollback", "ambit"]).unwrap_err();
        assert_eq!(error.to_string(), "helm rollback: rollback ambit --namespace mesh --kube-context c");
    }

    #[test]
    fn values_that_a_chart_refuses_are_listed_with_what_to_do() {
        let said = "Error: execution error at (ambit/charts/cni/templates/refused.yaml:24:4): these values are refused:\n\
                    - cni.repair.enabled: take it out\n- global.sds: take it out\n\nUse --debug flag to render out invalid YAML\n";
        let error = complaint("template".into(), said);
        assert!(matches!(error, HelmError::Values { .. }), "{error}");
        let wanted =
            "these values are refused:\n  cni.repair.enabled: take it out\n  global.sds: take it out";
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn values_that_a_schema_refuses_are_listed_by_their_names() {
        let said = "Error: values don't meet the specifications of the schema(s) in the following chart(s):\nambit:\n\
                    - at '/global': additional properties 'hubb' not allowed\n- at '': additional properties 'istiod' not allowed\n\
                    ztunnel:\n- at '/global': additional properties 'hubb' not allowed\n- at '/logLevel': 'loud' does not match\n\
                    cni:\n- cniBinDir: Does not match pattern\n";
        let error = complaint("template".into(), said).to_string();
        let lines: Vec<&str> = error.lines().skip(1).map(str::trim).collect();
        let wanted = [
            "global: additional properties 'hubb' not allowed",
            "values: additional properties 'istiod' not allowed",
            "ztunnel.logLevel: 'loud' does not match",
            "cni.cniBinDir: Does not match pattern",
        ];
        assert_eq!(lines, wanted);
    }
}
