//! Lines of access logs by the mesh's configuration (`waypoint.md` 4.6, 4.9): pure. Owns which provider is which log, and
//! what is said to waypoints of requests of which no object says anything: of lines, and of headers (1.6).

use std::sync::Arc;

use ambit_cluster::kinds::provider::ExtensionProvider;
use ambit_model::name::PolicyKey;
use ambit_model::operator::LineFormat;
use ambit_model::provider::{Provider, ProviderKind};
use ambit_model::telemetry::{LogWord, Scope, Sink, Telemetry};

use super::provider::{Of, collects};
use crate::mesh::Mesh;

/// The provider that there is without a word: the log of the program.
const OWN: &str = "envoy";

/// What the mesh's configuration says is told under this name, which no object can have.
const USUAL: &str = "mesh:configuration";

/// The log that there is without a word, where lines are not to be the waypoint's own.
pub(super) fn own(mesh: &Mesh) -> Option<Provider> {
    let taken = mesh.providers.iter().any(|it| it.name == OWN);
    let format = mesh.access_log.format().ok().flatten().filter(|_| !taken)?;
    Some(Provider { name: OWN.into(), kind: ProviderKind::Log(Arc::new(format)) })
}

/// The form of a provider's lines, if it is a log whose lines are not the waypoint's own.
pub(super) fn format(mesh: &Mesh, given: &ExtensionProvider) -> Option<LineFormat> {
    let file = given.envoy_file_access_log.as_ref()?;
    let of_mesh = || mesh.access_log.format().ok().flatten();
    // What does not read never comes this far.
    file.format("").ok().flatten().or_else(of_mesh)
}

/// Where lines go that are for the provider of a name.
pub(super) fn sink(mesh: &Mesh, name: &str) -> Option<Sink> {
    if collects(mesh, name, Of::Lines) {
        return Some(Sink::Collector(name.into()));
    }
    let given = mesh.providers.iter().find(|it| it.name == name);
    let has_form = match given {
        Some(given) if given.envoy_file_access_log.is_some() => format(mesh, given).is_some(),
        None if name == OWN => own(mesh).is_some(),
        Some(_) | None => return None,
    };
    Some(if has_form { Sink::File(name.into()) } else { Sink::Log })
}

/// Operators in the lines of a provider that waypoints do not know.
pub(super) fn unknown(mesh: &Mesh, name: &str) -> Vec<String> {
    let given = mesh.providers.iter().find(|it| it.name == name);
    let format = match given {
        Some(given) => format(mesh, given),
        None => own(mesh).filter(|_| name == OWN).and_then(|it| it.log().map(|it| it.as_ref().clone())),
    };
    format.iter().flat_map(LineFormat::unknown).map(|it| format!("%{it}%")).collect()
}

/// Whether there are no lines but of those requests of which somebody says so.
pub(super) fn is_silent(mesh: &Mesh) -> bool {
    mesh.loggers.is_empty() && mesh.access_log.is_off()
}

/// What waypoints are told of requests of which no object says anything; nothing, where that is what they do anyway.
pub(super) fn usual(mesh: &Mesh) -> Option<Telemetry> {
    let mut to: Vec<Sink> = Vec::new();
    for sink in mesh.loggers.iter().filter_map(|name| sink(mesh, name)) {
        if !to.contains(&sink) {
            to.push(sink);
        }
    }
    if to.is_empty() {
        to.extend(sink(mesh, OWN).filter(|it| *it != Sink::Log && mesh.loggers.is_empty()));
    }
    let word = if is_silent(mesh) {
        Some(LogWord { to: Vec::new(), disabled: Some(true), filter: None })
    } else {
        (!to.is_empty()).then_some(LogWord { to, disabled: None, filter: None })
    };
    if word.is_none() && mesh.headers.is_empty() {
        return None;
    }
    Some(Telemetry {
        key: PolicyKey { namespace: mesh.root_namespace.parse().ok()?, name: USUAL.parse().ok()? },
        scopes: vec![Scope::Usual],
        tracing: None,
        logging: word.into_iter().collect(),
        uncounted: Vec::new(),
        counted: Vec::new(),
        labels: Vec::new(),
        headers: mesh.headers.clone(),
    })
}

