//! TLS that a waypoint begins to endpoints (`waypoint.md` 1.14, 4.5): whom to ask for, and who may answer. Owns which
//! name that is; proving it is the TLS stack's.

use std::net::IpAddr;

use crate::name::Label;

/// No name of DNS is longer (RFC 1035, 2.3.4).
const NAME_MOST: usize = 253;
/// No part of one is longer.
const PART_MOST: usize = 63;

/// How TLS is begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origination {
    /// The name that is asked for; none: the one that the request is for.
    pub server: Option<Label>,
    /// Names of which the endpoint proves one; empty: the one that is asked for.
    pub names: Vec<SubjectName>,
    /// Who vouches for it.
    pub roots: Roots,
    /// The credential whose certificate is shown; none: none is.
    pub shown: Option<Label>,
}

/// A name that a certificate may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SubjectName {
    /// A host's, or an address.
    Host(Box<str>),
    /// A URI, to the letter.
    Uri(Box<str>),
    /// Either of them.
    Any(Box<str>),
}

/// Who vouches for endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Roots {
    /// Those whom the waypoint's machine believes.
    System,
    /// These, as PEM.
    Given(Box<str>),
    /// Those of a credential.
    Credential(Label),
    /// Nobody has to: whoever answers is believed. Somebody asked for this in so many words.
    Unchecked,
}

impl Origination {
    /// The name that is asked for, when a request is for `asked` and goes to an endpoint of `service`. What could be
    /// no host's name is not asked for.
    #[must_use]
    pub fn server<'a>(&'a self, asked: Option<&'a str>, service: &'a str) -> &'a str {
        let given = self.server.as_ref().map(Label::as_str).filter(|it| !it.is_empty());
        given.or_else(|| asked.and_then(host).filter(|it| is_host(it))).unwrap_or(service)
    }
}

/// An authority without its port. Brackets around an address of IPv6 are left out.
#[must_use]
pub fn host(authority: &str) -> Option<&str> {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map(|(address, _)| address);
    }
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(host)
}

/// Whether it is an address, or a name that DNS could know.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let part = |part: &str| {
        let letters = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        !part.is_empty()
            && part.len() <= PART_MOST
            && letters
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok() || text.len() <= NAME_MOST && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_is_asked_for_is_the_one_written_down_or_the_requests_or_the_services() {
        let plain = Origination { server: None, names: Vec::new(), roots: Roots::System, shown: None };
        for (asked, wanted) in [
            (Some("api.example.com"), "api.example.com"),
            (Some("api.example.com:8080"), "api.example.com"),
            (Some("192.0.2.1:80"), "192.0.2.1"),
            (Some("[2001:db8::1]:80"), "2001:db8::1"),
            (Some("[2001:db8::1"), "service"),
            (Some("a b"), "service"),
            (Some("a:b"), "service"),
            (Some("-a.example"), "service"),
            (Some("a..example"), "service"),
            (Some(""), "service"),
            (None, "service"),
        ] {
            assert_eq!(plain.server(asked, "service"), wanted, "{asked:?}");
        }
        let said = Origination { server: Some("said.example".into()), ..plain };
        assert_eq!(said.server(Some("api.example.com"), "service"), "said.example");
    }
}
