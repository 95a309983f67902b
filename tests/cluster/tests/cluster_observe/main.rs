//! What people look at a mesh with: every command that looks, against the mesh as it is installed, well and not well.
//! Owns the story. What the commands make of what they see is tested beside them.

#![cfg(test)]

mod commands;
mod report;

use std::time::Duration;

use ambit_cluster_lab::Lab;
use ambit_cluster_lab::mesh::{SHOP, pod, told};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use commands::Ambit;

const PODS: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: only-client, namespace: shop }
spec:
  action: ALLOW
  selector: { matchLabels: { app: web } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/client] } }] }]
";

#[test]
fn every_command_that_looks_sees_the_mesh_as_it_is() {
    told("observe", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    let ambit = Ambit::of(lab)?;
    lab.import_programs()?;
    lab.apply(SHOP)?;
    lab.apply(&pod("web", "n2"))?;
    lab.apply(&pod("client", "n1"))?;
    sees_no_mesh(&ambit)?;
    lab.install_mesh(&[])?;
    lab.pods_ready("shop", "app in (web, client)", PODS)?;
    lab.enrol("shop")?;
    lab.is_in("shop", "web")?;
    lab.is_in("shop", "client")?;
    lab.apply(POLICY)?;
    sees_a_mesh_that_is_well(lab, &ambit)?;
    sees_who_is_told(lab, &ambit)?;
    sees_what_proxies_know(lab, &ambit)?;
    sees_what_proxies_carry(lab, &ambit)?;
    sets_levels_of_logs(&ambit)?;
    tells_of_pods_and_services(lab, &ambit)?;
    explains_connections(lab, &ambit)?;
    finds_what_does_not_go_together(lab, &ambit)?;
    ambit.follow("observe.md")?;
    report::is_whole_and_holds_no_secret(lab, &ambit)?;
    sees_what_is_not_well(lab, &ambit)
}

fn sees_no_mesh(ambit: &Ambit) -> Result<()> {
    let said = ambit.fails(&["status"])?;
    ensure!(said.contains("no control plane runs here"), "{said}");
    let said = ambit.fails(&["zc", "workload"])?;
    ensure!(said.contains("no ztunnel runs in namespace istio-system"), "{said}");
    let said = ambit.fails(&["proxy-status"])?;
    ensure!(said.contains("no control plane runs in namespace istio-system"), "{said}");
    Ok(())
}

fn sees_a_mesh_that_is_well(lab: &Lab, ambit: &Ambit) -> Result<()> {
    let text = lab.wait("the mesh to be well", SOON, || ambit.says(&["status"]))?;
    for words in ["Control plane: 1/1 ready", "The mesh is well.", "Root certificate: until 20"] {
        ensure!(text.contains(words), "{words}: {text}");
    }
    let status = ambit.json(&["status", "-o", "json"])?;
    ensure!(status["healthy"] == true, "{status}");
    let leader = status["controlPlane"]["leader"].as_str().context("nobody leads")?;
    ensure!(leader == status["controlPlane"]["replicas"][0]["name"], "{leader}");
    let nodes = status["nodes"].as_array().context("no nodes")?;
    ensure!(nodes.len() == 2, "{status}");
    for node in nodes {
        ensure!(node["synced"] == true && node["ztunnel"]["ready"] == true, "{node}");
        ensure!(node["cni"]["version"] == env!("CARGO_PKG_VERSION"), "{node}");
    }
    let shop = &status["namespaces"][0];
    ensure!(shop["name"] == "shop" && shop["enrolled"] == 2 && shop["notEnrolled"] == 0, "{status}");
    let yaml = ambit.says(&["status", "-o", "yaml"])?;
    ensure!(yaml.contains("healthy: true"), "{yaml}");
    Ok(())
}

fn sees_who_is_told(lab: &Lab, ambit: &Ambit) -> Result<()> {
    let proxies = lab.wait("proxies to have taken what they were told", SOON, || {
        let proxies = ambit.json(&["proxy-status", "-o", "json"])?;
        let all = proxies.as_array().context("no list")?;
        ensure!(all.len() == 2, "{proxies}");
        for it in all {
            for kind in ["Address", "Authorization"] {
                ensure!(it["types"][kind]["step"] == "synced", "{it}");
            }
            ensure!(it["istiod"].as_str().is_some_and(|name| name.starts_with("istiod-")), "{it}");
        }
        Ok(proxies)
    })?;
    let name = proxies[0]["name"].as_str().context("no name")?;
    let one = ambit.says(&["ps", &format!("{name}.istio-system")])?;
    ensure!(one.lines().count() == 2 && one.contains("Address SYNCED, Authorization SYNCED"), "{one}");
    let said = ambit.fails(&["ps", "nobody"])?;
    ensure!(said.contains("no replica knows a proxy nobody"), "{said}");
    Ok(())
}

fn sees_what_proxies_know(lab: &Lab, ambit: &Ambit) -> Result<()> {
    let workloads = ambit.says(&["ztunnel-config", "workload"])?;
    let cells: Vec<&str> = row(&workloads, "web")?.split_whitespace().collect();
    ensure!(cells.get(3..) == Some(&["n2", "None", "HBONE"]), "{workloads}");
    let named = ambit.says(&["zc", "workload", "web.shop"])?;
    ensure!(named.lines().count() == 2, "{named}");
    let ip = lab.kubectl(&["-n", "shop", "get", "pod", "web", "-o", "jsonpath={.status.podIP}"])?;
    for more in [["--address", ip.as_str()], ["--workload-node", "n1"], ["--workload-namespace", "shop"]] {
        let found = ambit.json(&["zc", "w", more[0], more[1], "--node", "n1", "-o", "json"])?;
        let found = found.as_array().context("no list")?;
        let names: Vec<&str> = found.iter().filter_map(|it| it["name"].as_str()).collect();
        let wanted = if more[0] == "--workload-node" { "client" } else { "web" };
        ensure!(names.contains(&wanted), "{more:?}: {names:?}");
        ensure!(names.contains(&"web") != (wanted == "client"), "{more:?}: {names:?}");
    }
    let services = ambit.says(&["zc", "svc", "--service-namespace", "shop"])?;
    ensure!(services.lines().count() == 2 && row(&services, "web")?.ends_with("1/1"), "{services}");
    let policies = lab.wait("the policy to be known", SOON, || {
        let policies = ambit.says(&["zc", "policies", "--policy-namespace", "shop"])?;
        row(&policies, "only-client")?;
        Ok(policies)
    })?;
    ensure!(row(&policies, "only-client")?.contains("Allow"), "{policies}");
    let certificates = ambit.says(&["zc", "certificate", "pod/web", "-n", "shop"])?;
    let leaf = row(&certificates, "Leaf")?;
    ensure!(
        leaf.starts_with("spiffe://cluster.local/ns/shop/sa/web ") && leaf.contains("Available"),
        "{leaf}"
    );
    let all = ambit.says(&["zc", "certificate"])?;
    ensure!(all.contains("/sa/client ") && all.contains("/sa/web "), "each node has its own: {all}");
    from_a_file(ambit)
}

fn from_a_file(ambit: &Ambit) -> Result<()> {
    let dump = ambit.says(&["zc", "all", "--node", "n2", "-o", "json"])?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &dump)?;
    let path = file.path().display().to_string();
    let text = ambit.says(&["zc", "all", "--with-headers", "-f", &path])?;
    for title in ["Workloads:", "Services:", "Policies:", "Certificates:", "Connections:"] {
        ensure!(text.contains(title), "{title}: {text}");
    }
    std::fs::write(file.path(), "{}")?;
    let said = ambit.fails(&["zc", "workload", "-f", &path])?;
    ensure!(said.contains("no dump of a ztunnel"), "{said}");
    let said = ambit.fails(&["zc", "workload", "nobody.shop"])?;
    ensure!(said.contains("there is no pod nobody.shop"), "{said}");
    let said = ambit.fails(&["zc", "workload", "--node", "n9"])?;
    ensure!(said.contains("no ztunnel runs on node n9"), "{said}");
    Ok(())
}

