//! Revocation lists that somebody else keeps beside their signing material, in `ca-crl.pem` (`control-plane.md` 6.6):
//! told to all namespaces, read by tunnels. Owns reading them again and refusing what tunnels could not read.
//! A list that is taken away stays in force: what was revoked is not made good by silence.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tracing::{error, info};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::text::{Text, read};

/// The file.
const FILE: &str = "ca-crl.pem";

/// As tunnels do: one list for each authority that a mesh believes.
const MOST: usize = 256;

/// Lists of a folder.
pub struct Lists {
    path: PathBuf,
    text: watch::Sender<Option<Arc<str>>>,
    /// The last trouble, told once.
    told: String,
}

impl Lists {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join(FILE), text: watch::Sender::default(), told: String::new() }
    }

    /// The lists, now and in future.
    #[must_use]
    pub fn text(&self) -> Text {
        self.text.subscribe()
    }

    /// Looks once. True when what is there can be told, or nothing is there.
    pub fn look(&mut self) -> bool {
        let trouble = match read(&self.path) {
            Ok(None) => String::new(),
            Ok(Some(text)) => self.take(text),
            Err(error) => error.to_string(),
        };
        if !trouble.is_empty() && trouble != self.told {
            error!(
                target: "ca", path = %self.path.display(), error = trouble,
                "revocation lists not taken; the former ones stay in force"
            );
        }
        self.told = trouble;
        self.told.is_empty()
    }

    /// What is wrong with them.
    fn take(&mut self, text: String) -> String {
        if self.text.borrow().as_deref() == Some(text.as_str()) {
            return String::new();
        }
        let Some(lists) = count(&text) else {
            return "it holds something else; give PEM blocks of X509 CRL, or an empty file".into();
        };
        info!(target: "ca", lists, "revocation lists are told of");
        self.text.send_replace(Some(text.into()));
        String::new()
    }
}

/// How many lists a text holds; none when it holds anything else.
fn count(text: &str) -> Option<usize> {
    let mut count = 0;
    for block in Pem::iter_from_buffer(text.as_bytes()) {
        let block = block.ok().filter(|it| it.label == "X509 CRL" && count < MOST)?;
        let (rest, _) = CertificateRevocationList::from_der(&block.contents).ok()?;
        if !rest.is_empty() {
            return None;
        }
        count += 1;
    }
    (count > 0 || text.trim().is_empty()).then_some(count)
}

#[cfg(test)]
mod tests {
    use ambit_kit::Authority;

    use super::*;

    #[test]
    fn lists_are_told_as_they_are_and_what_is_none_leaves_the_last_good_ones_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let put = |text: &str| std::fs::write(folder.path().join(FILE), text).unwrap();
        let mut lists = Lists::new(folder.path());
        let told = lists.text();
        let now = || told.borrow().as_deref().map(str::to_owned);
        assert!(lists.look() && now().is_none(), "none is there");
        let authority = Authority::new();
        let leaf = authority.issue("spiffe://cluster.local/ns/shop/sa/web");
        let one = authority.revoke(&[leaf.serial]);
        let two = one.clone() + &Authority::new().revoke(&[]);
        for text in [one.as_str(), &two, ""] {
            put(text);
            assert!(lists.look());
            assert_eq!(now().as_deref(), Some(text));
        }
        put(&two);
        lists.look();
        for bad in ["nonsense", authority.root_pem(), &two.replace("MI", "AA"), &two[..two.len() / 2]] {
            put(bad);
            assert!(!lists.look(), "{bad}");
            assert_eq!(now().as_ref(), Some(&two));
        }
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        assert!(lists.look());
        assert_eq!(now(), Some(two), "what was revoked stays revoked");
    }
}
