//! `ambit proxy-status`: who is told by the control plane, whether he has taken it, and by which replica.
//! Owns asking every replica; a ztunnel that no replica knows is in the list, too. What a replica says is read in `told`.

mod told;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use ambit_cluster::api::Client;
use clap::Args;
use serde::Serialize;

pub(super) use self::told::read;
use super::parts::{CONTROL_PLANE, Part, ZTUNNELS, fetch, parts};
use super::{Which, block_on};
use crate::args::fail;
use crate::output::{Output, render};
use crate::table::Table;

/// Where a replica answers its own pod.
pub(super) const DEBUG_PORT: u16 = 8080;

/// What `ambit proxy-status` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProxiesArgs {
    #[command(flatten)]
    which: Which,
    /// Only this one: NAME or NAME.NAMESPACE.
    proxy: Option<String>,
    /// How to print it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    output: Output,
}

/// How far a proxy is with one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Step {
    /// It has acknowledged the latest that was sent: it is in force.
    Synced,
    /// Something was sent that it has not answered yet.
    Pending,
    /// It has refused the latest.
    Refused,
    /// Nothing was sent.
    NotSent,
}

impl Step {
    fn label(self) -> &'static str {
        match self {
            Self::Synced => "SYNCED",
            Self::Pending => "PENDING",
            Self::Refused => "REFUSED",
            Self::NotSent => "NOT SENT",
        }
    }
}

/// One type, as one proxy has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TypeStep {
    pub(super) step: Step,
    /// Of a control plane that counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    acks: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nacks: Option<u64>,
    /// The latest refusal, also where it was made good since.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Proxy {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) node: String,
    pub(super) version: String,
    /// The replica that tells it; none: nobody does.
    pub(super) istiod: Option<String>,
    /// None where it is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected_seconds: Option<u64>,
    /// By the type's short name.
    pub(super) types: BTreeMap<String, TypeStep>,
}

impl Proxy {
    /// What is wrong with it, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        let who = format!("{}.{}", self.name, self.namespace);
        if self.istiod.is_none() {
            return Some(format!("{who} is not connected to the control plane"));
        }
        let refused = self.types.iter().find(|(_, it)| it.step == Step::Refused);
        refused.map(|(kind, it)| {
            format!("{who} refuses {kind}: {}", it.last_error.as_deref().unwrap_or("it does not say why"))
        })
    }

    /// Whether all that was sent is in force.
    pub(super) fn is_synced(&self) -> bool {
        self.istiod.is_some() && self.types.values().all(|it| it.step == Step::Synced)
    }
}

/// The clients of all replicas, with what the cluster knows of their pods; and ready ztunnels that are nobody's.
pub(super) fn merge(mut told: Vec<Proxy>, ztunnels: &[Part]) -> Vec<Proxy> {
    for part in ztunnels {
        let mut is_told = false;
        for proxy in told.iter_mut().filter(|it| it.name == part.name && it.namespace == part.namespace) {
            (proxy.node, proxy.version) = (part.node.clone(), part.version.clone());
            is_told = true;
        }
        // One that starts or ends is not expected to be there.
        if !is_told && part.ready {
            told.push(Proxy {
                name: part.name.clone(),
                namespace: part.namespace.clone(),
                node: part.node.clone(),
                version: part.version.clone(),
                istiod: None,
                connected_seconds: None,
                types: BTreeMap::new(),
            });
        }
    }
    told.sort_by(|a, b| {
        (&a.node, &a.namespace, &a.name, &a.istiod).cmp(&(&b.node, &b.namespace, &b.name, &b.istiod))
    });
    told
}

/// Asks every replica that runs. What one does not say is told beside.
pub(super) async fn told(client: &Client, replicas: &[Part]) -> (Vec<Proxy>, Vec<String>) {
    let (mut all, mut troubles) = (Vec::new(), Vec::new());
    for replica in replicas.iter().filter(|part| part.phase == "Running") {
        match fetch(client, replica, DEBUG_PORT, "/debug/syncz").await {
            Err(error) => troubles.push(crate::args::chain(&error)),
            Ok(said) => match read(&replica.name, &said) {
                Ok(proxies) => all.extend(proxies),
                Err(error) => troubles.push(format!(
                    "{} tells its clients in a form that is neither ours nor upstream's ({error}); if it is \
                     upstream's, ask `istioctl proxy-status`",
                    replica.name
                )),
            },
        }
    }
    (all, troubles)
}