fn sees_what_proxies_carry(lab: &Lab, ambit: &Ambit) -> Result<()> {
    let mut holds = lab
        .kubectl_command(&[
            "-n",
            "shop",
            "exec",
            "client",
            "--",
            "ambit",
            "pod",
            "hold",
            "http://web.shop/hold",
        ])
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let seen = lab.wait("an open connection to be seen from both ends", SOON, || {
        let out = ambit.says(&["zc", "connections", "client.shop", "--direction", "outbound"])?;
        let line = row(&out, "client.shop")?.to_owned();
        ensure!(line.contains("web.shop.svc.cluster.local:80") && line.ends_with("HBONE"), "{out}");
        let raw = ambit.says(&["zc", "cons", "client.shop", "--raw"])?;
        ensure!(row(&raw, "client.shop")?.contains(":15008"), "{raw}");
        let both = ambit.json(&["zc", "cons", "-o", "json", "--workload-namespace", "shop"])?;
        let ways: Vec<&Value> =
            both.as_array().context("no list")?.iter().map(|it| &it["direction"]).collect();
        ensure!(ways.contains(&&"Inbound".into()) && ways.contains(&&"Outbound".into()), "{both}");
        Ok(())
    });
    holds.kill()?;
    holds.wait()?;
    seen
}

