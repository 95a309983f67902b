//! Words of the command line, and what is done when an installation fails, against a Helm that is played.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;

use super::*;

#[test]
fn times_are_read_as_helm_reads_them_and_what_is_none_is_refused_with_an_example() {
    for (text, seconds) in [("90s", 90), ("5m", 300), ("1h", 3600), ("7", 7)] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for wrong in ["", "0s", "5 m", "m", "1d", "99999999999999999999h", "25h", "-1s", "1m30s"] {
        assert!(duration(wrong).unwrap_err().contains("for example"), "{wrong}");
    }
}

#[test]
fn a_release_is_called_by_its_revision() {
    assert_eq!((release_name("").as_str(), release_name("blue").as_str()), ("ambit", "ambit-blue"));
}

#[test]
fn what_is_installed_is_not_replaced_by_something_older_unawares() {
    for (there, here, newer) in [
        ("0.2.0", "0.1.0", true),
        ("v1.0.0", "0.9.9", true),
        ("0.1.10", "0.1.9", true),
        ("0.1.0", "0.1.0", false),
        ("0.1.0-rc1", "0.1.0", false),
        ("0.0.9", "0.1.0", false),
        ("latest", "0.1.0", false),
    ] {
        assert_eq!(is_newer(there, here), newer, "{there} {here}");
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: InstallArgs,
}

/// A program in place of Helm; it can be started when this returns. While another test is being forked, that still has
/// the file open for writing, and the kernel would refuse to.
pub(super) fn played(folder: &Path, script: &str) -> PathBuf {
    let program = folder.join("helm");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    while let Err(error) = Command::new(&program).arg("version").output() {
        assert_eq!(error.kind(), io::ErrorKind::ExecutableFileBusy, "{error}");
    }
    program
}

/// What `undo` has Helm do, and what it says, after a release before or none; Helm ends as told.
async fn undone(before: Option<&Release>, words: &[&str], ending: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = format!(
        "case $1 in version) echo v3.14;; list) echo '[]';; *) echo \"$*\" >> {}; {ending};; esac",
        log.display()
    );
    let program = played(folder.path(), &script);
    let config = folder.path().join("config");
    std::fs::write(
        &config,
        r#"{"apiVersion":"v1","kind":"Config","current-context":"x",
        "clusters":[{"name":"x","cluster":{"server":"http://127.0.0.1:1"}}],
        "contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],"users":[{"name":"x","user":{"token":"t"}}]}"#,
    )
    .unwrap();
    let mut line = vec!["x", "--timeout", "90s", "--helm", program.to_str().unwrap()];
    line.extend(["--kubeconfig", config.to_str().unwrap()]);
    line.extend(words);
    let Line { args } = Line::try_parse_from(line).unwrap();
    let helm = Helm::find(&args.helm, &args.which).unwrap();
    let client = args.which.client().await.unwrap();
    let order = Order { args: &args, client: &client, helm: &helm, name: "ambit", before };
    let said = order.undo("it broke".into(), &Steps::begin()).to_string();
    let told = std::fs::read_to_string(&log).unwrap_or_default();
    (told.split(" --namespace").next().unwrap_or_default().to_owned(), said)
}

#[tokio::test]
async fn what_failed_is_taken_back_to_what_was_there_before() {
    let release = Release {
        name: "ambit".into(),
        namespace: "istio-system".into(),
        revision: "3".into(),
        status: "deployed".into(),
        app_version: "0.1.0".into(),
    };
    let (told, said) = undone(None, &[], "exit 0").await;
    assert_eq!(told, "uninstall ambit --wait --timeout 90s");
    assert_eq!(said, "it broke\ntaken back: nothing is installed");
    let (told, said) = undone(Some(&release), &[], "exit 0").await;
    assert_eq!(told, "rollback ambit 3 --wait --timeout 90s");
    assert_eq!(said, "it broke\ntaken back: revision 3 of the release is in force");
    // Helm refused before it began: there is no release to take back.
    let (_, said) = undone(None, &[], "exit 1").await;
    assert_eq!(said, "it broke\nnothing was changed");
    let (_, said) = undone(Some(&release), &[], "echo no >&2; exit 1").await;
    assert_eq!(said, "it broke\nand could not be taken back: helm rollback: no");
    let (told, said) = undone(Some(&release), &["--no-rollback"], "exit 0").await;
    assert_eq!((told.as_str(), said.as_str()), ("", "it broke\nleft as it is, as told"));
}
