//! How clients stay with their endpoints.

use std::time::Duration;

use ambit_model::http_route::{Kept, Session};

use super::{ms, text};
use crate::convert::ConvertError;
use crate::limits;
use crate::pb::waypoint as pb;
use crate::pb::waypoint::session::Kept as Raw;

pub(super) fn session_from_pb(raw: pb::Session) -> Result<Session, ConvertError> {
    let pb::Session { kept, absolute_ms, idle_ms } = raw;
    let limit = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
    let kept = match kept.ok_or(ConvertError::NoAlternative { field: "session.kept" })? {
        Raw::Header(name) => Kept::Header(super::filters::header_name("session.header", &name)?),
        Raw::Cookie(pb::SessionCookie { name, path, permanent }) => {
            const FIELD: &str = "session.cookie.name";
            let wanted = "a cookie's name";
            let refuse = |_| ConvertError::Value { field: FIELD, value: name.clone(), wanted };
            let path = text("session.cookie.path", limits::ROUTE_TEXT, path)?;
            Kept::Cookie {
                name: name.parse().map_err(refuse)?,
                path: (!path.is_empty()).then(|| path.into()),
                permanent,
            }
        }
    };
    Ok(Session { kept, absolute: limit(absolute_ms), idle: limit(idle_ms) })
}

pub(super) fn session_to_pb(session: &Session) -> pb::Session {
    let Session { kept, absolute, idle } = session;
    let kept = match kept {
        Kept::Header(name) => Raw::Header(name.to_string()),
        Kept::Cookie { name, path, permanent } => Raw::Cookie(pb::SessionCookie {
            name: name.to_string(),
            path: path.as_ref().map(ToString::to_string).unwrap_or_default(),
            permanent: *permanent,
        }),
    };
    pb::Session { kept: Some(kept), absolute_ms: absolute.map_or(0, ms), idle_ms: idle.map_or(0, ms) }
}
