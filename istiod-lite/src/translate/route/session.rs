//! How clients of a rule stay with their endpoints (`waypoint.md` 2.13).

use std::time::Duration;

use ambit_cluster::kinds::route::{SessionPersistence, duration};
use ambit_model::http_route::{Broken, CookieName, HeaderEdits, Kept, Session};
use http::{HeaderName, HeaderValue};

use super::Reader;

/// What cookies and headers are called that nobody has named.
const COOKIE: &str = "ambit-session";
const HEADER: &str = "x-ambit-session";

impl Reader<'_> {
    /// What is kept of a rule's sessions; none: nothing.
    pub(super) fn session(&mut self, it: Option<&SessionPersistence>) -> Result<Option<Session>, Broken> {
        let Some(it) = it else { return Ok(None) };
        let kept = match it.kind.as_str() {
            "Header" => Kept::Header(self.header_of_session(it)?),
            "Cookie" | "" => self.cookie_of_session(it)?,
            kind => return Err(self.unsupported(&format!("sessionPersistence.type is not {kind}"))),
        };
        let absolute = self.time_of_session("absoluteTimeout", it.absolute_timeout.as_deref())?;
        let idle = self.time_of_session("idleTimeout", it.idle_timeout.as_deref())?;
        if matches!(kept, Kept::Cookie { permanent: true, .. }) && absolute.is_none() {
            let text = "sessionPersistence: a permanent cookie needs absoluteTimeout";
            return Err(self.unsupported(text));
        }
        Ok(Some(Session { kept, absolute, idle }))
    }

    fn header_of_session(&mut self, it: &SessionPersistence) -> Result<HeaderName, Broken> {
        let own = it.header.as_ref().map(|it| it.name.as_str()).filter(|it| !it.is_empty());
        let text = own.or_else(|| it.name()).unwrap_or(HEADER);
        let name: HeaderName = text.parse().map_err(|_| self.unnamed(text))?;
        // What nobody may change, no token may be in either.
        let free = HeaderEdits::default().set(name.clone(), HeaderValue::from_static("x")).is_ok();
        if free { Ok(name) } else { Err(self.unnamed(text)) }
    }

    fn cookie_of_session(&mut self, it: &SessionPersistence) -> Result<Kept, Broken> {
        let cookie = it.cookie();
        let own = Some(cookie.name.as_str()).filter(|it| !it.is_empty());
        let text = own.or_else(|| it.name()).unwrap_or(COOKIE);
        let name: CookieName = text.parse().map_err(|_| self.unnamed(text))?;
        let path = Some(cookie.path.as_str()).filter(|it| !it.is_empty());
        let is_path = |it: &&str| {
            it.starts_with('/')
                && it.len() <= 1024
                && it.bytes().all(|it| it.is_ascii_graphic() && it != b';')
        };
        if let Some(path) = path.filter(|it| !is_path(it)) {
            return Err(self.unsupported(&format!("sessionPersistence: {path:?} is no path of a cookie")));
        }
        let permanent = match cookie.lifetime_type.as_str() {
            "" | "Session" => false,
            "Permanent" => true,
            other => {
                return Err(self.unsupported(&format!("sessionPersistence: no cookie's lifetime is {other}")));
            }
        };
        Ok(Kept::Cookie { name, path: path.map(Into::into), permanent })
    }

    fn unnamed(&mut self, text: &str) -> Broken {
        self.unsupported(&format!("sessionPersistence: {text:?} cannot be what a session is kept in"))
    }

    fn time_of_session(&mut self, field: &str, text: Option<&str>) -> Result<Option<Duration>, Broken> {
        let Some(text) = text else { return Ok(None) };
        let time = duration(text);
        let time = time.ok_or_else(|| {
            self.unsupported(&format!("sessionPersistence.{field}: {text:?} is no duration, such as 1h"))
        })?;
        // None at all is what 0 says.
        Ok((!time.is_zero()).then_some(time))
    }
}
