//! TLS to endpoints, in a tunnel or without one, as was said of their service. Owns that it is made once for all who go
//! there, and again when something else is said; what is proven is the TLS stack's. Fails closed: without those who
//! vouch, nothing is sent.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ambit_model::credential::Credential;
use ambit_model::name::Label;
use ambit_model::traffic::{Origination, Roots, host};
use ambit_tls::configs::control_plane::{ConnectError, RootSource};
use ambit_tls::configs::origin::{Origin, Spoken};
use http::Request;
use http::header::HOST;
use tokio::time::timeout;

use super::{Failure, Guide, patience};
use crate::lane::{Lane, Shared};
use crate::line::Line;

/// Why TLS does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unproven {
    /// Those who vouch cannot be had.
    #[error(transparent)]
    Roots(#[from] ConnectError),
    /// What is to be shown, or those who vouch, was not told to us.
    #[error("the secret {name} is not known here")]
    Credential {
        /// Of which secret it is.
        name: Label,
    },
    /// The endpoint does not prove to be who is asked for, or speaks no TLS.
    #[error("{server} is not proven")]
    Proof {
        /// Who is asked for.
        server: Box<str>,
        /// Why.
        #[source]
        error: io::Error,
    },
}

/// How connections to one service begin, as was said last, and with what was told last.
#[derive(Default)]
pub(crate) struct Origins(Mutex<Option<Made>>);

/// What was said and told, and how connections begin by it.
type Made = (Origination, Vec<Arc<Credential>>, Arc<Origin>);

impl Origins {
    fn of(&self, said: &Origination, shared: &Shared) -> Result<Arc<Origin>, Unproven> {
        let own = used(said, shared)?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., origin)) = known.as_ref().filter(|(it, with, _)| it == said && *with == own) {
            return Ok(Arc::clone(origin));
        }
        let named = |name: &Label| own.iter().find(|it| it.name == *name);
        let unusable = |name: &Label| Unproven::Credential { name: name.clone() };
        let roots = match &said.roots {
            Roots::System => Some(shared.roots.clone()),
            Roots::Credential(name) => {
                let roots = named(name).and_then(|it| it.roots.as_deref()).ok_or_else(|| unusable(name))?;
                Some(RootSource::Pem(roots.into()))
            }
            Roots::Given(pem) => Some(RootSource::Pem(pem.to_string())),
            Roots::Unchecked => None,
        };
        let shown = match &said.shown {
            None => None,
            Some(name) => {
                let shown = named(name).and_then(|it| it.shown.as_ref()).ok_or_else(|| unusable(name))?;
                Some((&*shown.chain, shown.key.exposed()))
            }
        };
        let origin = Arc::new(Origin::new(roots.as_ref(), said.names.clone(), shown)?);
        *known = Some((said.clone(), own.clone(), Arc::clone(&origin)));
        Ok(origin)
    }
}

/// The credentials that are named; none where none is. Without one that is, nothing is sent.
fn used(said: &Origination, shared: &Shared) -> Result<Vec<Arc<Credential>>, Unproven> {
    let roots = if let Roots::Credential(name) = &said.roots { Some(name) } else { None };
    if roots.is_none() && said.shown.is_none() {
        return Ok(Vec::new());
    }
    let world = shared.world.load();
    let named = roots.into_iter().chain(&said.shown);
    let one = |name: &Label| {
        world.credential(name.as_str()).cloned().ok_or_else(|| Unproven::Credential { name: name.clone() })
    };
    named.map(one).collect()
}

/// TLS that is to begin, and whom to ask for.
#[derive(Clone)]
pub(crate) struct Begin {
    origin: Arc<Origin>,
    server: Box<str>,
}

impl Begin {
    /// What was said of where something goes that is for `asked`; nothing, if TLS is not begun there.
    pub(crate) fn of(
        lane: &Lane,
        guide: Option<&Guide>,
        asked: Option<&str>,
    ) -> Result<Option<Self>, Failure> {
        let Some((guide, said)) = guide.and_then(|it| Some((it, it.handling()?.tls.as_ref()?))) else {
            return Ok(None);
        };
        let origin = guide.group.origins.of(said, &lane.shared)?;
        Ok(Some(Self { origin, server: said.server(asked, guide.hostname()).into() }))
    }

    /// Tells connections apart that are not each other's.
    pub(super) fn key(&self) -> (Box<str>, u64) {
        (self.server.clone(), self.origin.number())
    }

    /// Begins it.
    pub(crate) async fn on(
        &self,
        line: Line,
        spoken: Spoken,
        guide: Option<&Guide>,
    ) -> Result<Line, Failure> {
        let proven = Box::pin(self.origin.prove(&self.server, spoken, line));
        let came =
            timeout(patience(guide), proven).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let refuse = |error| Unproven::Proof { server: self.server.clone(), error };
        Ok(came.map_err(refuse)?.into())
    }
}

/// The host that a request is for, as it leaves us.
pub(super) fn asked<B>(request: &Request<B>) -> Option<&str> {
    let header = || request.headers().get(HOST)?.to_str().ok();
    request.uri().host().or_else(header).and_then(host)
}
