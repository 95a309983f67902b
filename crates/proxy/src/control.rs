//! Where the world and certificates come from: control plane, files, tokens. Owns those settings only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambit_model::name::ClusterId;
use ambit_process::clock;
use ambit_process::config::{Faults, Key, Prefix, Source, duration, text};
use ambit_process::tasks::Tasks;
use ambit_tls::configs::control_plane::{ControlPlane, RootSource};
use ambit_tls::credential::Terms;
use ambit_tls::issue::{Ca, CaSettings, Directory, Issuer, Token};
use ambit_tls::vault::Vault;
use http::{HeaderName, HeaderValue};

/// Where the world and certificates come from.
#[derive(Clone)]
pub struct Control {
    /// Discovery; none when it is switched off.
    pub xds: Option<ControlPlane>,
    /// Further headers of discovery.
    pub xds_headers: Vec<(String, String)>,
    /// What we show to the control plane.
    pub token: Token,
    /// What we say of ourselves.
    pub node: NodeFacts,
    /// Where certificates come from.
    pub credentials: Credentials,
    /// A file, or text, with workloads, services and policies.
    pub local: Option<LocalWorld>,
}

/// Workloads, services and policies given beside discovery (`ztunnel.md` 8.7).
#[derive(Debug, Clone)]
pub enum LocalWorld {
    /// In a file.
    File(PathBuf),
    /// As text.
    Inline(String),
}

/// Where certificates come from.
#[derive(Clone)]
pub enum Credentials {
    /// The certificate authority.
    Ca(Box<CaSettings>),
    /// A directory with `cert-chain.pem`, `key.pem` and `root-cert.pem`.
    Directory(PathBuf, Terms),
}

/// What we say of ourselves to the control plane (`ztunnel.md` 8.2).
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// `<kind>~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local`.
    pub id: String,
    /// The `clusterid` header.
    pub cluster: String,
    /// Metadata as texts.
    pub metadata: Vec<(String, String)>,
    /// Metadata as JSON.
    pub json: Vec<(String, serde_json::Value)>,
}

/// What is known of ourselves before the control plane is.
pub struct Us<'a> {
    /// What kind of proxy we are, as the control plane knows it: `ztunnel` or `waypoint`.
    pub kind: &'a str,
    /// Our node.
    pub node: &'a str,
    /// Our cluster.
    pub cluster: &'a ClusterId,
    /// Certificates are asked for in the name of others.
    pub shared: bool,
    /// How peers must prove themselves.
    pub terms: &'a Terms,
}

type Text = Key<Option<String>>;
const fn optional(name: &'static str, about: &'static str) -> Text {
    Key::new(name, about, |t| text(t).map(Some), || None)
}

const XDS_ADDRESS: Text = optional("XDS_ADDRESS", "the control plane; empty switches discovery off");
const CA_ADDRESS: Text = optional("CA_ADDRESS", "the certificate authority");
const KUBERNETES: Text = optional("KUBERNETES_SERVICE_HOST", "set inside a cluster");
const XDS_ROOT: Text = optional("XDS_ROOT_CA", "roots of the control plane: a file, SYSTEM, or PEM");
const CA_ROOT: Text = optional("CA_ROOT_CA", "roots of the certificate authority: a file, SYSTEM, or PEM");
const ALT_XDS: Text = optional("ALT_XDS_HOSTNAME", "a further name the control plane may prove");
const ALT_CA: Text = optional("ALT_CA_HOSTNAME", "a further name the certificate authority may prove");
const AUTH_TOKEN: Text = optional("AUTH_TOKEN", "the token: a file, or the token itself");
const IDENTITY_DIR: Text =
    optional("IDENTITY_DIR", "a directory with our certificate, instead of an authority");
