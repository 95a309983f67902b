//! Keys fetched once, over HTTP or HTTPS. Owns what is asked of whom: addresses that lead back to this machine or its
//! surroundings are not, whatever a name resolves to; nor does anybody lead us elsewhere.

use std::future::{pending, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use ambit_jwt::{KeySet, KeySetError};
use ambit_model::authentication::KeySource;
use ambit_process::net::{TcpStream, lookup_host};
use ambit_tls::configs::control_plane::ConnectError;
use ambit_tls::configs::web::Web;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HOST};
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::KeySettings;

/// All of one fetch.
const WAIT: Duration = Duration::from_secs(10);
/// Larger answers are not taken; real ones have a few kilobytes.
const LARGEST: usize = 256 << 10;
/// Fetches at a time.
const AT_ONCE: usize = 8;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 3;
/// Where issuers say where their keys are (OpenID Connect Discovery, 4).
const WELL_KNOWN: &str = ".well-known/openid-configuration";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0:?} is no http or https address with a host")]
    Address(String),
    #[error("there is no such source")]
    Nowhere,
    #[error("{0} does not resolve")]
    Resolve(String, #[source] io::Error),
    #[error("{0} is at no address that may be asked; addresses of this machine and link-local ones may not")]
    Forbidden(String),
    #[error("nobody answers at {0}")]
    Connect(String, #[source] io::Error),
    #[error(transparent)]
    Roots(#[from] ConnectError),
    #[error("the exchange broke off")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}, wanted 200")]
    Status(StatusCode),
    #[error("the answer has more than {LARGEST} bytes")]
    TooLarge,
    #[error("no answer within {WAIT:?}")]
    Silent,
    #[error("the issuer does not say where its keys are")]
    Undiscovered,
    #[error("the issuer's own page is of {0:?}")]
    AnotherIssuer(String),
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

/// Fetches keys.
pub(crate) struct Fetcher {
    settings: KeySettings,
    places: Semaphore,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    pub(super) fn new(settings: KeySettings) -> Self {
        Self { settings, places: Semaphore::new(AT_ONCE) }
    }

    pub(super) fn settings(&self) -> &KeySettings {
        &self.settings
    }

    /// Fetches the keys at a source.
    pub(super) async fn fetch(&self, source: &KeySource) -> Result<KeySet, FetchError> {
        let Ok(_place) = self.places.acquire().await else { return Err(FetchError::Silent) };
        let exchange = async {
            match source {
                KeySource::At(address) => self.keys(address).await,
                KeySource::OfIssuer(issuer) => {
                    let page = self.get(&format!("{}/{WELL_KNOWN}", issuer.trim_end_matches('/'))).await?;
                    let page: Discovered =
                        serde_json::from_slice(&page).map_err(|_| FetchError::Undiscovered)?;
                    if *page.issuer != **issuer {
                        return Err(FetchError::AnotherIssuer(page.issuer));
                    }
                    self.keys(&page.jwks_uri).await
                }
                KeySource::Inline(_) | KeySource::Nowhere(_) => Err(FetchError::Nowhere),
            }
        };
        timeout(WAIT, Box::pin(exchange)).await.unwrap_or(Err(FetchError::Silent))
    }

    async fn keys(&self, address: &str) -> Result<KeySet, FetchError> {
        Ok(KeySet::read(&self.get(address).await?)?)
    }

    async fn get(&self, address: &str) -> Result<Bytes, FetchError> {
        let refuse = || FetchError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| refuse())?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(refuse()),
        };
        let host = uri.host().ok_or_else(refuse)?.trim_matches(['[', ']']);
        let tcp = self.connect(host, uri.port_u16().unwrap_or(if secure { 443 } else { 80 })).await?;
        if !secure {
            return Box::pin(exchange(&uri, tcp)).await;
        }
        // Read again each time: the bundle may have been replaced, and this happens rarely.
        let web = Web::new(&self.settings.roots)?;
        let proven = web.prove(host, tcp).await.map_err(|error| FetchError::Connect(host.into(), error))?;
        Box::pin(exchange(&uri, proven)).await
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, FetchError> {
        let found = lookup_host((host, port)).await;
        let found = found.map_err(|error| FetchError::Resolve(host.into(), error))?;
        let allowed = found.filter(|at| self.settings.loopback || may_be_asked(at.ip()));
        let mut failed = None;
        for at in allowed.take(ADDRESSES) {
            match TcpStream::connect(at).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => failed = Some((at, error)),
            }
        }
        Err(match failed {
            Some((at, error)) => FetchError::Connect(named(host, at), error),
            None => FetchError::Forbidden(host.into()),
        })
    }
}

fn named(host: &str, at: SocketAddr) -> String {
    format!("{host} ({at})")
}

/// Whoever writes where keys are, writes where we connect to: never to what only we can reach, as our own ports and
/// what clouds tell their machines at link-local addresses.
fn may_be_asked(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let nowhere =
                ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() || ip.octets()[0] == 0;
            // What a cloud tells its machines, where that is not link-local.
            let told = ip == Ipv4Addr::new(100, 100, 100, 200) || ip == Ipv4Addr::new(168, 63, 129, 16);
            !(ip.is_loopback() || ip.is_link_local() || nowhere || told)
        }
        IpAddr::V6(ip) => {
            let told = ip.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || told)
        }
    }
}

async fn exchange<S>(uri: &Uri, stream: S) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake::<_, String>(TokioIo::new(stream)).await?;
    let authority = uri.authority().map(|it| it.as_str()).unwrap_or_default();
    let host = HeaderValue::try_from(authority).map_err(|_| FetchError::Address(uri.to_string()))?;
    let target = uri.path_and_query().map_or("/", |it| it.as_str());
    let mut request = Request::new(String::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = target.parse().map_err(|_| FetchError::Address(uri.to_string()))?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    let asked = async {
        let response = sender.send_request(request).await?;
        match response.status() {
            StatusCode::OK => whole(response.into_body()).await,
            other => Err(FetchError::Status(other)),
        }
    };
    let kept = async {
        // How it ends is told to whoever asked.
        let _ = connection.await;
        pending::<()>().await;
    };
    tokio::select! {
        came = asked => came,
        () = kept => Err(FetchError::Silent),
    }
}

async fn whole(mut body: Incoming) -> Result<Bytes, FetchError> {
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            if all.len() + data.len() > LARGEST {
                return Err(FetchError::TooLarge);
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(all.freeze())
}

#[cfg(test)]
mod tests;
