//! A folder of signing material that somebody else keeps: what is taken at once, what waits, what is refused.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

use super::super::cert::Cert;
use super::super::keeper::{Keeper, KeeperError, Place};
use super::super::root::Recipe;
use super::*;
use crate::metrics::Metrics;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

/// An authority somewhere else, for example a company's.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

fn params(name: &str, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = (start() - HOUR).into();
    params.not_after = (start() + days * DAY).into();
    params
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = params(name, 3000);
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn below(&self, name: &str, days: u32) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = params(name, days);
        Self { pem: params.signed_by(&key, &self.issuer).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub(crate) fn cert(&self) -> Cert {
        Cert::all(&self.pem).unwrap().remove(0)
    }
}

struct Bench {
    folder: TempDir,
    keeper: Keeper,
}

pub(crate) fn put(folder: &Path, files: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

fn open(folder: &Path) -> Result<Keeper, KeeperError> {
    let recipe = Recipe::new("cluster.local".parse().unwrap());
    let place = Place { state: folder.join("state"), plugged: Some(folder.join("cacerts")), recipe };
    Keeper::open(place, Metrics::default(), start())
}

pub(crate) fn files<'a>(signer: &'a Authority, key: &'a str, roots: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("ca-cert.pem", &signer.pem),
        ("ca-key.pem", key),
        ("root-cert.pem", roots),
        ("cert-chain.pem", &signer.pem),
    ]
}

impl Bench {
    fn new(signer: &Authority, roots: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        put(&folder.path().join("cacerts"), &files(signer, &signer.key(), roots));
        let keeper = open(folder.path()).unwrap();
        Self { folder, keeper }
    }

    fn put(&mut self, signer: &Authority, roots: &str, now: SystemTime) {
        put(&self.folder.path().join("cacerts"), &files(signer, &signer.key(), roots));
        self.keeper.look(now);
    }

    fn signer(&self) -> Cert {
        self.keeper.rotation().current().certificate().clone()
    }

    fn roots(&self) -> Vec<Cert> {
        Cert::all(&std::fs::read_to_string(self.folder.path().join("state/root-cert.pem")).unwrap()).unwrap()
    }
}

#[test]
fn an_answer_holds_the_leaf_each_intermediate_by_itself_and_the_roots_as_one() {
    let root = Authority::root("root");
    let middle = root.below("middle", 2000);
    let signer = middle.below("signer", 1000);
    let folder = tempfile::tempdir().unwrap();
    let key = signer.key();
    let mut given = files(&signer, &key, &root.pem);
    let chain = signer.pem.clone() + &middle.pem;
    given[3].1 = &chain;
    put(&folder.path().join("cacerts"), &given);
    let keeper = open(folder.path()).unwrap();
    let signing = Arc::clone(&keeper.newest().borrow());
    let pair = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
    let who = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    let answer = signing.answer(&csr, &who, 0, start()).unwrap();
    let certs: Vec<_> = answer.iter().map(|pem| Cert::all(pem).unwrap()).collect();
    assert_eq!(certs[1..], [vec![signer.cert()], vec![middle.cert()], vec![root.cert()]]);
    assert!(certs[0][0].is_signed_by(&signer.cert()));
    assert!(answer.iter().all(|pem| pem.ends_with('\n')));
}

#[test]
fn cert_managers_names_are_read_as_well() {
    let root = Authority::root("root");
    let signer = root.below("signer", 1000);
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = (signer.pem.clone() + &root.pem, signer.key());
    put(&folder.path().join("cacerts"), &[("tls.crt", &chain), ("tls.key", &key), ("ca.crt", &root.pem)]);
    let keeper = open(folder.path()).unwrap();
    assert_eq!(*keeper.rotation().current().certificate(), signer.cert());
    assert_eq!(*keeper.rotation().current().above(), [signer.cert()], "the root is not sent with a leaf");
}

#[test]
fn another_signer_under_the_same_root_signs_at_once() {
    let root = Authority::root("root");
    let (one, two) = (root.below("one", 1000), root.below("two", 1000));
    let mut bench = Bench::new(&one, &root.pem);
    bench.put(&two, &root.pem, start() + HOUR);
    assert_eq!((bench.signer(), bench.roots()), (two.cert(), vec![root.cert()]));
}