const LOCAL_PATH: Text = optional("LOCAL_XDS_PATH", "a file with workloads, services and policies");
const LOCAL: Text = optional("LOCAL_XDS", "workloads, services and policies as text");
const TTL: Key<Duration> =
    Key::new("SECRET_TTL", "how long certificates shall live", lifetime, || Duration::from_secs(86_400));
const XDS_HEADERS: Prefix = Prefix::new("XDS_HEADER_", "and a name: a further header of discovery");
const CA_HEADERS: Prefix = Prefix::new("CA_HEADER_", "and a name: a further header of certificate requests");
const META: Prefix = Prefix::new("ISTIO_META_", "and a key: a text that the control plane is told of us");
const META_JSON: Prefix =
    Prefix::new("ISTIO_METAJSON_", "and a key: JSON that the control plane is told of us");
const INSTANCE_IP: Text = optional("INSTANCE_IP", "our pod's address");
const POD_NAME: Text = optional("POD_NAME", "our pod's name");
const POD_NAMESPACE: Text = optional("POD_NAMESPACE", "our pod's namespace");

impl Credentials {
    /// The vault that they fill, kept going by a task.
    #[must_use]
    pub fn vault(self, tasks: &mut Tasks) -> Vault {
        match self {
            Self::Ca(settings) => drive(Ca::new(*settings), tasks),
            Self::Directory(path, terms) => drive(Directory::new(path, terms), tasks),
        }
    }
}

fn drive<I: Issuer>(issuer: I, tasks: &mut Tasks) -> Vault {
    let (vault, driver) = Vault::new(issuer, clock::now_system);
    tasks.spawn("certificates", move |stop| async move { driver.run(stop.stopped()).await });
    vault
}

/// Where Kubernetes puts the token and the root.
const TOKEN_FILE: &str = "./var/run/secrets/tokens/istio-token";
const ROOT_FILE: &str = "./var/run/secrets/istio/root-cert.pem";

impl Control {
    /// Reads everything; what is wrong goes to `f`.
    #[must_use]
    pub fn read(source: &dyn Source, f: &mut Faults, us: &Us<'_>) -> Self {
        let token = token(AUTH_TOKEN.read(source, f));
        Self {
            xds: plane(source, f, (&XDS_ADDRESS, &XDS_ROOT, &ALT_XDS), us),
            xds_headers: headers(source, f, XDS_HEADERS),
            credentials: credentials(source, f, &token, us),
            token,
            node: facts(source, f, us),
            local: local(source, f),
        }
    }
}

fn plane(
    source: &dyn Source,
    f: &mut Faults,
    keys: (&Text, &Text, &Text),
    us: &Us<'_>,
) -> Option<ControlPlane> {
    let (address, root, alternative) = keys;
    let default = match KUBERNETES.read(source, f) {
        Some(_) => "https://istiod.istio-system.svc:15012",
        None => "https://localhost:15012",
    };
    let given = address.read(source, f).unwrap_or_else(|| default.into());
    if given.is_empty() {
        return None;
    }
    let (roots, other) = (roots(root.read(source, f)), alternative.read(source, f));
    if let Err(error) = ControlPlane::new(&given, roots.clone(), None) {
        f.add(address.name, given, error.to_string());
        return None;
    }
    match ControlPlane::new(&given, roots, other.as_deref()) {
        Ok(plane) => Some(plane.with(us.terms.algorithms)),
        Err(_) => {
            f.add(alternative.name, other.unwrap_or_default(), "write the name of a host, or its address");
            None
        }
    }
}

fn credentials(source: &dyn Source, f: &mut Faults, token: &Token, us: &Us<'_>) -> Credentials {
    let terms = us.terms.clone();
    if let Some(directory) = IDENTITY_DIR.read(source, f) {
        return Credentials::Directory(directory.into(), terms);
    }
    let Some(control_plane) = plane(source, f, (&CA_ADDRESS, &CA_ROOT, &ALT_CA), us) else {
        if CA_ADDRESS.read(source, f).is_some_and(|address| address.is_empty()) {
            f.add(CA_ADDRESS.name, "", "name an authority, or set IDENTITY_DIR");
        }
        return Credentials::Directory(PathBuf::new(), terms);
    };
    Credentials::Ca(Box::new(CaSettings {
        control_plane,
        token: token.clone(),
        cluster: us.cluster.clone(),
        headers: headers(source, f, CA_HEADERS),
        ttl: TTL.read(source, f),
        impersonate: us.shared,
        terms,
    }))
}

