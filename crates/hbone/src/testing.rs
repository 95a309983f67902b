//! Loopback sockets, certificates of a test authority, and a tunnel's far end for this crate's tests.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ambit_model::address::HopAddr;
use ambit_model::name::Identity;
use ambit_process::net::{TcpListener, TcpStream};
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::credential::{Credential, Material, Terms};
use ambit_tls::issue::{IssueError, Issuer};
use ambit_tls::vault::Vault;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use tokio::sync::Notify;

use crate::Windows;
use crate::accept::{Accepted, Arrival, accept};
use crate::head::{Connect, Opened};
use crate::pool::{Key, Pool, PoolSettings};
use crate::stream::Stream;

/// Validity of test certificates; longer than these tests are kept.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

/// The calendar's time in tests: the start of 2025.
fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_735_689_600)
}

pub(crate) fn identity(account: &str) -> Identity {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}

/// A root that signs whatever identity it is asked for.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Tells the vault that what was issued is outdated.
    pub(crate) outdated: Notify,
    /// When that ends what is signed from now on.
    pub(crate) ends: Mutex<SystemTime>,
}

impl Authority {
    pub(crate) fn new() -> Arc<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Arc::new(Self { issuer, outdated: Notify::new(), ends: Mutex::new(wall() + CENTURY) })
    }

    pub(crate) fn credential(&self, identity: &Identity) -> Credential {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = wall().into();
        params.not_after = (*self.ends.lock().unwrap()).into();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().pem();
        let (key, roots) = (key.serialize_pem(), self.issuer.pem());
        let material = Material::from_pem(leaf.as_bytes(), key.as_bytes(), roots.as_bytes()).unwrap();
        Credential::new(material, &Terms::default()).unwrap()
    }
}

struct Asks(Arc<Authority>);

impl Issuer for Asks {
    async fn issue(&self, identity: &Identity) -> Result<Credential, IssueError> {
        Ok(self.0.credential(identity))
    }
    async fn changed(&self) {
        self.0.outdated.notified().await;
    }
}

/// One machine: an authority, tasks that end with it, a pool that dials as `web`.
pub(crate) struct Bench {
    pub(crate) authority: Arc<Authority>,
    pub(crate) tasks: Tasks,
    pub(crate) vault: Vault,
    pub(crate) pool: Arc<Pool>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Authority::new(), PoolSettings::default())
    }

    pub(crate) fn with(authority: Arc<Authority>, settings: PoolSettings) -> Self {
        let stop = Stop::new();
        let mut tasks = Tasks::new(&stop);
        let (vault, driver) = Vault::new(Asks(Arc::clone(&authority)), wall);
        tasks.spawn("vault", |stop| async move { driver.run(stop.stopped()).await });
        let pool = Arc::new(Pool::new(vault.clone(), settings, &stop));
        Self { authority, tasks, vault, pool }
    }

    /// A far end as `db` that hands each tunnel to `serve`.
    pub(crate) async fn listen<F: Future<Output = ()> + Send>(
        &mut self,
        serve: impl Fn(Accepted, Stop) -> F + Send + Sync + 'static,
    ) -> HopAddr {
        self.listen_as("db", serve).await
    }

    /// A far end as somebody that hands each tunnel to `serve`.
    pub(crate) async fn listen_as<F: Future<Output = ()> + Send>(
        &mut self,
        account: &str,
        serve: impl Fn(Accepted, Stop) -> F + Send + Sync + 'static,
    ) -> HopAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hop = HopAddr::new(listener.local_addr().unwrap());
        let tls = self.authority.credential(&identity(account)).accepting();
        self.tasks.spawn("far end", move |stop| async move {
            let mut tunnels = futures_util::stream::FuturesUnordered::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (tls, stop) = (tls.clone(), stop.clone());
                        let serve = &serve;
                        tunnels.push(async move {
                            if let Ok(accepted) = accept(accepted.unwrap().0, tls, Windows::default()).await {
                                serve(accepted, stop).await;
                            }
                        });
                    }
                    Some(()) = futures_util::StreamExt::next(&mut tunnels) => {}
                }
            }
        });
        hop
    }

    pub(crate) fn key(&self, hop: HopAddr) -> Key {
        Key { source: identity("web"), source_ip: None, hop, expect: Arc::from([identity("db")]) }
    }

    /// Opens a stream, dialling over plain loopback.
    pub(crate) async fn open(&self, hop: HopAddr) -> Result<crate::pool::Carried, crate::pool::OpenError> {
        let connect = move || async move { TcpStream::connect(hop.socket()).await };
        self.pool.open(&self.key(hop), &head(), connect).await
    }
}

pub(crate) fn head() -> Connect {
    Connect {
        authority: "10.0.0.1:80".parse().unwrap(),
        baggage: crate::head::Baggage::default(),
        forwarded: None,
        trace: None,
        network: None,
        for_stranger: false,
    }
}

/// Opens whatever arrives, unless the client has left.
pub(crate) fn opened(arrival: Arrival) -> Option<Stream> {
    arrival.open(&Opened::default()).ok()
}

/// Both ends of a loopback connection.
pub(crate) async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}