#[cfg(test)]
mod tests {
    use ambit_cluster::kinds::mesh::MeshConfig;
    use ambit_model::telemetry::{HeaderWords, ProxyHeader, Server};

    use super::super::provider::providers;
    use super::*;

    fn mesh(config: &str) -> Mesh {
        let config: MeshConfig = yaml_serde::from_str(config).unwrap();
        Mesh::default().with(config)
    }

    const ALL: &str = "extensionProviders:\n- {name: otel, envoyOtelAls: {service: otel.obs.svc, port: 4317}}\n\
        - {name: plain, envoyFileAccessLog: {path: /dev/stdout}}\n\
        - {name: own, envoyFileAccessLog: {path: /dev/stdout, logFormat: {text: '%PROTOCOL% %HOSTNAME%'}}}\n";

    #[test]
    fn lines_of_all_requests_go_where_the_configuration_says_and_stay_as_they_are_without_a_word() {
        let (file, log) = (|name: &str| Sink::File(name.into()), Sink::Log);
        for (config, wanted) in [
            ("", None),
            ("accessLogFile: /dev/stdout\n", None),
            ("accessLogFile: ''\n", Some((vec![], Some(true)))),
            ("accessLogFile: ''\naccessLogEncoding: JSON\n", Some((vec![], Some(true)))),
            ("accessLogEncoding: JSON\n", Some((vec![file("envoy")], None))),
            (
                "accessLogFile: /dev/stdout\naccessLogFormat: '%PROTOCOL%'\n",
                Some((vec![file("envoy")], None)),
            ),
            (
                "accessLogFile: ''\ndefaultProviders: {accessLogging: [otel, own, plain, envoy, nobody, authz]}\n",
                Some((vec![Sink::Collector("otel".into()), file("own"), log], None)),
            ),
            ("defaultProviders: {accessLogging: [nobody]}\n", None),
        ] {
            let mesh = mesh(&format!("{config}{ALL}"));
            let usual = usual(&mesh);
            let word = usual.as_ref().map(|it| (it.logging[0].to.clone(), it.logging[0].disabled));
            assert_eq!(word, wanted, "{config}");
            assert!(usual.is_none_or(|it| it.scopes == [Scope::Usual]));
        }
    }

    #[test]
    fn headers_are_as_the_configuration_says_whether_or_not_it_says_anything_of_lines() {
        let headers =
            "defaultConfig: {proxyHeaders: {server: {value: shop}, attemptCount: {disabled: true}}}\n";
        let wanted = HeaderWords {
            told: vec![],
            untold: vec![ProxyHeader::Attempts],
            server: Some(Server::Is("shop".parse().unwrap())),
        };
        for (config, lines) in [("", 0), ("accessLogFile: ''\n", 1)] {
            let usual = usual(&mesh(&format!("{config}{headers}"))).unwrap();
            assert_eq!((usual.logging.len(), &usual.headers), (lines, &wanted), "{config}");
            assert_eq!(usual.scopes, [Scope::Usual]);
        }
    }

    #[test]
    fn a_log_is_told_with_the_form_of_its_lines_and_one_without_goes_by_that_of_the_mesh() {
        let names = |mesh: &Mesh| {
            let logs = providers(mesh).filter(|it| it.log().is_some());
            logs.map(|it| it.name.to_string()).collect::<Vec<_>>()
        };
        let plain = mesh(ALL);
        assert_eq!(names(&plain), ["own"]);
        assert_eq!(unknown(&plain, "own"), ["%HOSTNAME%"]);
        assert_eq!(sink(&plain, "envoy"), Some(Sink::Log));
        let json = mesh(&format!("accessLogEncoding: JSON\n{ALL}"));
        assert_eq!(names(&json), ["plain", "own", "envoy"]);
        assert_eq!(sink(&json, "plain"), Some(Sink::File("plain".into())));
        assert!(unknown(&json, "envoy").is_empty() && unknown(&json, "nobody").is_empty());
    }
}
