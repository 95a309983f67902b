//! A control plane for one test: what it publishes, and in which order, is the test's to say. It speaks through the
//! real publisher over TLS; only the script is ours. Signs no certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambit_model::delta::Delta;
use ambit_model::name::Identity;
use ambit_process::net::TcpListener;
use ambit_process::stop::Stop;
use ambit_tls::configs::{Served, control_plane};
use ambit_xds::library::Library;
use ambit_xds::server::{Ads, Caller, StreamView, Streams};
use futures_util::stream::unfold;
use tokio::sync::watch;

use crate::{Namespace, eventually};

/// Long enough for two cores that also compile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A control plane in a namespace, on a thread of its own.
pub struct Plane {
    address: SocketAddr,
    root_pem: String,
    library: watch::Sender<Arc<Library>>,
    streams: Streams,
    stop: Stop,
    caller: Option<Identity>,
}

impl Plane {
    /// Serves what `world` says, on loopback in `namespace`; to whoever comes as if it were proven to be `caller`.
    #[must_use]
    pub fn start(namespace: &Namespace, world: &Delta, caller: Option<Identity>) -> Self {
        Self::start_at((namespace, 0), Arc::new(Library::default().with(world)), caller)
    }

    /// Ends, and begins again at the same address under another certificate, knowing what it knew.
    #[must_use]
    pub fn restart(self, namespace: &Namespace) -> Self {
        self.stop.stop();
        let library = Arc::clone(&self.library.borrow());
        Self::start_at((namespace, self.address.port()), library, self.caller.clone())
    }

    fn start_at((namespace, port): (&Namespace, u16), world: Arc<Library>, caller: Option<Identity>) -> Self {
        let bind = || std::net::TcpListener::bind(("127.0.0.1", port));
        let listener = namespace.within(|| eventually(PATIENCE, bind)).expect("a port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("the address it is bound to");
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let (root_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
        let tls = control_plane::server(root_pem.as_bytes(), key_pem.as_bytes()).expect("TLS");
        let (library, view) = watch::channel(world);
        let stop = Stop::new();
        let identity = caller.clone();
        let admit = move || Ok(Caller { identity: identity.clone(), ..Caller::default() });
        let ads = Ads::new(view, Arc::new(move |_, _| admit()), stop.clone());
        let (streams, until) = (ads.streams(), stop.clone());
        let serve = async move {
            let listener = TcpListener::from_std(listener).expect("a listener on the runtime");
            let connections = unfold(listener, |listener| async {
                let (tcp, _) = listener.accept().await.ok()?;
                Some((Served::accept(Arc::clone(&tls), tcp).await, listener))
            });
            let server = tonic::transport::Server::builder();
            let served =
                server.serve_with_incoming_shutdown(ads.into_service(), connections, until.stopped()).await;
            served.expect("a control plane that serves");
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve);
        });
        Self { address, root_pem, library, streams, stop, caller }
    }

    /// `XDS_ADDRESS` of its clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// `XDS_ROOT_CA` of its clients, as text.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Publishes a change, and waits until a client has it in force. What is published next comes after it.
    pub fn publish(&self, delta: &Delta) {
        self.library.send_modify(|library| *library = Arc::new(library.with(delta)));
        let generation = self.library.borrow().generation();
        let is_at = |stream: &StreamView| {
            stream.is_in_step() && stream.types.values().any(|each| each.answered == Some(generation))
        };
        let caught_up = || {
            let streams = self.streams.view();
            if !streams.is_empty() && streams.iter().all(is_at) { Ok(()) } else { Err(streams) }
        };
        eventually(PATIENCE, caught_up).expect("clients that acknowledge");
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.stop();
    }
}
