//! What a replica says of its clients at `/debug/syncz`: ours, and upstream's, whose other parts may be ours.
//! Owns both forms; what is made of them is the command's.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Proxy, Step, TypeStep};

/// The clients of one replica, as it tells them: an empty list reads as either form.
pub(in crate::cluster) fn read(replica: &str, said: &str) -> Result<Vec<Proxy>, serde_json::Error> {
    let clients: Vec<Client> = serde_json::from_str(said)?;
    let proxy = |client| match client {
        Client::Ours(stream) => stream.proxy(replica),
        Client::Upstreams(state) => state.proxy(replica),
    };
    Ok(clients.into_iter().map(proxy).collect())
}

/// A client, as one of the two control planes shows it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    Ours(Stream),
    Upstreams(State),
}

/// A stream as `/debug/syncz` shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stream {
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    identity: Option<String>,
    #[serde(default)]
    age_seconds: u64,
    types: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    #[serde(rename = "type")]
    url: String,
    #[serde(default)]
    sent: Option<u64>,
    #[serde(default)]
    answered: Option<u64>,
    #[serde(default)]
    unanswered: u64,
    #[serde(default)]
    acks: u64,
    #[serde(default)]
    nacks: u64,
    #[serde(default)]
    refused: Option<String>,
    /// Which generation that was.
    #[serde(default)]
    refused_generation: Option<u64>,
}

impl Kind {
    fn step(self) -> (String, TypeStep) {
        let is_refused = self.refused_generation.is_some() && self.refused_generation == self.answered;
        let step = match self.sent {
            None => Step::NotSent,
            Some(_) if is_refused => Step::Refused,
            Some(_) if self.unanswered > 0 => Step::Pending,
            Some(_) => Step::Synced,
        };
        let (acks, nacks) = (Some(self.acks), Some(self.nacks));
        (short(&self.url), TypeStep { step, acks, nacks, last_error: self.refused })
    }
}

impl Stream {
    fn proxy(self, replica: &str) -> Proxy {
        // `<type>~<ip>~<pod>.<namespace>~<domain>`, or whatever else a client calls itself.
        let id = self.node.or(self.identity).unwrap_or_else(|| "unknown".into());
        let full = id.split('~').nth(2).unwrap_or(&id);
        let (name, namespace) = full.rsplit_once('.').unwrap_or((full, ""));
        Proxy {
            name: name.into(),
            namespace: namespace.into(),
            node: String::new(),
            version: String::new(),
            istiod: Some(replica.into()),
            connected_seconds: Some(self.age_seconds),
            types: self.types.into_iter().map(Kind::step).collect(),
        }
    }
}

/// A client as upstream's control plane shows it: of each type which answer was the latest to be sent, and acknowledged.
#[derive(Debug, Deserialize)]
struct State {
    proxy: String,
    #[serde(default)]
    istio_version: String,
    resources: BTreeMap<String, Answers>,
}

#[derive(Debug, Deserialize)]
struct Answers {
    #[serde(default)]
    sent: Option<String>,
    #[serde(default)]
    acked: Option<String>,
}

impl State {
    fn proxy(self, replica: &str) -> Proxy {
        let (name, namespace) = self.proxy.rsplit_once('.').unwrap_or((&self.proxy, ""));
        Proxy {
            name: name.into(),
            namespace: namespace.into(),
            node: String::new(),
            version: self.istio_version,
            istiod: Some(replica.into()),
            connected_seconds: None,
            types: self.resources.into_iter().map(|(kind, answers)| (short(&kind), answers.step())).collect(),
        }
    }
}

impl Answers {
    /// That one was refused is not told there: it stays unacknowledged.
    fn step(self) -> TypeStep {
        let (sent, acked) = (self.sent.unwrap_or_default(), self.acked.unwrap_or_default());
        let step = match sent.as_str() {
            "" => Step::NotSent,
            _ if sent == acked => Step::Synced,
            _ => Step::Pending,
        };
        TypeStep { step, acks: None, nacks: None, last_error: None }
    }
}

/// The last word of a type's address.
fn short(kind: &str) -> String {
    kind.rsplit(['.', '/']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_clients_are_read_with_what_they_have_acknowledged() {
        let said = r#"[{"cluster_id": "Kubernetes", "proxy": "ztunnel-x7.istio-system", "istio_version": "1.32.0",
            "resources": {"type.googleapis.com/istio.workload.Address": {"sent": "n2", "acked": "n2"},
                "type.googleapis.com/istio.security.Authorization": {"sent": "n3", "acked": "n1"}}},
            {"proxy": "waypoint-1.shop", "resources": {"CDS": {"sent": "a"}, "LDS": {}}}]"#;
        let proxies = read("istiod-a", said).unwrap();
        let steps: Vec<Vec<(&str, Step)>> = proxies
            .iter()
            .map(|it| it.types.iter().map(|(kind, of)| (kind.as_str(), of.step)).collect())
            .collect();
        assert_eq!(
            steps,
            [
                [("Address", Step::Synced), ("Authorization", Step::Pending)],
                [("CDS", Step::Pending), ("LDS", Step::NotSent)]
            ]
        );
        let first = &proxies[0];
        assert_eq!((first.name.as_str(), first.namespace.as_str()), ("ztunnel-x7", "istio-system"));
        assert_eq!((first.version.as_str(), first.connected_seconds), ("1.32.0", None));
        assert_eq!(first.trouble(), None, "that it waits is no trouble yet");
    }

    #[test]
    fn another_form_is_not_read_as_nobody() {
        for other in [r#"[{"cluster_id": "Kubernetes", "proxy": "x"}]"#, "{}", "[[]]", r#"[{"proxy": 1}]"#] {
            assert!(read("a", other).is_err(), "{other}");
        }
        assert!(read("a", "[]").unwrap().is_empty());
    }
}
