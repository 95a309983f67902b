//! Lines of access logs: a text with operators, or an object of JSON whose values are such texts. Owns both ways to write
//! what clients choose so that it ends neither its line nor its quotes, and how lines are where nobody says.

use std::fmt::Write;

use http::HeaderName;

use super::{Seen, Shown, Template, TemplateError};
use crate::name::Label;

/// Written where nothing is known.
const ABSENT: &str = "-";

/// A line where somebody asks for Envoy's, and says no more.
const USUAL: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
    \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% \
    %ROUTE_NAME%";

/// The same as an object.
const FIELDS: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];

/// How lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFormat {
    /// What a line is.
    pub of: LineKind,
    /// Whether what is not known is left out, instead of `-` or `null` in its place.
    pub omit_empty: bool,
}

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineKind {
    /// A text.
    Text(Template),
    /// An object of JSON, with these members.
    Json(Vec<(Label, Template)>),
}

impl LineFormat {
    /// Envoy's line, as a text.
    ///
    /// # Errors
    /// Never: it reads.
    pub fn usual_text() -> Result<Self, TemplateError> {
        Ok(Self { of: LineKind::Text(USUAL.parse()?), omit_empty: false })
    }

    /// Envoy's line, as an object.
    ///
    /// # Errors
    /// Never: it reads.
    pub fn usual_json() -> Result<Self, TemplateError> {
        let fields = FIELDS.into_iter().map(|(name, text)| Ok((name.into(), text.parse()?)));
        Ok(Self { of: LineKind::Json(fields.collect::<Result<_, TemplateError>>()?), omit_empty: false })
    }

    /// Operators that nobody here knows.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.templates().flat_map(Template::unknown)
    }

    /// Headers of requests that it is made of.
    pub fn request_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.templates().flat_map(Template::request_headers)
    }

    /// Headers of answers that it is made of.
    pub fn response_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.templates().flat_map(Template::response_headers)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let (one, all) = match &self.of {
            LineKind::Text(template) => (Some(template), &[][..]),
            LineKind::Json(fields) => (None, fields.as_slice()),
        };
        one.into_iter().chain(all.iter().map(|(_, template)| template))
    }

    /// The line of a request, without its end.
    pub fn line(&self, seen: &impl Seen) -> String {
        let absent = if self.omit_empty { "" } else { ABSENT };
        match &self.of {
            LineKind::Text(template) => {
                let mut line = template.written(seen, absent, plain);
                line.truncate(line.trim_end_matches('\n').len());
                line
            }
            LineKind::Json(fields) => {
                let mut line = String::from("{");
                for (name, template) in fields {
                    self.member(&mut line, (name, template), seen);
                }
                line.push('}');
                line
            }
        }
    }

    /// Numbers are numbers, where nothing stands beside them.
    fn member(&self, line: &mut String, (name, template): (&Label, &Template), seen: &impl Seen) {
        let value = match template.only().map(|it| it.value(seen)) {
            Some(None) if self.omit_empty => return,
            Some(None) => "null".to_owned(),
            Some(Some(Shown::Number(number))) => number.to_string(),
            Some(Some(Shown::Text(text))) => quoted(&text),
            None => {
                let absent = if self.omit_empty { "" } else { ABSENT };
                quoted(&template.written(seen, absent, |text, to| to.push_str(text)))
            }
        };
        if line.len() > 1 {
            line.push(',');
        }
        line.push_str(&quoted(name.as_str()));
        line.push(':');
        line.push_str(&value);
    }
}

/// So that it ends neither a line nor quotes around it.
fn plain(text: &str, to: &mut String) {
    for c in text.chars() {
        // Writing into a text does not fail.
        let _ = match c {
            '"' | '\\' => write!(to, "\\{c}"),
            c if c.is_control() => write!(to, "\\x{:02x}", u32::from(c)),
            c => to.write_char(c),
        };
    }
}

/// As a string of JSON (RFC 8259, 7).
fn quoted(text: &str) -> String {
    let mut to = String::with_capacity(text.len() + 2);
    to.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(to, "\\{c}"),
            c if c.is_control() => write!(to, "\\u{:04x}", u32::from(c)),
            c => to.write_char(c),
        };
    }
    to.push('"');
    to
}
