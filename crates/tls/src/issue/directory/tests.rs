//! Files that are written, replaced and broken.

use super::*;
use crate::testing::{Authority, Pem, identity};

fn fill(dir: &Path, pem: &Pem) {
    for (name, text) in FILES.iter().zip([&pem.chain, &pem.key, &pem.roots]) {
        let draft = dir.join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, dir.join(name)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn replaced_files_are_seen_and_read_again() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let web = identity("web");
    let directory = Directory::new(dir.path().into(), Terms::default());
    fill(dir.path(), &authority.workload(&web.to_string()));
    let first = directory.issue(&web).await.unwrap();

    let quiet = tokio::time::timeout(POLL_EVERY * 5, directory.changed()).await;
    assert!(quiet.is_err(), "nothing changed");
    fill(dir.path(), &authority.workload(&web.to_string()));
    directory.changed().await;
    let second = directory.issue(&web).await.unwrap();
    assert_ne!(first.chain(), second.chain());
}

#[tokio::test]
async fn files_of_somebody_else_or_half_replaced_are_refused() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let web = identity("web");
    let directory = Directory::new(dir.path().into(), Terms::default());
    assert!(matches!(directory.issue(&web).await, Err(IssueError::File { .. })));
    fill(dir.path(), &authority.workload(&identity("db").to_string()));
    assert!(matches!(directory.issue(&web).await, Err(IssueError::WrongIdentity { .. })));
    assert_eq!(directory.identity().unwrap(), identity("db"));
    std::fs::write(dir.path().join("key.pem"), authority.workload(&web.to_string()).key).unwrap();
    let half = directory.issue(&identity("db")).await;
    assert!(
        matches!(half, Err(IssueError::Unusable(crate::credential::CredentialError::Key(_)))),
        "{half:?}"
    );
    std::fs::write(dir.path().join("key.pem"), "no key").unwrap();
    assert!(matches!(directory.issue(&web).await, Err(IssueError::Unusable(_))));
}
