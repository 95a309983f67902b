//! What an endpoint is told of a connection before anything else on it, where its service's traffic policy wants that: who
//! the client is (`waypoint.md` 4.5). Owns writing it, and that it tells connections apart; its bytes are
//! `ambit_model::traffic`'s.

use std::io;
use std::time::Duration;

use ambit_model::route::Plan;
use ambit_model::traffic::{Ends, Proxied};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::group::Guide;
use super::{Failure, patience};
use crate::line::Line;

/// A header, and for whom. Connections with different ones are different connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Announced {
    version: Proxied,
    /// None: for nobody but ourselves.
    ends: Option<Ends>,
}

impl Announced {
    /// What is told of a connection for these; nothing where nobody wants that, and to no other waypoint or gateway:
    /// whoever is told has to be the endpoint.
    pub(crate) fn of(plan: &Plan, guide: Option<&Guide>, ends: Option<Ends>) -> Option<Self> {
        let version = guide?.handling()?.proxied?;
        matches!(plan, Plan::Tunnel(_) | Plan::Direct(_)).then_some(Self { version, ends })
    }

    /// Tells it.
    pub(crate) async fn tell(self, line: &mut Line, guide: Option<&Guide>) -> Result<(), Failure> {
        let header = self.version.header(self.ends);
        let wait: Duration = patience(guide);
        let told = timeout(wait, async {
            line.write_all(&header).await?;
            line.flush().await
        });
        told.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Failure::Connect)
    }
}
