//! An authority that is somebody else's, over the network, as cert-manager's is to a mesh: another root than the control
//! plane's, its own serving certificate, Istio's protocol. Signs for whoever shows its token; decides nothing else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambit_process::net::TcpListener;
use ambit_process::stop::Stop;
use ambit_tls::configs::{Served, control_plane};
use ambit_wire::pb::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use ambit_wire::pb::auth::{IstioCertificateRequest, IstioCertificateResponse};
use futures_util::stream::unfold;
use tonic::{Request, Response, Status};

use crate::{Authority, Namespace, eventually};

/// Long enough for two cores that also compile.
const PATIENCE: Duration = Duration::from_secs(60);

/// The authority's server in a namespace, on a thread of its own.
pub struct Signatory {
    address: SocketAddr,
    root_pem: String,
    service: Service,
    stop: Stop,
}

#[derive(Clone)]
struct Service {
    authority: Arc<Authority>,
    token: Arc<str>,
    who: Arc<str>,
    /// Certificates given, and callers refused.
    counts: Arc<Mutex<(usize, usize)>>,
}

impl Signatory {
    /// Signs under this authority as `who` for those who show `token`, on loopback in `namespace`.
    #[must_use]
    pub fn start(namespace: &Namespace, authority: Arc<Authority>, (token, who): (&str, &str)) -> Self {
        let bind = || std::net::TcpListener::bind(("127.0.0.1", 0));
        let listener = namespace.within(|| eventually(PATIENCE, bind)).expect("a port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("the address it is bound to");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let (root_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
        let tls = control_plane::server(root_pem.as_bytes(), key_pem.as_bytes()).expect("TLS");
        let (service, stop) = (
            Service { authority, token: token.into(), who: who.into(), counts: Arc::default() },
            Stop::new(),
        );
        let (serving, until) = (IstioCertificateServiceServer::new(service.clone()), stop.clone());
        let serve = async move {
            let listener = TcpListener::from_std(listener).expect("a listener on the runtime");
            let connections = unfold(listener, |listener| async {
                let (tcp, _) = listener.accept().await.ok()?;
                Some((Served::accept(Arc::clone(&tls), tcp).await, listener))
            });
            let server = tonic::transport::Server::builder();
            let served = server.serve_with_incoming_shutdown(serving, connections, until.stopped()).await;
            served.expect("an authority that serves");
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve);
        });
        Self { address, root_pem, service, stop }
    }

    /// `CA_ADDRESS` of its clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// `CA_ROOT_CA` of its clients, as text: not the root that it signs under.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// How many certificates it has given, and how many callers it has refused.
    ///
    /// # Panics
    /// When a call before panicked.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        *self.service.counts.lock().expect("counts")
    }
}

impl Drop for Signatory {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let shown = request.metadata().get("authorization").and_then(|it| it.to_str().ok());
        if shown.and_then(|it| it.strip_prefix("Bearer ")) != Some(&self.token) {
            self.counts.lock().expect("counts").1 += 1;
            return Err(Status::unauthenticated("another token"));
        }
        let leaf = self.authority.sign(&request.into_inner().csr, &self.who);
        self.counts.lock().expect("counts").0 += 1;
        let cert_chain = vec![leaf, self.authority.root_pem().to_owned()];
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}
