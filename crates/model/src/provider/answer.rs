//! What an authorizer's answer means for the request that it was asked about (`waypoint.md` 4.8, 2.10). Owns reading one
//! that came over HTTP: pure. One that came by gRPC is read by whoever knows its messages.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, StatusCode};

use super::changes::{HeaderChange, HeaderChanges, How, QueryChanges};
use super::{OverHttp, Which};

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The request may come in.
    Allowed(Box<Allowed>),
    /// It may not.
    Refused(Box<Refusing>),
}

/// What a yes changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The request's headers.
    pub request: HeaderChanges,
    /// Its query.
    pub query: QueryChanges,
    /// The headers of whatever the client is answered.
    pub back: HeaderChanges,
}

/// What a client is told that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusing {
    /// The status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderChanges,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer that is neither a yes nor a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the authorizer answers {0}")]
pub struct Failed(pub StatusCode);

/// What a client learns of a no in any case, where names are given.
const ALWAYS: [HeaderName; 3] = [CONTENT_TYPE, WWW_AUTHENTICATE, LOCATION];

/// Reads an answer over HTTP: 200 is a yes, and an error of the authorizer's is no no.
///
/// # Errors
/// When it is an error of the authorizer's own.
pub fn from_http(
    how: &OverHttp,
    status: StatusCode,
    (headers, body): (&HeaderMap, Vec<u8>),
) -> Result<Answer, Failed> {
    if status.is_server_error() || status.is_informational() {
        return Err(Failed(status));
    }
    if status == StatusCode::OK {
        return Ok(Answer::Allowed(Box::new(Allowed {
            request: taken(headers, |name| how.onward.holds(name)),
            query: QueryChanges::default(),
            back: taken(headers, |name| how.back.holds(name)),
        })));
    }
    let is_told = |name: &HeaderName| match &how.back_refused {
        // Nobody named any: whatever was said is said on.
        Which::All => true,
        named @ Which::These(_) => named.holds(name) || ALWAYS.contains(name),
    };
    Ok(Answer::Refused(Box::new(Refusing { status, headers: taken(headers, is_told), body })))
}

/// Headers of an answer that become those of another message: a name's first value in the place of what is there. What
/// belongs to the answer itself never does.
fn taken(headers: &HeaderMap, is_it: impl Fn(&HeaderName) -> bool) -> HeaderChanges {
    let mut changes = HeaderChanges::default();
    for name in headers.keys().filter(|name| is_it(name) && **name != HOST && **name != CONTENT_LENGTH) {
        for (at, value) in headers.get_all(name).iter().enumerate() {
            let how = if at == 0 { How::Set } else { How::Append };
            // What belongs to the connection is left out.
            let _ = changes.push(HeaderChange { name: name.clone(), value: value.clone(), how });
        }
    }
    changes
}
