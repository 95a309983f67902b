//! What is known of a request when it is judged. Owns how claims of tokens are read; who may be believed about them is
//! decided before.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, Method};

use crate::http_path::NormalPath;
use crate::name::Identity;

/// What is known of a connection, and of the request on it.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Who is at the other end; none: nobody proved anything.
    pub peer: Option<&'a Identity>,
    /// Where the connection comes from.
    pub from: IpAddr,
    /// Where the request comes from, as those say who passed it on.
    pub remote: IpAddr,
    /// The address and the service's port that were dialled.
    pub to: SocketAddr,
    /// The name asked for with TLS.
    pub sni: Option<&'a str>,
    /// The request; none: this is no HTTP, or none that anybody can see.
    pub http: Option<Http<'a>>,
    principal: OnceCell<String>,
}

/// What is known of a request.
#[derive(Debug, Clone, Copy)]
pub struct Http<'a> {
    /// The host as it was sent.
    pub host: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The path.
    pub path: &'a NormalPath<'a>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// A token that was checked.
    pub token: Option<&'a Token>,
}

/// A token that was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Token {
    /// Who issued it.
    pub issuer: Box<str>,
    /// Whom it names.
    pub subject: Box<str>,
    /// What it claims, those included.
    pub claims: BTreeMap<Box<str>, Claim>,
}

/// Something that a token claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A text.
    Text(Box<str>),
    /// Several.
    List(Vec<Self>),
    /// Claims by name.
    Object(BTreeMap<Box<str>, Self>),
    /// A whole number: no policy compares it.
    Whole(i64),
    /// Yes or no: no policy compares it.
    Truth(bool),
    /// Another number, or nothing.
    Other,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Claims that are lists of words.
const WORDS: [&str; 2] = ["scope", "permission"];

impl<'a> Facts<'a> {
    /// What is known of a connection; the rest may be filled in.
    #[must_use]
    pub fn new(peer: Option<&'a Identity>, from: IpAddr, to: SocketAddr) -> Self {
        Self { peer, from, remote: from, to, sni: None, http: None, principal: OnceCell::new() }
    }

    /// The peer's identity without its scheme.
    pub(crate) fn principal(&self) -> Option<&str> {
        let peer = self.peer?;
        let made = || format!("{}/ns/{}/sa/{}", peer.trust_domain, peer.namespace, peer.service_account);
        Some(self.principal.get_or_init(made))
    }
}

impl<'a> Http<'a> {
    /// A header's value; of several, all of them joined. Of bytes that are no text, what is left of them.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<Cow<'a, str>> {
        let mut values = self.values(name);
        let first = values.next()?;
        Some(values.fold(first, |joined, value| Cow::Owned(format!("{joined},{value}"))))
    }

    /// A header's values, each as it came.
    pub(crate) fn values(&self, name: &HeaderName) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        self.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()))
    }
}

impl Token {
    /// A claim, by its path.
    #[must_use]
    pub fn claim(&self, path: &[Box<str>]) -> Option<&Claim> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.claims.get(first)?, |claim, name| match claim {
            Claim::Object(members) => members.get(name),
            Claim::Text(_) | Claim::List(_) | Claim::Whole(_) | Claim::Truth(_) | Claim::Other => None,
        })
    }

    /// The texts of a claim, by its path.
    #[must_use]
    pub fn texts(&self, path: &[Box<str>]) -> Vec<&str> {
        let Some((first, rest)) = path.split_first() else { return Vec::new() };
        let claim = self.claim(path);
        let in_words = rest.is_empty() && WORDS.contains(&&**first);
        match claim {
            Some(Claim::Text(text)) if in_words => text.split(' ').filter(|word| !word.is_empty()).collect(),
            Some(Claim::Text(text)) => vec![text],
            Some(Claim::List(list)) => list.iter().filter_map(Claim::text).collect(),
            Some(Claim::Object(_) | Claim::Whole(_) | Claim::Truth(_) | Claim::Other) | None => Vec::new(),
        }
    }
}

impl Claim {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(_) | Self::Object(_) | Self::Whole(_) | Self::Truth(_) | Self::Other => None,
        }
    }
}

/// From where a request comes, as the nearest of those says who passed it on.
#[must_use]
pub fn remote(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
    let nearest = last.rsplit(',').next()?.trim();
    let with_port = || nearest.parse::<SocketAddr>().ok().map(|it| it.ip());
    nearest.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_from_where_the_nearest_of_those_says_who_passed_it_on() {
        for (headers, wanted) in [
            (&[][..], None),
            (&["203.0.113.9"][..], Some("203.0.113.9")),
            (&["198.51.100.1, 203.0.113.9"][..], Some("203.0.113.9")),
            (&["198.51.100.1", "203.0.113.9 "][..], Some("203.0.113.9")),
            (&["203.0.113.9:4711"][..], Some("203.0.113.9")),
            (&["2001:db8::1"][..], Some("2001:db8::1")),
            (&["[2001:db8::1]:80"][..], Some("2001:db8::1")),
            (&["203.0.113.9, unknown"][..], None),
        ] {
            let mut map = HeaderMap::new();
            for header in headers {
                map.append(FORWARDED_FOR, header.parse().unwrap());
            }
            assert_eq!(remote(&map), wanted.map(|it| it.parse().unwrap()), "{headers:?}");
        }
    }
}