fn sets_levels_of_logs(ambit: &Ambit) -> Result<()> {
    let said = ambit.says(&["zc", "log", "--node", "n1", "--level", "access:off,warning"])?;
    ensure!(said.lines().count() == 1 && said.contains("access=off"), "{said}");
    let said = ambit.says(&["zc", "log"])?;
    let levels: Vec<bool> = said.lines().map(|line| line.contains("access=off")).collect();
    ensure!(levels.len() == 2 && levels.contains(&false), "the other node's is as it was: {said}");
    let said = ambit.says(&["zc", "log", "--reset"])?;
    ensure!(!said.contains("access=off"), "{said}");
    Ok(())
}

fn tells_of_pods_and_services(lab: &Lab, ambit: &Ambit) -> Result<()> {
    let text = lab.wait("the pod to be well", SOON, || ambit.says(&["describe", "pod", "web.shop"]))?;
    for words in [
        "Pod shop/web on n2,",
        "Mesh:         in",
        "Identity:     spiffe://cluster.local/ns/shop/sa/web",
        "Certificate:  Available, until 20",
        "Reached by:   HBONE",
        "Services:     web.shop.svc.cluster.local 80->8080",
        "ALLOW shop/only-client, chosen for it",
    ] {
        ensure!(text.contains(words), "{words}: {text}");
    }
    let service = ambit.json(&["describe", "service", "web", "-n", "shop", "-o", "json"])?;
    ensure!(service["host"] == "web.shop.svc.cluster.local", "{service}");
    ensure!(
        service["endpoints"][0]["inMesh"] == true && service["endpoints"][0]["healthy"] == true,
        "{service}"
    );
    ensure!(service["policies"][0]["policy"] == "shop/only-client", "{service}");
    for (wrong, says) in [
        (["describe", "pod", "nobody.shop"], "there is no pod nobody.shop"),
        (["describe", "svc", "nothing.shop"], "there is no service nothing.shop"),
    ] {
        let said = ambit.fails(&wrong)?;
        ensure!(said.contains(says), "{said}");
    }
    // The proxies' own pods are out, as they are to be, and that is no problem.
    let ztunnel = lab.kubectl(&["-n", "istio-system", "get", "pods", "-l", "app=ztunnel", "-o", "name"])?;
    let ztunnel = ztunnel.lines().next().context("no ztunnel")?;
    let text = ambit.says(&["describe", "pod", ztunnel, "-n", "istio-system"])?;
    ensure!(text.contains("out; it is part of the mesh itself"), "{text}");
    Ok(())
}

fn explains_connections(lab: &Lab, ambit: &Ambit) -> Result<()> {
    let why = |source: &str| ambit.json(&["why", source, "web.shop:80", "--cluster", "-o", "json"]);
    let allowed = why("shop/client")?;
    ensure!(allowed["verdict"]["allowed"] == true, "{allowed}");
    ensure!(allowed["verdict"]["policy"] == "shop/only-client", "{allowed}");
    ensure!(lab.fetch("shop/client", "http://web.shop/why").is_ok(), "and it is as it was explained");
    let denied = why("shop/web")?;
    ensure!(denied["verdict"]["allowed"] == false, "{denied}");
    ensure!(lab.fetch("shop/web", "http://web.shop/why").is_err(), "and it is as it was explained");
    let text = ambit.says(&["why", "shop/client", "web:80"])?;
    ensure!(text.contains("HBONE to") && text.contains("allowed by policy shop/only-client"), "{text}");
    let said = ambit.fails(&["why", "shop/nobody", "web:80"])?;
    ensure!(said.contains("there is no pod shop/nobody"), "{said}");
    Ok(())
}

