//! What is done with requests and answers (`waypoint.md` 2.5 to 2.9). One that cannot be carried out breaks all of its
//! list: requests are answered with an error rather than let through as if it had not been asked for.

use std::sync::Arc;

use ambit_cluster::kinds::route::{
    Cors as CorsObject, Filter, Header, HeaderChanges, Mirror as MirrorObject, PathChange as PathObject,
    Redirect as RedirectObject, Rewrite as RewriteObject,
};
use ambit_model::http_route::{
    Broken, Cors, Filters, HeaderEdits, Mirror, Names, PathChange, Redirect, RedirectStatus, Rewrite, Scheme,
    Share,
};
use http::{HeaderName, HeaderValue};

use super::{Reader, none};

impl Reader<'_> {
    /// What a list of filters does.
    pub(super) fn filters(&mut self, all: &[Filter]) -> Result<Filters, Broken> {
        let mut read = none();
        let mut broken = None;
        for it in all {
            if let Err(why) = self.filter(it, &mut read) {
                broken = broken.or(Some(why));
            }
        }
        if read.ask.is_some() && read.redirect.is_some() {
            let text = "nobody is asked before a redirect: put the two into rules of their own";
            broken = broken.or_else(|| Some(self.unsupported(text)));
        }
        broken.map_or(Ok(read), Err)
    }

    fn filter(&mut self, it: &Filter, read: &mut Filters) -> Result<(), Broken> {
        match it.kind.as_str() {
            "RequestHeaderModifier" => {
                let changes = it.request_header_modifier.as_ref();
                changes.map_or(Ok(()), |it| self.headers_changed(it, &mut read.request_headers))?;
            }
            "ResponseHeaderModifier" => {
                let changes = it.response_header_modifier.as_ref();
                changes.map_or(Ok(()), |it| self.headers_changed(it, &mut read.response_headers))?;
            }
            "RequestRedirect" => {
                read.redirect =
                    it.request_redirect.as_ref().map(|it| self.redirect(it)).transpose()?.map(Box::new);
            }
            "URLRewrite" => {
                read.rewrite = it.url_rewrite.as_ref().map(|it| self.rewrite(it)).transpose()?.map(Box::new);
            }
            "RequestMirror" => {
                let mirror = it.request_mirror.as_ref().map(|it| self.mirror(it)).transpose()?;
                read.mirrors.extend(mirror);
            }
            "CORS" => read.cors = it.cors.as_ref().map(|it| self.cors(it)).transpose()?.map(Box::new),
            "ExternalAuth" => {
                let unsaid = || Broken::because("nobody is named who could be asked");
                let asked = it.external_auth.as_ref().ok_or_else(unsaid)?;
                read.ask = Some(Arc::new(self.external_auth(asked)?));
            }
            "ExtensionRef" => {
                let text = "there is no filter that an extensionRef could lead to";
                return Err(self.unresolved("InvalidKind", text));
            }
            kind => return Err(self.unsupported(&format!("the filter {kind} is not carried out"))),
        }
        Ok(())
    }

    fn headers_changed(&mut self, it: &HeaderChanges, edits: &mut HeaderEdits) -> Result<(), Broken> {
        for header in &it.set {
            let (name, value) = self.header(header)?;
            edits.set(name, value).map_err(|error| self.unsupported(&error.to_string()))?;
        }
        for header in &it.add {
            let (name, value) = self.header(header)?;
            edits.add(name, value).map_err(|error| self.unsupported(&error.to_string()))?;
        }
        for name in &it.remove {
            let name = self.header_name(name)?;
            edits.remove(name).map_err(|error| self.unsupported(&error.to_string()))?;
        }
        Ok(())
    }

    fn header(&mut self, it: &Header) -> Result<(HeaderName, HeaderValue), Broken> {
        let value = HeaderValue::from_str(&it.value);
        let value = value
            .map_err(|_| self.unsupported(&format!("the value of header {} cannot be sent", it.name)))?;
        Ok((self.header_name(&it.name)?, value))
    }

    pub(super) fn header_name(&mut self, name: &str) -> Result<HeaderName, Broken> {
        name.parse().map_err(|_| self.unsupported(&format!("{name:?} is no name of a header")))
    }

    fn redirect(&mut self, it: &RedirectObject) -> Result<Redirect, Broken> {
        let scheme = match it.scheme.as_deref() {
            None => None,
            Some("http") => Some(Scheme::Http),
            Some("https") => Some(Scheme::Https),
            Some(scheme) => return Err(self.unsupported(&format!("nobody is redirected to {scheme}"))),
        };
        let status = it.status_code.map_or_else(|| Some(RedirectStatus::default()), RedirectStatus::of);
        let status = status.ok_or_else(|| self.unsupported("a status that does not redirect"))?;
        let hostname = self.hostname(it.hostname.as_deref())?;
        let path = it.path.as_ref().map(|it| self.path_change(it)).transpose()?;
        Ok(Redirect {
            scheme,
            hostname,
            port: it.port.map(|port| port.0),
            path,
            status,
            ..Redirect::default()
        })
    }

    fn rewrite(&mut self, it: &RewriteObject) -> Result<Rewrite, Broken> {
        let path = it.path.as_ref().map(|it| self.path_change(it)).transpose()?;
        Ok(Rewrite { hostname: self.hostname(it.hostname.as_deref())?, port: None, path })
    }

    fn hostname(&mut self, text: Option<&str>) -> Result<Option<ambit_model::name::Hostname>, Broken> {
        let parsed = text.map(str::parse).transpose();
        parsed.map_err(|_| self.unsupported(&format!("{} is no host name", text.unwrap_or_default())))
    }

    fn path_change(&mut self, it: &PathObject) -> Result<PathChange, Broken> {
        let (text, build): (_, fn(_) -> _) =
            match (it.kind.as_str(), &it.replace_full_path, &it.replace_prefix_match) {
                ("ReplaceFullPath", Some(text), _) => (text, PathChange::Full),
                ("ReplacePrefixMatch", _, Some(text)) => (text, PathChange::Prefix),
                (kind, ..) => return Err(self.unsupported(&format!("paths are not changed by {kind}"))),
            };
        let text = text
            .parse()
            .map_err(|error: ambit_model::http_route::PathTextError| self.unsupported(&error.to_string()))?;
        Ok(build(text))
    }

    /// Where a copy goes. One that leads nowhere breaks nothing but itself.
    fn mirror(&mut self, it: &MirrorObject) -> Result<Mirror, Broken> {
        let share = match (it.percent, it.fraction) {
            (Some(percent), _) => Share::new(percent, 100),
            (None, Some(part)) => Share::new(part.numerator, part.denominator),
            (None, None) => Some(Share::ALL),
        };
        let share = share.ok_or_else(|| self.unsupported("a copy of more than all requests"))?;
        Ok(Mirror { to: self.upstream(&it.backend_ref), share })
    }

    fn cors(&mut self, it: &CorsObject) -> Result<Cors, Broken> {
        Ok(Cors {
            origins: self.names(&it.allow_origins)?,
            credentials: it.allow_credentials,
            methods: self.names(&it.allow_methods)?,
            headers: self.names(&it.allow_headers)?,
            expose: self.names(&it.expose_headers)?,
            max_age_s: it.max_age.or_else(|| Cors::default().max_age_s),
            ..Cors::default()
        })
    }

    pub(super) fn names<T: std::str::FromStr>(&mut self, all: &[String]) -> Result<Names<T>, Broken> {
        if matches!(all, [one] if one == "*") {
            return Ok(Names::Any);
        }
        let mut names = Vec::new();
        for text in all {
            let name = text.parse();
            names.push(
                name.map_err(|_| self.unsupported(&format!("{text:?} cannot be allowed to other origins")))?,
            );
        }
        Ok(Names::These(names))
    }
}