/// Shows who is told. Fails when somebody refuses what he is told, or nobody tells him.
pub(crate) fn run(args: &ProxiesArgs) -> ExitCode {
    match block_on(ask(args)) {
        Ok((text, troubles)) => {
            print!("{text}");
            for trouble in &troubles {
                eprintln!("ambit: {trouble}");
            }
            if troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => fail(error.as_ref()),
    }
}

async fn ask(args: &ProxiesArgs) -> Result<(String, Vec<String>), Box<dyn Error>> {
    let client = args.which.client().await?;
    let system = &args.which.istio_namespace;
    let replicas = parts(&client, system, CONTROL_PLANE).await?;
    if replicas.is_empty() {
        return Err(
            format!("no control plane runs in namespace {system}; name its with --istioNamespace").into()
        );
    }
    let (told, mut troubles) = told(&client, &replicas).await;
    let mut proxies = merge(told, &parts(&client, system, ZTUNNELS).await?);
    if let Some(wanted) = &args.proxy {
        proxies.retain(|it| it.name == *wanted || format!("{}.{}", it.name, it.namespace) == *wanted);
        if proxies.is_empty() {
            return Err(
                format!("no replica knows a proxy {wanted}, and no ready ztunnel is called so").into()
            );
        }
    }
    troubles.extend(proxies.iter().filter_map(Proxy::trouble));
    Ok((render(&proxies, args.output, |proxies| table(proxies).text())?, troubles))
}

fn table(proxies: &[Proxy]) -> Table {
    let mut table =
        Table::new(&["NAME", "NODE", "ISTIOD", "VERSION", "CONNECTED", "SUBSCRIBED TYPES", "LAST ERROR"]);
    for it in proxies {
        let types = it.types.iter().map(|(kind, of)| format!("{kind} {}", of.step.label()));
        let errors: Vec<&str> = it.types.values().filter_map(|it| it.last_error.as_deref()).collect();
        let (istiod, connected) = match &it.istiod {
            Some(replica) => (replica.clone(), it.connected_seconds.map(age).unwrap_or_default()),
            None => ("NOT CONNECTED".into(), String::new()),
        };
        table.row([
            format!("{}.{}", it.name, it.namespace),
            it.node.clone(),
            istiod,
            it.version.clone(),
            connected,
            types.collect::<Vec<_>>().join(", "),
            errors.join("; "),
        ]);
    }
    table
}

/// As kubectl says it.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"[
        {"stream": 1, "node": "ztunnel~10.0.0.5~zt-1.istio-system~istio-system.svc.cluster.local", "ageSeconds": 61,
         "identity": "spiffe://cluster.local/ns/istio-system/sa/ztunnel", "peer": "10.0.0.5:4000", "inStep": true,
         "types": [
          {"type": "type.googleapis.com/istio.workload.Address", "sent": 4, "answered": 4, "unanswered": 0, "acks": 4,
           "nacks": 1, "stale": 0, "refused": "old", "refusedGeneration": 2},
          {"type": "type.googleapis.com/istio.security.Authorization", "sent": 5, "answered": 4, "unanswered": 1,
           "acks": 3, "nacks": 0, "stale": 0, "refused": null, "refusedGeneration": null}]},
        {"stream": 2, "node": "ztunnel~10.0.0.6~zt-2.istio-system~x", "ageSeconds": 9000, "types": [
          {"type": "type.googleapis.com/istio.workload.Address", "sent": 4, "answered": 4, "unanswered": 0, "acks": 3,
           "nacks": 1, "stale": 0, "refused": "shop/web: bad", "refusedGeneration": 4},
          {"type": "type.googleapis.com/istio.security.Authorization", "sent": null, "answered": null}]}
    ]"#;

    fn part(name: &str, ready: bool) -> Part {
        Part {
            namespace: "istio-system".into(),
            name: name.into(),
            node: format!("node-of-{name}"),
            ready,
            version: "1".into(),
            phase: "Running".into(),
            restarts: 0,
        }
    }

    #[test]
    fn each_type_is_synced_pending_refused_or_not_sent() {
        let proxies = read("istiod-a", SAID).unwrap();
        let steps: Vec<_> =
            proxies.iter().map(|it| (it.types["Address"].step, it.types["Authorization"].step)).collect();
        assert_eq!(steps, [(Step::Synced, Step::Pending), (Step::Refused, Step::NotSent)]);
        assert_eq!(proxies[0].trouble(), None);
        assert!(!proxies[0].is_synced());
        assert_eq!(proxies[1].trouble().unwrap(), "zt-2.istio-system refuses Address: shop/web: bad");
    }

    #[test]
    fn a_ready_ztunnel_that_no_replica_knows_is_shown_and_is_a_trouble_but_one_that_starts_is_not() {
        let all =
            merge(read("a", SAID).unwrap(), &[part("zt-1", true), part("zt-3", true), part("zt-4", false)]);
        let names: Vec<_> =
            all.iter().map(|it| (it.name.as_str(), it.istiod.is_some(), it.node.as_str())).collect();
        assert_eq!(
            names,
            [("zt-2", true, ""), ("zt-1", true, "node-of-zt-1"), ("zt-3", false, "node-of-zt-3")]
        );
        assert!(all[2].trouble().unwrap().contains("not connected"));
        let text = table(&all).text();
        assert!(
            text.contains("NOT CONNECTED") && text.contains("Address REFUSED, Authorization NOT SENT"),
            "{text}"
        );
        assert!(text.contains("61s") && text.contains("2h"), "{text}");
    }
}
