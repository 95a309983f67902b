//! The part of a URL the pod programs need: `http://host[:port][/path]`.

use std::str::FromStr;

/// Where to ask, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// Name or address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// Why a text is no URL for us.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not of the form http://host[:port][/path]")]
pub(crate) struct UrlError {
    text: String,
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        parse(text).ok_or_else(|| UrlError { text: text.to_owned() })
    }
}

impl Url {
    /// Host and port as a `Host` header and as a thing to connect to.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn parse(text: &str) -> Option<Url> {
    let rest = text.strip_prefix("http://").unwrap_or(text);
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, "/".to_owned()),
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, port) = v6.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map_or(Ok(80), str::parse).ok()?;
    let fine = !host.is_empty() && !path.contains(char::is_whitespace) && !host.contains(char::is_whitespace);
    fine.then(|| Url { host: host.to_owned(), port, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_a_port_and_a_path() {
        for (text, wanted) in [
            ("http://web.shop:8080/a?b=c", Some(("web.shop", 8080, "/a?b=c"))),
            ("http://web", Some(("web", 80, "/"))),
            ("http://[fd00::2]:81", Some(("fd00::2", 81, "/"))),
            ("10.0.0.1:9", Some(("10.0.0.1", 9, "/"))),
            ("http://", None),
            ("http://a:x", None),
            ("http://a/b c", None),
        ] {
            let found = text.parse::<Url>().ok();
            let found = found.as_ref().map(|url| (url.host.as_str(), url.port, url.path.as_str()));
            assert_eq!(found, wanted, "{text}");
        }
    }
}
