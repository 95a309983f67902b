//! Values as users of upstream's charts have them: what a values file commonly says has its effect here, and what means
//! something else is refused by its name, with what to do. What became of each is in `docs/values.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::render::{CHARTS, chart, containers, helm, objects_of_file, pod, template};

/// Values that pass and change nothing: they say what is so here in any case, or are another chart's to mind.
const AS_IT_IS: [&str; 13] = [
    "ambient.enableAmbientDetectionRetry",
    "ambient.enabled",
    "ambient.reconcileIptablesOnStartup",
    "ambient.reconcilePodRulesOnStartup",
    "defaultRevision",
    "global.jwtPolicy",
    "global.meshID",
    "global.nativeNftables",
    "global.omitSidecarInjectorConfigMap",
    "global.pilotCertProvider",
    "global.resourceScope",
    "profile",
    "variant",
];
/// Minded elsewhere than in a template.
const ELSEWHERE: [(&str, &str); 4] = [
    ("enabled", "condition of the chart of all"),
    ("global.variant", "as variant"),
    ("revision", "of the node daemon: one serves all revisions"),
    ("meshConfig", "of node proxies: the control plane's chart writes it"),
];

/// What a team has in its file for one of upstream's charts.
fn common(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster_charts/upstream");
    folder.join(format!("{name}.yaml")).display().to_string()
}

/// What is asked of pods is the same for each chart that makes some.
fn as_asked(name: &str, pod: &Value, meta: &Value) {
    assert_eq!(pod["nodeSelector"]["pool"], "system", "{name}");
    assert_eq!(pod["tolerations"][0]["key"], "dedicated", "{name}");
    let affinity = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    assert!(pod.pointer(affinity).is_some(), "{name}");
    assert_eq!(pod["priorityClassName"], "system-cluster-critical", "{name}");
    assert_eq!(pod["terminationGracePeriodSeconds"], 45, "{name}");
    assert_eq!(meta["annotations"]["team"], "net", "{name}");
    assert_eq!(meta["labels"]["cost"], "mesh", "{name}");
}

#[test]
fn a_values_file_as_upstreams_users_have_it_has_its_effect() {
    for name in ["istiod-lite", "cni", "ztunnel"] {
        let all = objects_of_file(name, &common(name));
        let made = all.iter().find(|it| pod(it).is_some()).unwrap();
        as_asked(name, pod(made).unwrap(), made.pointer("/spec/template/metadata").unwrap());
        let container = containers(made).next().unwrap();
        let limits = &container["resources"]["limits"];
        assert_eq!(limits["memory"], "1Gi", "{name}");
        assert!(
            container["image"].as_str().unwrap().starts_with("registry.example/mesh/")
                && container["image"].as_str().unwrap().ends_with(":1.2"),
            "{name}"
        );
        assert_eq!(container["imagePullPolicy"], "Always", "{name}");
        let account = all.iter().find(|it| it["kind"] == "ServiceAccount").unwrap();
        assert_eq!(account["imagePullSecrets"], json!([{"name": "pull"}]), "{name}");
        let settings: BTreeMap<&str, &Value> = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["name"].as_str().unwrap(), &it["value"]))
            .collect();
        assert_eq!(settings["RUST_LOG"], "debug", "{name}");
        assert_eq!(settings["LOG_FORMAT"], "json", "{name}");
        let own: &[(&str, &str)] = match name {
            "istiod-lite" => &[("CLUSTER_ID", "east"), ("PILOT_ENABLE_IP_AUTOALLOCATE", "false")],
            "cni" => &[("EXCLUDE_NAMESPACES", "kube-system,legacy"), ("AMBIENT_DNS_CAPTURE", "false")],
            _ => &[
                ("ISTIO_META_CLUSTER_ID", "east"),
                ("NETWORK", "net1"),
                ("SECRET_TTL", "12h"),
                ("CA_ADDRESS", "https://cert-manager-istio-csr.cert-manager.svc:443"),
            ],
        };
        for (setting, value) in own {
            assert_eq!(settings[setting], value, "{name} {setting}");
        }
    }
    let all = objects_of_file("istiod-lite", &common("istiod-lite"));
    let of = |kind: &str| all.iter().find(|it| it["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    let scaler = &of("HorizontalPodAutoscaler")["spec"];
    assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&json!(2), &json!(4)));
    assert_eq!(scaler["metrics"][0]["resource"]["target"]["averageUtilization"], 70);
    assert_eq!(of("Deployment")["spec"]["replicas"], Value::Null, "the autoscaler's to say");
    assert_eq!(of("PodDisruptionBudget")["spec"]["minAvailable"], 1);
    assert_eq!(of("Service")["spec"]["ipFamilyPolicy"], "PreferDualStack");
    assert_eq!(of("ServiceAccount")["metadata"]["annotations"]["role"], "mesh");
    let mesh = of("ConfigMap")["data"]["mesh"].as_str().unwrap();
    for line in ["trustDomain: mesh.example", "accessLogFile: /dev/stdout", "istio.io/mesh: east"] {
        assert!(mesh.contains(line), "{mesh}");
    }
    assert!(!objects_of_file("base", &common("base")).is_empty());
}

