//! Which requests a rule of a VirtualService is for.

use std::collections::BTreeMap;

use ambit_cluster::kinds::meta::Texts;
use ambit_cluster::kinds::virtual_service::{CLAIMS, HttpMatch, MESH, StringMatch};
use ambit_model::http_route::{
    Broken, ClaimMatch, HeaderMatch, Match, More, PathMatch, Pattern, QueryMatch, ValueMatch,
};
use ambit_wire::limits;

use super::super::Reader;
use super::super::matches::kept;
use super::boxed;

/// Keys that Istio passes over among headers, for they have fields of their own.
const ELSEWHERE: [&str; 4] = ["uri", "scheme", "method", "authority"];

/// Keys and values.
type Labels = Vec<(Box<str>, Box<str>)>;

impl Reader<'_> {
    /// What a rule is for. A match for other gateways alone is for nobody here.
    pub(super) fn matches_in_order(&mut self, all: &[HttpMatch]) -> (Vec<Match>, Option<Broken>) {
        let ours = |it: &&HttpMatch| it.gateways.is_empty() || it.gateways.iter().any(|it| it == MESH);
        let read = all.iter().filter(ours).map(|it| self.match_in_order(it)).collect();
        kept(read)
    }

    fn match_in_order(&mut self, it: &HttpMatch) -> Result<Match, Broken> {
        let mut more = More { port: it.port.map(|port| port.0), ..More::default() };
        more.from_labels = self.labels(&it.source_labels)?;
        if !it.source_namespace.is_empty() {
            let from = it.source_namespace.parse();
            more.from = Some(from.map_err(|_| self.unsupported("match.sourceNamespace is no namespace"))?);
        }
        more.scheme = it.scheme.as_ref().map(|it| self.text("scheme", it)).transpose()?;
        more.authority = it.authority.as_ref().map(|it| self.text("authority", it)).transpose()?;
        let mut method = None;
        match it.method.as_ref() {
            Some(StringMatch { exact: Some(text), .. }) => {
                method = Some(text.parse().map_err(|_| self.unsupported("a method that is none"))?);
            }
            Some(other) => more.method = Some(self.text("method", other)?),
            None => {}
        }
        let (headers, claims) = self.headers_and_claims("headers", &it.headers)?;
        (more.without_headers, more.without_claims) =
            self.headers_and_claims("withoutHeaders", &it.without_headers)?;
        more.claims = claims;
        let path = it.uri.as_ref().map(|uri| self.uri(uri, it.ignore_uri_case)).transpose()?;
        Ok(Match {
            path: path.unwrap_or_default(),
            method,
            headers,
            query: self.parameters(&it.query_params)?,
            more: boxed(more),
        })
    }

    /// Labels of who asks.
    pub(super) fn labels(&mut self, all: &Texts) -> Result<Labels, Broken> {
        if all.len() > limits::ROUTE_LIST {
            return Err(self.unsupported("match.sourceLabels has more than 16 labels"));
        }
        if let Some(key) = all.keys().find(|it| !self.world.is_told(it)) {
            let text = format!("match.sourceLabels: all routes together look at too many labels for {key}");
            return Err(self.unsupported(&text));
        }
        Ok(all.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect())
    }

    fn uri(&mut self, it: &StringMatch, any_case: bool) -> Result<PathMatch, Broken> {
        Ok(match (&it.exact, &it.prefix, &it.regex) {
            (Some(text), ..) if any_case => {
                let pattern = Pattern::in_any_case(text);
                PathMatch::Regex(pattern.map_err(|error| self.unsupported(&error.to_string()))?)
            }
            (Some(text), ..) => PathMatch::Exact(text.as_str().into()),
            (None, Some(text), _) => PathMatch::Begins { text: text.as_str().into(), any_case },
            (None, None, Some(text)) => PathMatch::Regex(self.pattern(text)?),
            (None, None, None) => PathMatch::default(),
        })
    }

    fn text(&mut self, of: &str, it: &StringMatch) -> Result<ValueMatch, Broken> {
        let value = match (&it.exact, &it.prefix, &it.regex) {
            (Some(text), ..) => ValueMatch::Exact(text.as_str().into()),
            (None, Some(text), _) => ValueMatch::Prefix(text.as_str().into()),
            // An asterisk is no expression, but what people write for anything.
            (None, None, Some(text)) if text == "*" => ValueMatch::Present,
            (None, None, Some(text)) => ValueMatch::Regex(self.pattern(text)?),
            (None, None, None) => ValueMatch::Present,
        };
        let length = [&it.exact, &it.prefix].into_iter().flatten().map(String::len).max();
        if length.is_some_and(|length| length > limits::HEADER_VALUE) {
            return Err(self.unsupported(&format!("match.{of} is longer than any value")));
        }
        Ok(value)
    }

    fn headers_and_claims(
        &mut self,
        list: &str,
        all: &BTreeMap<String, StringMatch>,
    ) -> Result<(Vec<HeaderMatch>, Vec<ClaimMatch>), Broken> {
        let (mut headers, mut claims) = (Vec::new(), Vec::new());
        for (key, it) in all.iter().filter(|(key, _)| !ELSEWHERE.contains(&key.as_str())) {
            let value = self.text(list, it)?;
            if let Some(rest) = key.strip_prefix(CLAIMS) {
                let path = claim(rest);
                let path = path.ok_or_else(|| self.unsupported(&format!("{key} names no claim")))?;
                claims.push(ClaimMatch { path, value });
            } else {
                headers.push(HeaderMatch { name: self.header_name(key)?, value });
            }
        }
        if headers.len().max(claims.len()) > limits::ROUTE_LIST {
            return Err(self.unsupported(&format!("match.{list} has more than 16 demands")));
        }
        Ok((headers, claims))
    }

    fn parameters(&mut self, all: &BTreeMap<String, StringMatch>) -> Result<Vec<QueryMatch>, Broken> {
        let mut read = Vec::new();
        for (name, it) in all {
            read.push(QueryMatch { name: name.as_str().into(), value: self.text("queryParams", it)? });
        }
        if read.len() > limits::ROUTE_LIST {
            return Err(self.unsupported("match.queryParams has more than 16 demands"));
        }
        Ok(read)
    }
}

/// The names on the way to a claim: after a dot with dots between them, or each in brackets, where a dot is a part of it.
fn claim(rest: &str) -> Option<Vec<Box<str>>> {
    if let Some(dotted) = rest.strip_prefix('.') {
        let names: Vec<Box<str>> = dotted.split('.').map(Into::into).collect();
        return names.iter().all(|it| !it.is_empty()).then_some(names);
    }
    let inner = rest.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<Box<str>> = inner.split("][").map(Into::into).collect();
    names.iter().all(|it| !it.is_empty()).then_some(names)
}
