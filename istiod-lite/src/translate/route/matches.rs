//! Which requests a rule is for (`waypoint.md` 2.2, 2.16).

use ambit_cluster::kinds::route::{GrpcMatch, HttpMatch, NamedMatch, PathMatch as PathObject};
use ambit_model::http_route::{Broken, HeaderMatch, Match, PathMatch, Pattern, QueryMatch, ValueMatch};

use super::Reader;

impl Reader<'_> {
    /// What a rule of HTTP requests is for. A match that cannot be understood is left out, and breaks the rule: what it
    /// was meant for is answered with an error or by nobody, but never as if it had not been asked for.
    pub(super) fn http_matches(&mut self, all: &[HttpMatch]) -> (Vec<Match>, Option<Broken>) {
        let read = all.iter().map(|it| self.http_match(it)).collect();
        kept(read)
    }

    /// What a rule of gRPC calls is for.
    pub(super) fn grpc_matches(&mut self, all: &[GrpcMatch]) -> (Vec<Match>, Option<Broken>) {
        let every = [GrpcMatch::default()];
        let all = if all.is_empty() { &every } else { all };
        let read = all.iter().map(|it| self.grpc_match(it)).collect();
        kept(read)
    }

    fn http_match(&mut self, it: &HttpMatch) -> Result<Match, Broken> {
        let path = it.path.as_ref().map_or(Ok(PathMatch::default()), |it| self.path(it))?;
        let method = it.method.as_deref().map(str::parse).transpose();
        let method = method.map_err(|_| self.unsupported("a method that is none"))?;
        Ok(Match {
            path,
            method,
            headers: self.headers(&it.headers)?,
            query: self.query(&it.query_params)?,
            more: None,
        })
    }

    fn grpc_match(&mut self, it: &GrpcMatch) -> Result<Match, Broken> {
        let mut named = |kind: &str, text: &str| {
            if text.is_empty() { Ok(None) } else { self.value(kind, text).map(Some) }
        };
        let (service, method) = match &it.method {
            None => (None, None),
            Some(it) => (named(&it.kind, &it.service)?, named(&it.kind, &it.method)?),
        };
        let path = PathMatch::Grpc { service, method };
        Ok(Match { path, method: None, headers: self.headers(&it.headers)?, query: Vec::new(), more: None })
    }

    fn path(&mut self, it: &PathObject) -> Result<PathMatch, Broken> {
        Ok(match it.kind.as_str() {
            "Exact" => PathMatch::Exact(it.value.as_str().into()),
            "PathPrefix" => PathMatch::Prefix(it.value.as_str().into()),
            "RegularExpression" => PathMatch::Regex(self.pattern(&it.value)?),
            kind => return Err(self.unsupported(&format!("paths are not matched by {kind}"))),
        })
    }

    fn headers(&mut self, all: &[NamedMatch]) -> Result<Vec<HeaderMatch>, Broken> {
        let mut read: Vec<HeaderMatch> = Vec::new();
        for it in all {
            let name = it.name.parse().map_err(|_| self.unsupported("a header's name that is none"))?;
            let value = self.value(&it.kind, &it.value)?;
            // Of one name the first counts, as the API has it.
            if !read.iter().any(|it| it.name == name) {
                read.push(HeaderMatch { name, value });
            }
        }
        Ok(read)
    }

    fn query(&mut self, all: &[NamedMatch]) -> Result<Vec<QueryMatch>, Broken> {
        let mut read: Vec<QueryMatch> = Vec::new();
        for it in all {
            let value = self.value(&it.kind, &it.value)?;
            if !read.iter().any(|known| *known.name == *it.name) {
                read.push(QueryMatch { name: it.name.as_str().into(), value });
            }
        }
        Ok(read)
    }

    fn value(&mut self, kind: &str, text: &str) -> Result<ValueMatch, Broken> {
        Ok(match kind {
            "Exact" => ValueMatch::Exact(text.into()),
            "RegularExpression" => ValueMatch::Regex(self.pattern(text)?),
            kind => return Err(self.unsupported(&format!("values are not matched by {kind}"))),
        })
    }

    pub(super) fn pattern(&mut self, text: &str) -> Result<Pattern, Broken> {
        text.parse()
            .map_err(|error: ambit_model::http_route::PatternError| self.unsupported(&error.to_string()))
    }
}

pub(super) fn kept(read: Vec<Result<Match, Broken>>) -> (Vec<Match>, Option<Broken>) {
    let mut broken = None;
    let mut good = Vec::new();
    for it in read {
        match it {
            Ok(it) => good.push(it),
            Err(why) => broken = broken.or(Some(why)),
        }
    }
    (good, broken)
}
