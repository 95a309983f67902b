//! Collectors of spans, as waypoints are told of them (`waypoint.md` 4.6, 5.3): pure. Those that the mesh names are told
//! of all its requests, by the sampling and with the tags that it says for all proxies.

use ambit_cluster::kinds::collector::{Added, CustomTag, OpenTelemetry, OtelAls, Percent, Zipkin};
use ambit_model::name::Label;
use ambit_model::provider::{COLLECT_PATIENCE, Collector, Tag, Takes, Traced};
use ambit_model::trace::Sampling;
use http::{HeaderName, HeaderValue};

use super::provider::reach;
use crate::mesh::Mesh;

/// Where Zipkin takes spans when nobody says otherwise.
const ZIPKIN_PATH: &str = "/api/v2/spans";
/// Where OTLP is taken over HTTP.
const OTLP_PATH: &str = "/v1/traces";

/// One that takes OpenTelemetry's protocol. What does not read never comes this far.
pub(super) fn opentelemetry(mesh: &Mesh, name: &str, given: &OpenTelemetry) -> Option<Collector> {
    let OpenTelemetry { service, port, http, grpc } = given;
    let (takes, patience) = match http {
        None => (Takes::OtlpGrpc { add: headers(&grpc.initial_metadata) }, grpc.timeout),
        Some(http) => {
            let path = if http.path.is_empty() { OTLP_PATH } else { &http.path };
            (Takes::OtlpHttp { path: path.into(), add: headers(&http.headers) }, http.timeout)
        }
    };
    let patience = patience.map(|it| it.0).filter(|it| !it.is_zero()).unwrap_or(COLLECT_PATIENCE);
    Some(Collector { at: reach(service, *port)?, takes, patience, mesh: of_mesh(mesh, name) })
}

/// One that takes Zipkin's.
pub(super) fn zipkin(mesh: &Mesh, name: &str, given: &Zipkin) -> Option<Collector> {
    let Zipkin { service, port, path, timeout } = given;
    let path = if path.is_empty() { ZIPKIN_PATH } else { path };
    let patience = timeout.map(|it| it.0).filter(|it| !it.is_zero()).unwrap_or(COLLECT_PATIENCE);
    let takes = Takes::Zipkin { path: path.into() };
    Some(Collector { at: reach(service, *port)?, takes, patience, mesh: of_mesh(mesh, name) })
}

fn of_mesh(mesh: &Mesh, name: &str) -> Option<Traced> {
    mesh.collectors.iter().any(|it| it == name).then(|| usual(mesh))
}

/// What the mesh wants to be told.
pub(super) fn usual(mesh: &Mesh) -> Traced {
    let said = mesh.tracing.sampling.and_then(|Percent { parts }| Sampling::of(parts));
    Traced {
        sampling: said.unwrap_or(Sampling::USUAL),
        tags: mesh.tracing.custom_tags.iter().filter_map(tag).collect(),
    }
}

/// One that takes lines of access logs, in OpenTelemetry's protocol. It is never told of spans.
pub(super) fn lines(given: &OtelAls) -> Option<Collector> {
    let OtelAls { service, port, log_name: _ } = given;
    let takes = Takes::OtlpGrpc { add: Vec::new() };
    Some(Collector { at: reach(service, *port)?, takes, patience: COLLECT_PATIENCE, mesh: None })
}

fn tag((name, given): (&String, &CustomTag)) -> Option<(Label, Tag)> {
    let CustomTag { literal, header } = given;
    let tag = match (literal, header) {
        (Some(literal), _) => Tag::Literal(literal.value.as_str().into()),
        (None, Some(of)) => {
            Tag::Header { name: of.name.parse().ok()?, default: of.default_value.as_str().into() }
        }
        (None, None) => return None,
    };
    Some((name.as_str().into(), tag))
}

fn headers(all: &[Added]) -> Vec<(HeaderName, HeaderValue)> {
    all.iter().filter_map(|it| Some((it.name.parse().ok()?, it.value.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use ambit_cluster::kinds::mesh::MeshConfig;

    use super::super::provider::providers;
    use super::*;

    #[test]
    fn collectors_that_the_mesh_names_are_told_of_all_requests_as_it_says() {
        let config: MeshConfig = yaml_serde::from_str(
            "defaultProviders: {tracing: [otel, zip]}\n\
             defaultConfig: {tracing: {sampling: 12.5, customTags: {env: {literal: {value: prod}}, user: {header: {name: x-user, defaultValue: none}}, node: {environment: {name: NODE}}}}}\n\
             extensionProviders:\n\
             - {name: otel, opentelemetry: {service: otel.obs.svc, port: 4317, grpc: {timeout: 2s, initialMetadata: [{key: x-tenant, value: a}]}}}\n\
             - {name: http, opentelemetry: {service: obs/otel.obs.svc, port: 4318, http: {headers: [{name: x-key, value: b}]}}}\n\
             - {name: zip, zipkin: {service: zipkin.obs.svc, port: 9411}}\n",
        )
        .unwrap();
        let mesh = Mesh::default().with(config);
        let all: Vec<_> = providers(&mesh).collect();
        let [otel, http, zip] = [0, 1, 2].map(|at| all[at].collector().unwrap().as_ref());
        assert_eq!((otel.at.to_string().as_str(), otel.patience.as_secs()), ("otel.obs.svc:4317", 2));
        assert!(matches!(&otel.takes, Takes::OtlpGrpc { add } if add.len() == 1));
        let traced = otel.mesh.as_ref().unwrap();
        assert_eq!(traced.sampling.parts(), 1250);
        let header = Tag::Header { name: HeaderName::from_static("x-user"), default: "none".into() };
        assert_eq!(traced.tags, [("env".into(), Tag::Literal("prod".into())), ("user".into(), header)]);
        assert!(
            matches!(&http.takes, Takes::OtlpHttp { path, add } if &**path == OTLP_PATH && add.len() == 1)
        );
        assert_eq!((&http.mesh, http.patience), (&None, COLLECT_PATIENCE));
        assert!(matches!(&zip.takes, Takes::Zipkin { path } if &**path == ZIPKIN_PATH));
        assert_eq!(zip.mesh, otel.mesh);
    }

    #[test]
    fn where_nobody_says_how_many_one_in_a_hundred_is_kept() {
        let config: MeshConfig = yaml_serde::from_str(
            "defaultProviders: {tracing: [zip]}\nextensionProviders: [{name: zip, zipkin: {service: z.obs.svc, port: 9411}}]\n",
        )
        .unwrap();
        let all: Vec<_> = providers(&Mesh::default().with(config)).collect();
        let mesh = all[0].collector().unwrap().mesh.clone().unwrap();
        assert_eq!((mesh.sampling, mesh.tags.len()), (Sampling::USUAL, 0));
    }
}
