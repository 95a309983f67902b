//! Where routes lead connections that nobody looks into (`waypoint.md` 2.17): by weight, and by the server that is asked
//! for with TLS. Owns hearing that name and following the rule; which rule it is `model::http_route` knows.

use std::io;
use std::time::Duration;

use ambit_model::http_route::{Led, Table};
use ambit_model::route::Bound;
use ambit_model::service::AppProtocol;
use ambit_model::tls_hello::{Hello, LONGEST, read};
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::line::Line;
use crate::phases::route::known;
use crate::refused::Refused;
use crate::stream::Inbound;
use crate::upstream::{Chance, is_wildcard};

/// A client of TLS is to begin, and to go on, within this.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// The server that is asked for; none where none is, or TLS is not spoken. What was read is put back.
pub(crate) async fn server(line: &mut Line) -> io::Result<Option<Box<str>>> {
    let mut heard = BytesMut::with_capacity(2048);
    let name = loop {
        match read(&heard) {
            Hello::Tls(name) => break name,
            Hello::Other => break None,
            Hello::Partial => {}
        }
        heard.reserve(LONGEST.min(2048));
        // A client that says nothing waits for a server that nobody can name.
        if timeout(HELLO_WAIT, line.read_buf(&mut heard)).await?? == 0 {
            break None;
        }
    };
    line.put_back(heard.freeze());
    Ok(name)
}

/// Whether it has to be known which server a connection asks for: its way depends on that, or whether it may be.
pub(crate) fn asks_for_server(inbound: &Inbound, table: Option<&Table>) -> bool {
    let of_wildcard = inbound.service().is_some_and(|service| is_wildcard(service.hostname.as_str()));
    let world = inbound.lane.shared.world.load();
    of_wildcard
        || table.is_some_and(|table| table.asks_for_server(&inbound.opening(&world, table)))
        || policies_ask_for_server(inbound)
}

/// Whether a policy looks at it. Of a port where nobody says that TLS is spoken it is not heard: the client may wait for
/// the server to begin, and what policies say of it is read strictly there.
pub(crate) fn policies_ask_for_server(inbound: &Inbound) -> bool {
    let world = inbound.lane.shared.world.load();
    inbound.protocol() == AppProtocol::Tls
        && world.request_policies_of(&inbound.targets).iter().any(|policy| policy.asks_for_server())
}

/// Where a connection goes: as a rule says, or on to what it was opened to, if no rule is for it.
pub(crate) fn target(inbound: &Inbound, table: Option<&Table>) -> Result<Bound, Refused> {
    let Some(table) = table else { return Ok(inbound.bound.clone()) };
    let world = inbound.lane.shared.world.load();
    let found = match table.lead(&inbound.opening(&world, table), inbound.server()) {
        Led::Unsaid => return Ok(inbound.bound.clone()),
        Led::Nobody => return Err(Refused::NoRoute),
        Led::Found(found) => found,
    };
    if let Err(why) = &found.rule.filters {
        return Err(Refused::Broken(why.to_string()));
    }
    let backend = found.rule.backend(&mut Chance).map_err(|none| Refused::Broken(none.to_string()))?;
    let to = backend.to.as_ref().map_err(|why| Refused::Broken(why.to_string()))?;
    known(&world, to).ok_or_else(|| Refused::Broken(format!("the backend {to} is not known")))
}