/// What is refused with a remedy, by chart.
fn refused(name: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("{}/files/refused.yaml", chart(name))).unwrap();
    let file: Value = yaml_serde::from_str(&text).unwrap();
    serde_json::from_value(file["values"].clone()).unwrap()
}

/// A page is no use that leaves one of them out.
#[test]
fn what_means_something_else_here_is_refused_with_what_to_do_and_is_on_the_page() {
    let page = std::fs::read_to_string(chart("../../docs/values.md")).unwrap();
    for name in CHARTS {
        let all = refused(name);
        // All at once: who moves over mends them in one go.
        let values: Vec<String> = all.keys().map(|path| format!("{path}.x=y")).collect();
        let sets: Vec<&str> = values.iter().map(String::as_str).collect();
        let error = template(name, &sets).unwrap_err();
        for (path, remedy) in &all {
            assert!(error.contains(&format!("- {path}: {remedy}")), "{name} {path}: {error}");
            assert!(page.contains(&format!("`{path}`")), "docs/values.md says nothing of {path} ({name})");
        }
        // Switched off it says what is so.
        let off: Vec<String> = all.keys().map(|path| format!("{path}=false")).collect();
        let off: Vec<&str> = off.iter().map(String::as_str).collect();
        template(name, &off).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn in_the_chart_of_all_a_refused_value_is_named_as_it_was_given() {
    for (value, wanted) in [
        ("istiod.replicaCount=2", "- istiod: values of the control plane go under istiod-lite"),
        ("istiod-lite.pilot.env.A=b", "- istiod-lite.pilot: what is below it"),
        ("cni.repair.enabled=true", "- cni.repair.enabled: "),
        ("global.proxy.resources.limits.cpu=1", "- global.proxy.resources: "),
    ] {
        let error = template("ambit", &[value]).unwrap_err();
        assert!(error.contains(wanted), "{value}: {error}");
    }
}

/// Names of upstream's families that are none of ours; what says how things are passes.
#[test]
fn a_setting_of_upstreams_program_that_ours_does_not_have_is_refused_and_one_that_it_has_passes() {
    for (name, wrong, right) in [
        ("istiod-lite", "env.PILOT_PUSH_THROTTLE=9", "env.CITADEL_SELF_SIGNED_CA_CERT_TTL=24h"),
        ("istiod-lite", "env.PILOT_ENABLE_AMBIENT=false", "env.PILOT_ENABLE_AMBIENT=true"),
        ("cni", "env.REPAIR_NODE_NAME=x", "env.CNI_CONF_GROUP_READ=true"),
        ("cni", "env.NATIVE_NFTABLES=false", "env.NATIVE_NFTABLES=true"),
    ] {
        let error = template(name, &[wrong]).unwrap_err();
        let setting = wrong.split('=').next().unwrap();
        assert!(error.contains(&format!("- {setting}: ")), "{error}");
        template(name, &[right]).unwrap_or_else(|error| panic!("{right}: {error}"));
    }
    // Whatever is no family's is the user's own.
    template("istiod-lite", &["env.RUST_BACKTRACE=1"]).unwrap();
}

/// The list beside the charts and what the programs say of themselves do not drift apart.
#[test]
fn every_setting_that_a_chart_lets_pass_is_its_programs_and_none_of_a_family_is_left_out() {
    for (name, program, command) in [("istiod-lite", "istiod-lite", "run"), ("cni", "ambit-cni-node", "")] {
        let text = std::fs::read_to_string(format!("{}/files/refused.yaml", chart(name))).unwrap();
        let file: Value = yaml_serde::from_str(&text).unwrap();
        let known: BTreeSet<&str> =
            file["env"]["known"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let families: Vec<&str> = file["env"]["like"]
            .as_str()
            .unwrap()
            .trim_start_matches("^(")
            .trim_end_matches(")_")
            .split('|')
            .collect();
        let help = crate::help(program, command);
        let all = help.split("[env: ").skip(1).filter_map(|it| it.split('=').next());
        let of_a_family: BTreeSet<&str> =
            all.filter(|it| families.iter().any(|family| it.starts_with(&format!("{family}_")))).collect();
        assert_eq!(known, of_a_family, "{name}");
    }
}

/// Every value that a schema lets pass is looked at by a template, or is on the list above.
#[test]
fn every_value_of_a_schema_is_used() {
    let page = std::fs::read_to_string(chart("../../docs/values.md")).unwrap();
    for path in AS_IT_IS {
        assert!(page.contains(&format!("`{path}`")), "docs/values.md says nothing of {path}");
    }
    let everybodys: String = CHARTS.iter().map(|name| templates(name)).collect();
    for name in CHARTS {
        let text = std::fs::read_to_string(format!("{}/values.schema.json", chart(name))).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let (own, refused) = (templates(name), refused(name));
        for path in leaves(&schema, "") {
            // What is for all charts is some chart's, and refused by the control plane's.
            let is_global = path.starts_with("global.");
            let is_refused =
                refused.contains_key(&path) || is_global && self::refused("istiod-lite").contains_key(&path);
            let is_used = uses(if is_global { &everybodys } else { &own }, &path);
            let is_named = AS_IT_IS.contains(&path.as_str()) || ELSEWHERE.iter().any(|(it, _)| path == *it);
            let is_a_charts = name == "ambit" && CHARTS.contains(&path.as_str());
            assert!(is_refused || is_used || is_named || is_a_charts, "{name}: nothing uses {path}");
        }
    }
}

fn templates(name: &str) -> String {
    let folder = format!("{}/templates", chart(name));
    let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    files.map(|it| std::fs::read_to_string(it).unwrap()).collect()
}

/// The paths of a schema at which nothing more is listed.
fn leaves(schema: &Value, above: &str) -> Vec<String> {
    let members = schema["properties"].as_object().into_iter().flatten();
    let below = members.flat_map(|(name, schema)| {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        leaves(schema, &path)
    });
    let all: Vec<String> = below.collect();
    if all.is_empty() && !above.is_empty() { vec![above.to_owned()] } else { all }
}

/// Whether a template names this value, or something above it as a whole.
fn uses(templates: &str, path: &str) -> bool {
    let mut whole = Some(path);
    while let Some(name) = whole {
        let wanted = format!(".Values.{name}");
        let is_whole = |rest: &str| {
            let next = rest.chars().next().unwrap_or(' ');
            !(next.is_alphanumeric() || next == '.' && rest.chars().nth(1).is_some_and(char::is_alphabetic))
        };
        if templates.match_indices(&wanted).any(|(at, _)| is_whole(&templates[at + wanted.len()..])) {
            return true;
        }
        whole = name.rsplit_once('.').map(|(above, _)| above);
    }
    false
}

/// The folder of the files above holds nothing that no test reads.
#[test]
fn files_of_values_are_for_charts_that_are_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster_charts/upstream");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(CHARTS.contains(&name), "{}", path.display());
        helm(&["lint", "--strict", &chart(name), "-f", &path.display().to_string()]).unwrap();
    }
}
