//! Which requests a rule is for (`waypoint.md` 2.2, 2.16). Owns the nouns; how they are compared is `table`'s.

use http::{HeaderName, Method};

use super::{More, Pattern};

/// Demands on a request, which must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// On its path.
    pub path: PathMatch,
    /// On its method; none: any.
    pub method: Option<Method>,
    /// On its headers. Of several of one name only the first counts.
    pub headers: Vec<HeaderMatch>,
    /// On the parameters in its query. Of several of one name only the first counts.
    pub query: Vec<QueryMatch>,
    /// What only VirtualServices demand beside; nearly always nothing, which takes little room.
    pub more: Option<Box<More>>,
}

/// A demand on a path, always case-sensitive and without the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// Equal.
    Exact(Box<str>),
    /// Begins with these elements; a slash at the end of either says nothing.
    Prefix(Box<str>),
    /// Begins with this text, wherever its elements end.
    Begins {
        /// The text.
        text: Box<str>,
        /// Whether letters are the same in either case.
        any_case: bool,
    },
    /// All of it is of this pattern.
    Regex(Pattern),
    /// `/<service>/<method>` of gRPC; what is not given may be anything.
    Grpc {
        /// The service with its package.
        service: Option<ValueMatch>,
        /// The method.
        method: Option<ValueMatch>,
    },
}

/// A demand on a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name.
    pub name: HeaderName,
    /// Its value; of several, all of them joined by commas.
    pub value: ValueMatch,
}

/// A demand on a parameter in the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryMatch {
    /// Its name, case-sensitive.
    pub name: Box<str>,
    /// Its value; of several, the first.
    pub value: ValueMatch,
}

/// How a value is compared; always case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ValueMatch {
    /// Equal.
    Exact(Box<str>),
    /// All of it is of this pattern.
    Regex(Pattern),
    /// Begins with this text.
    Prefix(Box<str>),
    /// There is one.
    Present,
}

impl Default for PathMatch {
    /// Every path.
    fn default() -> Self {
        Self::Prefix("/".into())
    }
}

impl Default for Match {
    /// Every request.
    fn default() -> Self {
        Self { path: PathMatch::default(), method: None, headers: Vec::new(), query: Vec::new(), more: None }
    }
}
