//! What the monitoring address answers while the cluster is still waited for: that the program lives, and is not
//! ready. Without it, the probes of a control plane that starts while the API server is away would end it again and
//! again. Owns that answer only; what is answered afterwards is `admin`'s.

use std::future::ready;
use std::net::SocketAddr;

use ambit_process::admin::{self, text};
use ambit_process::stop::Stop;
use http::{Request, Response, StatusCode};

use crate::run::StartError;
use crate::serve;

/// Waits for `opened`, and answers meanwhile. The address is free again afterwards.
pub(crate) async fn shown<T>(
    address: SocketAddr,
    opened: impl Future<Output = Result<T, StartError>>,
) -> Result<T, StartError> {
    let listener = serve::listen(address)?;
    let answers = admin::serve(listener, |request| ready(answer(&request)), Stop::new());
    tokio::pin!(opened);
    // Cancel-safe: whoever is being answered when it is over asks again.
    tokio::select! {
        opened = &mut opened => opened,
        // Nobody pulls its stop: it does not end by itself.
        () = answers => opened.await,
    }
}

fn answer<B>(request: &Request<B>) -> Response<admin::Body> {
    match request.uri().path() {
        "/version" => text(StatusCode::OK, concat!(env!("CARGO_PKG_VERSION"), "\n")),
        "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready, pending: the cluster\n"),
        _ => text(StatusCode::NOT_FOUND, "not here yet; /ready and /version are\n"),
    }
}