fn finds_what_does_not_go_together(lab: &Lab, ambit: &Ambit) -> Result<()> {
    let text = ambit.says(&["analyze", "--cluster", "-n", "shop"])?;
    ensure!(text.contains("errors: 0, warnings: 0"), "{text}");
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    std::fs::write(file.path(), POLICY.replace("app: web", "app: wep").replace("only-client", "stray"))?;
    let path = file.path().display().to_string();
    let text = ambit.says(&["analyze", "--cluster", "-A", &path])?;
    ensure!(text.contains("warning AMB0101") && text.contains("shop/stray"), "as if it were applied: {text}");
    let said = ambit.fails(&["analyze", "--cluster", "-A", "--failure-threshold", "warning", &path])?;
    ensure!(said.contains("AMB0101"), "{said}");
    lab.apply(&POLICY.replace(
        "selector: { matchLabels: { app: web } }",
        "targetRefs: [{kind: Service, name: gone, group: ''}]",
    ))?;
    let said = lab.wait("the missing target to be found", SOON, || {
        ambit.fails(&["analyze", "--cluster", "-n", "shop"])
    })?;
    ensure!(said.contains("error AMB0102") && said.contains("gone"), "{said}");
    lab.delete(POLICY)?;
    lab.apply(POLICY)?;
    let found = ambit.json(&["analyze", "--cluster", "-A", "-o", "json"])?;
    ensure!(found["objects"].as_u64() > Some(20), "{found}");
    Ok(())
}

fn sees_what_is_not_well(lab: &Lab, ambit: &Ambit) -> Result<()> {
    lab.kubectl(&["-n", "istio-system", "scale", "deployment", "istiod", "--replicas", "0"])?;
    lab.wait("its end to be seen", PODS, || {
        let said = ambit.fails(&["status"])?;
        ensure!(said.contains("no control plane runs here"), "{said}");
        Ok(())
    })?;
    lab.kubectl(&["-n", "istio-system", "scale", "deployment", "istiod", "--replicas", "1"])?;
    lab.pods_ready("istio-system", "app=istiod", PODS)?;
    lab.wait("the mesh to be well again", PODS, || ambit.says(&["status"]))?;
    sees_who_is_not_in(lab, ambit)
}

/// Without node daemons nobody repairs what is said on a pod.
fn sees_who_is_not_in(lab: &Lab, ambit: &Ambit) -> Result<()> {
    let nowhere = r#"{"spec": {"template": {"spec": {"nodeSelector": {"nobody": "has-this"}}}}}"#;
    lab.kubectl(&["-n", "istio-system", "patch", "daemonset", "istio-cni-node", "-p", nowhere])?;
    lab.wait("the daemons' end to be seen", PODS, || {
        let said = ambit.fails(&["status"])?;
        ensure!(
            said.contains("node n1 has no node daemon") && said.contains("node n2 has no node daemon"),
            "{said}"
        );
        Ok(())
    })?;
    lab.kubectl(&["-n", "shop", "annotate", "pod", "web", "ambient.istio.io/redirection-"])?;
    let said = ambit.fails(&["status"])?;
    ensure!(said.contains("shop/web on n2: the node daemon has not enrolled it"), "{said}");
    let said = ambit.fails(&["describe", "pod", "web.shop"])?;
    ensure!(said.contains("it is to be in the mesh and is not"), "{said}");
    let said = ambit.says(&["analyze", "--cluster", "-n", "shop"])?;
    ensure!(
        said.contains("warning AMB0201") && said.contains("web (the node daemon has not enrolled it)"),
        "{said}"
    );
    Ok(())
}

/// The line of a table with this word.
fn row<'a>(table: &'a str, word: &str) -> Result<&'a str> {
    let has = |line: &&str| line.split_whitespace().any(|cell| cell == word);
    table.lines().find(has).with_context(|| format!("{word} is not in {table}"))
}