#[test]
fn a_signer_under_a_root_that_nobody_was_told_of_waits_until_all_were() {
    let (old, new) = (Authority::root("old"), Authority::root("new"));
    let (one, two) = (old.below("one", 1000), new.below("two", 1000));
    let mut bench = Bench::new(&one, &old.pem);
    bench.put(&two, &new.pem, start());
    assert_eq!((bench.signer(), bench.roots().len()), (one.cert(), 2), "announced");
    bench.keeper.look(start() + 47 * HOUR);
    assert_eq!(bench.signer(), one.cert());
    bench.keeper.look(start() + 48 * HOUR);
    assert_eq!((bench.signer(), bench.roots().len()), (two.cert(), 2));
    bench.keeper.look(start() + 72 * HOUR);
    assert_eq!((bench.signer(), bench.roots()), (two.cert(), vec![new.cert()]));
}

#[test]
fn a_root_that_was_added_to_the_bundle_in_time_needs_no_second_wait() {
    let (old, new) = (Authority::root("old"), Authority::root("new"));
    let (one, two) = (old.below("one", 1000), new.below("two", 1000));
    let both = old.pem.clone() + &new.pem;
    let mut bench = Bench::new(&one, &old.pem);
    bench.put(&one, &both, start());
    assert_eq!(bench.roots().len(), 2);
    bench.put(&two, &both, start() + 20 * HOUR);
    assert_eq!(bench.signer(), one.cert(), "told of 20 hours ago");
    bench.keeper.look(start() + 48 * HOUR);
    assert_eq!(bench.signer(), two.cert(), "48 hours after it was told of");
}

#[test]
fn bad_material_is_refused_by_name_and_the_last_good_one_stays() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let signer = root.below("signer", 1000);
    let (key, foreign) = (signer.key(), other.key());
    let short = root.below("short", 1);
    let short_key = short.key();
    let mut leaf = CertificateParams::default();
    leaf.is_ca = IsCa::ExplicitNoCa;
    (leaf.not_before, leaf.not_after) = ((start() - HOUR).into(), (start() + 900 * DAY).into());
    let leaf_key = KeyPair::generate().unwrap();
    let (leaf, leaf_key) = (leaf.signed_by(&leaf_key, &root.issuer).unwrap().pem(), leaf_key.serialize_pem());
    let cases: [([&str; 4], &str); 7] = [
        ([&signer.pem, &foreign, &root.pem, ""], "ca-key.pem is not the key"),
        ([&signer.pem, "no key", &root.pem, ""], "ca-key.pem holds no usable private key"),
        (["", &key, &root.pem, ""], "ca-cert.pem holds no readable certificates"),
        ([&signer.pem, &key, "nonsense", ""], "root-cert.pem holds no readable certificates"),
        ([&signer.pem, &key, &other.pem, ""], "is proved by no root"),
        ([&short.pem, &short_key, &root.pem, ""], "is not valid at this time"),
        ([&leaf, &leaf_key, &root.pem, ""], "not a certificate authority's"),
    ];
    let now = start() + 2 * DAY;
    let mut bench = Bench::new(&signer, &root.pem);
    let folder = bench.folder.path().join("cacerts");
    let names = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"];
    for (texts, told) in cases {
        let given: Vec<_> = names.into_iter().zip(texts).collect();
        put(&folder, &given);
        let error = Plugged::new(&folder).look(now).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        bench.keeper.look(now);
        assert_eq!((bench.signer(), bench.roots()), (signer.cert(), vec![root.cert()]), "{told}");
    }
    std::fs::remove_file(folder.join("ca-key.pem")).unwrap();
    let error = Plugged::new(&folder).look(now).unwrap_err().to_string();
    assert!(error.contains("but not ca-key.pem"), "{error}");
    bench.keeper.look(now);
    assert_eq!(bench.signer(), signer.cert());
    let two = root.below("two", 1000);
    bench.put(&two, &root.pem, now);
    assert_eq!(bench.signer(), two.cert(), "good again");
}

#[test]
fn half_a_folder_keeps_it_from_starting_and_an_empty_one_means_a_root_of_our_own() {
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::root("root");
    put(&folder.path().join("cacerts"), &[("ca-cert.pem", &root.pem)]);
    let refused = open(folder.path()).err().map(|it| it.to_string()).unwrap_or_default();
    assert!(refused.contains("holds ca-cert.pem but not ca-key.pem"), "{refused}");
    std::fs::remove_file(folder.path().join("cacerts/ca-cert.pem")).unwrap();
    assert_ne!(*open(folder.path()).unwrap().rotation().current().certificate(), root.cert());
}