fn lifetime(given: &str) -> Result<Duration, String> {
    match duration(given)? {
        none if none < Duration::from_secs(1) => Err("write 1s or more".into()),
        some => Ok(some),
    }
}

fn roots(given: Option<String>) -> RootSource {
    match given {
        None => RootSource::File(ROOT_FILE.into()),
        Some(text) if text == "SYSTEM" => RootSource::System,
        Some(text) if text.contains("-----BEGIN") => RootSource::Pem(text),
        // A file that is not there yet may come; it is read for each new channel.
        Some(text) => RootSource::File(text.into()),
    }
}

fn token(given: Option<String>) -> Token {
    match given {
        None if Path::new(TOKEN_FILE).exists() => Token::File(TOKEN_FILE.into()),
        None => Token::Absent,
        // Only a path holds a slash: a token is three base64url parts between dots.
        Some(text) if text.contains('/') || Path::new(&text).exists() => Token::File(text.into()),
        Some(text) => Token::Static(text),
    }
}

/// Headers named in the environment. A bad one would end every call, so it is told of at once.
fn headers(source: &dyn Source, f: &mut Faults, prefix: Prefix) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (rest, value) in prefix.read(source) {
        let (key, name) = (format!("{}{rest}", prefix.name), rest.to_ascii_lowercase());
        if HeaderName::try_from(&name).is_err() {
            f.add(key, value, "what follows the prefix is no name of a header");
        } else if HeaderValue::try_from(&value).is_err() {
            f.add(key, value, "no header can have this value; write visible characters");
        } else {
            all.push((name, value));
        }
    }
    all
}

fn local(source: &dyn Source, f: &mut Faults) -> Option<LocalWorld> {
    match (LOCAL_PATH.read(source, f), LOCAL.read(source, f)) {
        (Some(path), None) => Some(LocalWorld::File(path.into())),
        (None, Some(text)) => Some(LocalWorld::Inline(text)),
        (None, None) => None,
        (Some(path), Some(_)) => {
            f.add(LOCAL_PATH.name, path, "give this or LOCAL_XDS, not both");
            None
        }
    }
}

fn facts(source: &dyn Source, f: &mut Faults, us: &Us<'_>) -> NodeFacts {
    let (node, cluster) = (us.node, us.cluster);
    let ip = INSTANCE_IP.read(source, f).unwrap_or_else(|| "1.1.1.1".into());
    let name = POD_NAME.read(source, f).unwrap_or_default();
    let namespace = POD_NAMESPACE.read(source, f).unwrap_or_default();
    let mut metadata: Vec<(String, String)> = vec![
        ("NAME".into(), name.clone()),
        ("NAMESPACE".into(), namespace.clone()),
        ("INSTANCE_IPS".into(), ip.clone()),
        ("NODE_NAME".into(), node.into()),
        ("CLUSTER_ID".into(), cluster.to_string()),
    ];
    metadata.extend(META.read(source).into_iter().filter(|(key, _)| key != "CLUSTER_ID"));
    let mut json = Vec::new();
    for (key, value) in META_JSON.read(source) {
        match serde_json::from_str(&value) {
            Ok(parsed) => json.push((key, parsed)),
            Err(_) => f.add(format!("{}{key}", META_JSON.name), value, "write JSON"),
        }
    }
    let kind = us.kind;
    NodeFacts {
        id: format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        cluster: cluster.to_string(),
        metadata,
        json,
    }
}
