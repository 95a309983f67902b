//! Providers of the mesh's configuration to the mesh's nouns (`waypoint.md` 4.8): pure. Every waypoint is told of all of
//! them; where their services are, waypoints find out themselves.

use std::sync::Arc;

use ambit_cluster::kinds::provider::{ExtAuthz, ExtensionProvider};
use ambit_model::policy::TextMatch;
use ambit_model::provider::{
    Authorizer, BodyShown, ERROR_STATUS, OverHttp, PATIENCE, Provider, ProviderKind, Reach, Speaks, Which,
};
use ambit_model::request_policy::text_match;

use crate::index::World;
use crate::mesh::Mesh;
use crate::translate::{collector, line};

/// All that waypoints are told of.
pub fn providers(mesh: &Mesh) -> impl Iterator<Item = Provider> {
    mesh.providers.iter().filter_map(|it| provider(mesh, it)).chain(line::own(mesh))
}

/// Who is asked by this name.
#[must_use]
pub fn authorizer(mesh: &Mesh, name: &str) -> Option<Provider> {
    let given = mesh.providers.iter().find(|it| it.name == name)?;
    provider(mesh, given).filter(|it| it.authorizer().is_some())
}

/// What a provider may collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Spans.
    Spans,
    /// Lines of access logs, which it is told of.
    Lines,
}

/// Whether the mesh knows somebody by this name who collects that.
pub(super) fn collects(mesh: &Mesh, name: &str, what: Of) -> bool {
    let given = mesh.providers.iter().find(|it| it.name == name);
    given.is_some_and(|it| match what {
        Of::Spans => it.opentelemetry.is_some() || it.zipkin.is_some(),
        Of::Lines => it.envoy_otel_als.is_some(),
    })
}

/// One that is of a kind that somebody uses. What does not read never comes this far.
fn provider(mesh: &Mesh, given: &ExtensionProvider) -> Option<Provider> {
    let ExtensionProvider {
        name,
        envoy_ext_authz_grpc,
        envoy_ext_authz_http,
        opentelemetry,
        zipkin,
        envoy_otel_als,
        envoy_file_access_log: _,
    } = given;
    let authorizer = |it| ProviderKind::Authorizer(Arc::new(it));
    let kind = match (envoy_ext_authz_grpc, envoy_ext_authz_http) {
        (Some(grpc), _) => authorizer(asked(grpc, Speaks::Grpc)?),
        (None, Some(http)) => authorizer(asked(http, Speaks::Http(Box::new(over_http(http))))?),
        (None, None) => {
            let told = opentelemetry.as_ref().map(|it| collector::opentelemetry(mesh, name, it));
            let told = told.or_else(|| zipkin.as_ref().map(|it| collector::zipkin(mesh, name, it)));
            let told = told.or_else(|| envoy_otel_als.as_ref().map(|it| collector::lines(it)));
            match told {
                Some(told) => ProviderKind::Collector(Arc::new(told?)),
                None => ProviderKind::Log(Arc::new(line::format(mesh, given)?)),
            }
        }
    };
    Some(Provider { name: name.as_str().into(), kind })
}

fn asked(given: &ExtAuthz, speaks: Speaks) -> Option<Authorizer> {
    let shown = match speaks {
        Speaks::Grpc => Which::All,
        Speaks::Http(_) => Which::These(given.headers_shown().map(named).collect()),
    };
    Some(Authorizer {
        at: reach(&given.service, given.port)?,
        speaks,
        shown,
        patience: given.timeout.map(|it| it.0).filter(|it| !it.is_zero()).unwrap_or(PATIENCE),
        fail_open: given.fail_open,
        error_status: given.status_on_error.map_or(ERROR_STATUS, |it| it.0),
        reroute: given.clear_route_cache,
        body: given.include_request_body_in_check.map(|it| BodyShown {
            most: usize::try_from(it.max_request_bytes).unwrap_or(usize::MAX),
            partial: it.allow_partial_message,
            raw: it.pack_as_bytes,
        }),
    })
}

/// Where a provider's service is.
pub(super) fn reach(service: &str, port: u32) -> Option<Reach> {
    format!("{service}:{port}").parse().ok()
}

/// Where a service is that a policy names: one of its namespace by its name, or any by its host.
pub(crate) fn service(world: &World, home: &str, (name, port): (&str, u32)) -> Option<Reach> {
    let is_short = !name.contains(['.', '/']);
    let here = || format!("{home}/{}", world.hostname(home, name));
    reach(&if is_short { here() } else { name.to_owned() }, port)
}

fn over_http(given: &ExtAuthz) -> OverHttp {
    let these = |names: &[String]| Which::These(names.iter().map(named).collect());
    let add = given.include_additional_headers_in_check.iter();
    let refused = &given.headers_to_downstream_on_deny;
    OverHttp {
        prefix: given.path_prefix.as_str().into(),
        add: add.filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?))).collect(),
        onward: these(&given.headers_to_upstream_on_allow),
        back: these(&given.headers_to_downstream_on_allow),
        // Of a no, everything is told on when nothing is named.
        back_refused: if refused.is_empty() { Which::All } else { these(refused) },
    }
}

/// A header's name, of which the beginning or the end may be left open.
fn named(text: impl AsRef<str>) -> TextMatch {
    text_match(&text.as_ref().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(config: &str) -> Mesh {
        Mesh { providers: yaml_serde::from_str(config).unwrap(), ..Mesh::default() }
    }

    #[test]
    fn a_provider_is_told_with_what_its_author_left_out() {
        let mesh = mesh(
            "- {name: else}\n- name: grpc\n  envoyExtAuthzGrpc: {service: shop/authz.example, port: 9000}\n- name: http\n  envoyExtAuthzHttp: {service: authz.shop.svc, port: 80, timeout: 2s, pathPrefix: /check, includeRequestHeadersInCheck: [Cookie, X-*], includeAdditionalHeadersInCheck: {x-mesh: a}, headersToUpstreamOnAllow: [x-user], clearRouteCache: true}\n",
        );
        let all: Vec<Provider> = providers(&mesh).collect();
        let [grpc, http] = all.as_slice() else { panic!("{all:?}") };
        let asked = grpc.authorizer().unwrap();
        assert_eq!(
            (asked.at.to_string().as_str(), &asked.speaks, &asked.shown),
            ("shop/authz.example:9000", &Speaks::Grpc, &Which::All)
        );
        assert_eq!((asked.patience, asked.error_status, asked.fail_open), (PATIENCE, 403, false));
        let asked = http.authorizer().unwrap();
        let exact = |text: &str| TextMatch::Exact(text.into());
        assert_eq!(asked.shown, Which::These(vec![exact("cookie"), TextMatch::Prefix("x-".into())]));
        let Speaks::Http(how) = &asked.speaks else { panic!("{asked:?}") };
        assert_eq!((&*how.prefix, how.add.len(), asked.reroute), ("/check", 1, true));
        assert_eq!(how.onward, Which::These(vec![exact("x-user")]));
        assert_eq!((&how.back, &how.back_refused), (&Which::default(), &Which::All));
        assert!(authorizer(&mesh, "grpc").is_some());
        assert!(authorizer(&mesh, "else").is_none() && authorizer(&mesh, "nobody").is_none());
    }
}
