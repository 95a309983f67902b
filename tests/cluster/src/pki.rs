//! Keys and certificates of a cluster, and the files with which its parts talk to the API server.
//! Made anew for each cluster; valid for as long as certificates are by default.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::layout::Layout;
use crate::spec::Spec;

/// Whom a certificate names.
struct Subject<'a> {
    file: &'a str,
    name: String,
    group: Option<&'a str>,
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl<'a> Subject<'a> {
    fn client(file: &'a str, name: &str) -> Self {
        Self { file, name: name.to_owned(), group: None, hosts: Vec::new(), addresses: Vec::new() }
    }
}

/// Makes all of them.
pub fn make(layout: &Layout, spec: &Spec) -> Result<()> {
    for dir in [layout.pki(""), layout.dir().join("kubeconfig")] {
        fs::create_dir_all(dir)?;
    }
    let authority = Authority::new()?;
    write(&layout.pki("ca.crt"), &authority.root)?;
    write(&layout.pki("ca.key"), &authority.key)?;
    // Service account tokens: signed with one half, proven with the other.
    let tokens = KeyPair::generate()?;
    write(&layout.pki("sa.key"), &tokens.serialize_pem())?;
    write(&layout.pki("sa.pub"), &tokens.public_key_pem())?;

    authority.issue(layout, &api_server(spec))?;
    authority.issue(layout, &Subject::client("front-proxy", "front-proxy"))?;
    let admin = Subject { group: Some("system:masters"), ..Subject::client("admin", "admin") };
    for subject in [
        admin,
        Subject::client("kube-controller-manager", "system:kube-controller-manager"),
        Subject::client("kube-scheduler", "system:kube-scheduler"),
        Subject::client("kube-proxy", "system:kube-proxy"),
    ] {
        authority.issue_with_config(layout, spec, &subject)?;
    }
    for (number, node) in spec.each_node() {
        let subject = Subject {
            group: Some("system:nodes"),
            hosts: vec![node.clone()],
            addresses: vec![spec.slot.node(number).into()],
            ..Subject::client(&node, &format!("system:node:{node}"))
        };
        authority.issue_with_config(layout, spec, &subject)?;
    }
    Ok(())
}

fn api_server(spec: &Spec) -> Subject<'static> {
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let slot = spec.slot;
    Subject {
        hosts: names.iter().chain(&["localhost"]).map(|name| (*name).to_owned()).collect(),
        addresses: vec![[127, 0, 0, 1].into(), slot.api_service().into(), slot.plane().into()],
        ..Subject::client("kube-apiserver", "kube-apiserver")
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
    key: String,
}

impl Authority {
    fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ambit-lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let root = params.self_signed(&key)?.pem();
        let key_pem = key.serialize_pem();
        Ok(Self { issuer: Issuer::new(params, key), root, key: key_pem })
    }

    /// Writes `FILE.crt` and `FILE.key`.
    fn issue(&self, layout: &Layout, subject: &Subject<'_>) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(subject.hosts.clone())?;
        params.subject_alt_names.extend(subject.addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject.name.as_str());
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let (certificate, key) = (params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem());
        write(&layout.pki(&format!("{}.crt", subject.file)), &certificate)?;
        write(&layout.pki(&format!("{}.key", subject.file)), &key)?;
        Ok((certificate, key))
    }

    fn issue_with_config(&self, layout: &Layout, spec: &Spec, subject: &Subject<'_>) -> Result<()> {
        let (certificate, key) = self.issue(layout, subject)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": layout.name(), "cluster": {
                "server": format!("https://{}:6443", spec.slot.plane()),
                "certificate-authority-data": STANDARD.encode(&self.root),
            }}],
            "users": [{ "name": subject.file, "user": {
                "client-certificate-data": STANDARD.encode(certificate),
                "client-key-data": STANDARD.encode(key),
            }}],
            "contexts": [{ "name": layout.name(), "context": { "cluster": layout.name(), "user": subject.file }}],
            "current-context": layout.name(),
        });
        write(&layout.kubeconfig(subject.file), &format!("{config:#}\n"))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
