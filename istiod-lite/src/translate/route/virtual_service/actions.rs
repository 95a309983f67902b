//! What a rule of a VirtualService does with requests and answers. One thing that cannot be carried out breaks all of
//! its rule.

use std::sync::Arc;

use ambit_cluster::kinds::duration::span;
use ambit_cluster::kinds::virtual_service::{
    CorsPolicy, Destination, DirectResponse, Fault as FaultObject, HeaderChanges, Headers, HttpRule, Percent,
    Redirect as RedirectObject, Rewrite as RewriteObject, StringMatch, grpc_status,
};
use ambit_model::http_route::{
    Abort, AbortWith, Broken, Cors, Delay, Direct, Fault, Filling, Filters, HeaderEdits, Mirror, Names,
    PathChange, PathText, Redirect, RedirectStatus, Rewrite, Scheme, Share, Substitution, ValueMatch,
};
use ambit_model::name::Hostname;
use ambit_model::operator::Template;
use ambit_wire::limits;
use base64::Engine;
use http::HeaderValue;

use super::super::Reader;

/// Parts of all, as shares are told.
const MILLION: u32 = 1_000_000;

/// What stands for the host among headers.
const HOST: [&str; 3] = ["authority", "host", ":authority"];

impl Reader<'_> {
    /// What a rule does beside sending requests on.
    pub(super) fn actions(&mut self, rule: &HttpRule, asked: Option<u16>) -> Result<Filters, Broken> {
        let mut filters = self.headers_of(&rule.headers)?;
        if let Some(it) = &rule.rewrite {
            let rewrite = self.rewritten(it)?;
            let had = filters.rewrite.take();
            filters.rewrite = Some(Box::new(match had {
                Some(had) if rewrite.hostname.is_none() => Rewrite { path: rewrite.path, ..*had },
                _ => rewrite,
            }));
        }
        filters.redirect = rule.redirect.as_ref().map(|it| self.redirected(it)).transpose()?.map(Box::new);
        filters.direct = rule.direct_response.as_ref().map(|it| self.direct(it)).transpose()?;
        filters.fault = rule.fault.as_ref().map(|it| self.fault(it)).transpose()?.map(Box::new);
        filters.cors = rule.cors_policy.as_ref().map(|it| self.origins(it)).transpose()?.map(Box::new);
        let percent = rule.mirror_percentage.or_else(|| rule.mirror_percent.map(old_percent));
        let first = rule.mirror.iter().map(|it| (it, percent));
        let all = first.chain(rule.mirrors.iter().map(|it| (&it.destination, it.percentage)));
        for (to, percent) in all {
            filters.mirrors.push(self.copied(to, percent, asked)?);
        }
        if filters.mirrors.len() > limits::ROUTE_LIST {
            return Err(self.unsupported("there are more than 16 mirrors"));
        }
        Ok(filters)
    }

    /// Changes of headers; another host among them is a rewrite.
    pub(super) fn headers_of(&mut self, it: &Headers) -> Result<Filters, Broken> {
        let mut filters = Filters::default();
        let mut request = it.request.clone();
        for name in HOST {
            let set = request.set.remove(name);
            let Some(host) = set.or_else(|| request.add.remove(name)) else { continue };
            let (hostname, port) = self.authority(&host)?;
            filters.rewrite = Some(Box::new(Rewrite { hostname: Some(hostname), port, path: None }));
        }
        filters.request_headers = self.edits(&request)?;
        filters.response_headers = self.edits(&it.response)?;
        Ok(filters)
    }

    fn edits(&mut self, it: &HeaderChanges) -> Result<HeaderEdits, Broken> {
        if it.set.len().max(it.add.len()).max(it.remove.len()) > limits::ROUTE_LIST {
            return Err(self.unsupported("more than 16 headers are changed in one way"));
        }
        let mut edits = HeaderEdits::default();
        for (adds, all) in [(false, &it.set), (true, &it.add)] {
            for (name, value) in all {
                self.valued((name, value), adds, &mut edits)?;
            }
        }
        for name in &it.remove {
            let name = self.header_name(name)?;
            edits.remove(name).map_err(|error| self.unsupported(&error.to_string()))?;
        }
        Ok(edits)
    }

    /// A header with a value, into which what is known of a request may be put.
    fn valued(
        &mut self,
        (name, value): (&str, &str),
        adds: bool,
        edits: &mut HeaderEdits,
    ) -> Result<(), Broken> {
        let template = value.parse::<Template>();
        let template =
            template.map_err(|error| self.unsupported(&format!("the value of header {name}: {error}")))?;
        if let Some(unknown) = template.unknown().next() {
            let text = format!("the value of header {name} has %{unknown}%, which waypoints do not know");
            return Err(self.unsupported(&text));
        }
        let parsed = self.header_name(name)?;
        let done = match template.plain().map(HeaderValue::from_str) {
            None => edits.fill(Filling { name: parsed, value: template, adds }),
            Some(Err(_)) => {
                return Err(self.unsupported(&format!("the value of header {name} cannot be sent")));
            }
            Some(Ok(value)) if adds => edits.add(parsed, value),
            Some(Ok(value)) => edits.set(parsed, value),
        };
        done.map_err(|error| self.unsupported(&error.to_string()))
    }

    /// A host, with a port or without.
    fn authority(&mut self, text: &str) -> Result<(Hostname, Option<u16>), Broken> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => (host, port.parse().ok()),
            _ => (text, None),
        };
        let host = host.parse().map_err(|_| self.unsupported(&format!("{text} is no host")))?;
        Ok((host, port))
    }

    fn path_text(&mut self, text: &str) -> Result<PathText, Broken> {
        text.parse()
            .map_err(|error: ambit_model::http_route::PathTextError| self.unsupported(&error.to_string()))
    }

    fn rewritten(&mut self, it: &RewriteObject) -> Result<Rewrite, Broken> {
        let mut rewrite = Rewrite::default();
        if !it.authority.is_empty() {
            let (hostname, port) = self.authority(&it.authority)?;
            (rewrite.hostname, rewrite.port) = (Some(hostname), port);
        }
        if !it.uri.is_empty() {
            rewrite.path = Some(PathChange::Beginning(self.path_text(&it.uri)?));
        }
        if let Some(regex) = &it.uri_regex_rewrite {
            let parts = Substitution::new(&regex.pattern, &regex.rewrite);
            rewrite.path =
                Some(PathChange::Parts(parts.map_err(|error| self.unsupported(&error.to_string()))?));
        }
        Ok(rewrite)
    }

    fn redirected(&mut self, it: &RedirectObject) -> Result<Redirect, Broken> {
        // What is no scheme or no redirection never comes this far.
        let scheme = [Scheme::Http, Scheme::Https].into_iter().find(|scheme| scheme.as_str() == it.scheme);
        let (hostname, with) = if it.authority.is_empty() {
            (None, None)
        } else {
            let (hostname, port) = self.authority(&it.authority)?;
            (Some(hostname), port)
        };
        let own = scheme.unwrap_or(Scheme::Http).port();
        let port = match it.derive_port.as_str() {
            "FROM_PROTOCOL_DEFAULT" => Some(own),
            "FROM_REQUEST_PORT" => None,
            // An authority is taken as it stands.
            _ => it.port.map(|port| port.0).or(with).or_else(|| hostname.as_ref().map(|_| own)),
        };
        let path = match (it.uri.as_str(), it.prefix_rewrite.as_str()) {
            ("", "") => None,
            ("", prefix) => Some(PathChange::Beginning(self.path_text(prefix)?)),
            (uri, _) => Some(PathChange::Full(self.path_text(uri)?)),
        };
        let status = it.redirect_code.and_then(RedirectStatus::of);
        let status = status.unwrap_or(RedirectStatus::MovedPermanently);
        Ok(Redirect { scheme, hostname, port, keeps_port: true, path, status })
    }

    fn direct(&mut self, it: &DirectResponse) -> Result<Direct, Broken> {
        let body = it.body.as_ref();
        let bytes = match body.and_then(|it| it.bytes.as_ref()) {
            None => body.and_then(|it| it.string.as_ref()).map(|it| it.as_bytes().to_vec()),
            Some(text) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                Some(bytes.map_err(|_| self.unsupported("directResponse.body.bytes is no Base64"))?)
            }
        };
        let body: Arc<[u8]> = bytes.unwrap_or_default().into();
        if body.len() > limits::DIRECT_BODY {
            return Err(self.unsupported("directResponse.body is longer than 1 MiB"));
        }
        Ok(Direct { status: it.status, body })
    }

    fn fault(&mut self, it: &FaultObject) -> Result<Fault, Broken> {
        let mut fault = Fault::default();
        if let Some(delay) = &it.delay {
            let time = delay.fixed_delay.as_deref().and_then(span).unwrap_or_default();
            if time > limits::FAULT_DELAY {
                return Err(self.unsupported("fault.delay.fixedDelay is longer than ten minutes"));
            }
            let percent = delay.percentage.or_else(|| delay.percent.map(old_percent));
            fault.delay = Some(Delay { time, share: self.share(percent)? });
        }
        if let Some(abort) = &it.abort {
            let grpc = abort.grpc_status.as_deref().and_then(grpc_status).map(AbortWith::Grpc);
            let with = abort.http_status.map(AbortWith::Http).or(grpc);
            let with = with.ok_or_else(|| self.unsupported("fault.abort has no status"))?;
            fault.abort = Some(Abort { with, share: self.share(abort.percentage)? });
        }
        Ok(fault)
    }

    fn share(&mut self, percent: Option<Percent>) -> Result<Share, Broken> {
        let share = percent.map_or(Some(Share::ALL), |it| Share::new(it.parts, MILLION));
        share.ok_or_else(|| self.unsupported("a part of more than all requests"))
    }

    /// Where a copy goes. One that leads nowhere breaks nothing but itself.
    fn copied(
        &mut self,
        to: &Destination,
        percent: Option<Percent>,
        asked: Option<u16>,
    ) -> Result<Mirror, Broken> {
        Ok(Mirror { to: self.led(to, asked), share: self.share(percent)? })
    }

    fn origins(&mut self, it: &CorsPolicy) -> Result<Cors, Broken> {
        let exact = |text: &String| StringMatch { exact: Some(text.clone()), ..StringMatch::default() };
        let all: Vec<StringMatch> =
            it.allow_origin.iter().map(exact).chain(it.allow_origins.iter().cloned()).collect();
        let any = all.iter().any(|it| it.exact.as_deref() == Some("*"));
        let mut more_origins = Vec::new();
        for one in all.iter().filter(|_| !any) {
            more_origins.push(match (&one.exact, &one.prefix, &one.regex) {
                (Some(text), ..) => ValueMatch::Exact(text.as_str().into()),
                (None, Some(text), _) => ValueMatch::Prefix(text.as_str().into()),
                (None, None, Some(text)) => ValueMatch::Regex(self.pattern(text)?),
                (None, None, None) => return Err(self.unsupported("corsPolicy.allowOrigins says nothing")),
            });
        }
        let lists =
            [more_origins.len(), it.allow_methods.len(), it.allow_headers.len(), it.expose_headers.len()];
        if lists.into_iter().any(|length| length > limits::CORS_LIST) {
            return Err(self.unsupported("corsPolicy has a list of more than 64"));
        }
        let age = it.max_age.as_deref().and_then(span);
        Ok(Cors {
            origins: if any { Names::Any } else { Names::default() },
            more_origins,
            credentials: it.allow_credentials.unwrap_or_default(),
            methods: self.names(&it.allow_methods)?,
            headers: self.names(&it.allow_headers)?,
            expose: self.names(&it.expose_headers)?,
            max_age_s: age.map(|age| u32::try_from(age.as_secs()).unwrap_or(u32::MAX)),
            passes_unknown: it.unmatched_preflights != "IGNORE",
        })
    }
}

fn old_percent(percent: u32) -> Percent {
    Percent { parts: percent.saturating_mul(10_000) }
}
