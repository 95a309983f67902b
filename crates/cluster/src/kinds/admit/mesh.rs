//! Rules of the mesh's configuration: what of it is worth a word because it does nothing.

use ambit_model::operator::LineFormat;

use super::Findings;
use crate::kinds::mesh::ConfigMap;

pub(super) fn configured(map: &ConfigMap, findings: &mut Findings) {
    // One that does not read was refused before.
    let Ok(Some(config)) = map.mesh() else { return };
    let log = &config.access_log;
    lines("data.mesh: accessLogFormat", log.format().ok().flatten().as_ref(), findings);
    file("data.mesh: accessLogFile", log.access_log_file.as_deref().unwrap_or_default(), findings);
    for (at, provider) in config.extension_providers.iter().enumerate() {
        if let Some(it) = &provider.envoy_file_access_log {
            let field = format!("data.mesh: extensionProviders[{at}].envoyFileAccessLog");
            lines(&format!("{field}.logFormat"), it.format(&field).ok().flatten().as_ref(), findings);
            file(&format!("{field}.path"), &it.path, findings);
        }
    }
}

fn lines(field: &str, format: Option<&LineFormat>, findings: &mut Findings) {
    for name in format.into_iter().flat_map(LineFormat::unknown) {
        let problem = "not known to waypoints, which write - in its place";
        findings.warn(field, &format!("%{name}%"), problem, "leave it out");
    }
}

fn file(field: &str, path: &str, findings: &mut Findings) {
    if !matches!(path, "" | "/dev/stdout" | "/dev/stderr") {
        let remedy = "write /dev/stdout, and have the log of the pod collected";
        findings.warn(field, path, "waypoints write no files; lines go to their log", remedy);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::kinds::admit::review;

    #[test]
    fn operators_that_nobody_knows_and_files_are_said_by_their_fields() {
        let mesh = "accessLogFile: /var/log/a\naccessLogFormat: '%PROTOCOL% %HOSTNAME%'\nextensionProviders:\n\
            - {name: own, envoyFileAccessLog: {path: /dev/stdout, logFormat: {labels: {a: '%FILTER_STATE(x)%'}}}}\n";
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": "istio", "namespace": "istio-system" },
            "data": { "mesh": mesh },
        });
        let found: Vec<_> = review(&object).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        for wanted in [
            "data.mesh: accessLogFormat: %HOSTNAME%: not known to waypoints",
            "data.mesh: accessLogFile: /var/log/a: waypoints write no files",
            "data.mesh: extensionProviders[0].envoyFileAccessLog.logFormat: %FILTER_STATE(x)%: not known",
        ] {
            assert!(found.iter().any(|it| it.starts_with(wanted)), "{wanted} in {found:?}");
        }
    }
}
