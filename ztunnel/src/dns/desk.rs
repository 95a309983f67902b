//! One pod's questions: which are its own, what is said to them at once, what takes others.
//! Owns the decision for one question and its record. Bytes come and go by `serve`.

use std::net::SocketAddr;
use std::sync::Arc;

use ambit_model::dns::Reply;
use ambit_model::workload::Workload;
use ambit_process::clock;
use ambit_wire::dns::{Carrier, Failure, NoQuestion, Question};
use ambit_wire::node_link::PodInfo;
use tracing::debug;

use super::Names;
use super::counted::Labels;
use super::forward::forward;
use crate::outcome::chain;
use crate::pod::{LOCAL_WAIT, Shared};
use crate::sockets::Sockets;

/// A pod's place where names are asked.
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) names: Arc<Names>,
    pub(super) pod: Arc<PodInfo>,
    pub(super) sockets: Arc<dyn Sockets>,
}

/// What becomes of bytes.
pub(super) enum Next {
    /// This is the answer.
    Say(Vec<u8>),
    /// Not worth one.
    Ignore,
    /// The answer takes time; `Desk::later` has it.
    Wait(Question),
}

impl Desk {
    /// Whether somebody may ask here: processes of the pod, whose packets come from loopback or an address of the
    /// pod's own. Our own port never asks: an answer to an answer would go on for ever.
    pub(super) fn may_ask(&self, from: SocketAddr) -> bool {
        let ip = from.ip().to_canonical();
        let is_us = ip.is_loopback() && self.names.at.iter().any(|at| at.port() == from.port());
        let is_local = || {
            let known = self.shared.world.local_now(&self.pod);
            known.is_some_and(|w| w.addresses.contains(&ip)) || self.sockets.owns(ip)
        };
        !is_us && (ip.is_loopback() || is_local())
    }

    /// Looks at a question; answers at once what we know ourselves.
    pub(super) fn look(&self, bytes: &[u8], carrier: Carrier) -> Next {
        let question = match Question::parse(bytes) {
            Ok(question) => question,
            Err(NoQuestion::Short) => return Next::Ignore,
            Err(NoQuestion::Refused { why, answer }) => {
                debug!(target: "dns", pod = %self.pod.name, ?why, "not a question");
                return Next::Say(answer);
            }
        };
        let Some(client) = self.shared.world.local_now(&self.pod) else { return Next::Wait(question) };
        match self.known(&client, &question, carrier) {
            Some(answer) => Next::Say(answer),
            None => Next::Wait(question),
        }
    }

    /// The answer to a question that takes time: to learn who the pod is, or to ask others.
    pub(super) async fn later(&self, question: Question, carrier: Carrier) -> Vec<u8> {
        let Some(client) = self.shared.world.local(&self.pod, LOCAL_WAIT).await else {
            self.count(&Labels::new(&question, carrier, None));
            self.record(&question, "unknown workload", 0);
            return question.failure(Failure::Failed);
        };
        if let Some(answer) = self.known(&client, &question, carrier) {
            return answer;
        }
        let labels = Labels::new(&question, carrier, Some(&client));
        self.count(&labels);
        let (began, told) = (clock::now(), self.names.resolvers.current());
        let said = Box::pin(forward(self.sockets.as_ref(), &told, &question, carrier)).await;
        self.shared.metrics.names.forwarded(&labels, began.elapsed(), said.is_ok());
        match said {
            Ok(bytes) => {
                self.record(&question, "forwarded", 0);
                question.relayed(bytes, carrier)
            }
            Err(error) => {
                self.record(&question, &chain(&error), 0);
                question.failure(Failure::Failed)
            }
        }
    }

    /// The answer to a question for which there is no room.
    pub(super) fn crowded(&self, question: &Question, carrier: Carrier) -> Vec<u8> {
        let client = self.shared.world.local_now(&self.pod);
        self.count(&Labels::new(question, carrier, client.as_deref()));
        self.record(question, "too many questions at a time", 0);
        question.failure(Failure::Failed)
    }

    /// What we know ourselves.
    fn known(&self, client: &Workload, question: &Question, carrier: Carrier) -> Option<Vec<u8>> {
        let world = self.shared.world.load();
        let Reply::Ours { alias, addresses } = self.names.reply(&world, client, question) else {
            return None;
        };
        self.count(&Labels::new(question, carrier, Some(client)));
        self.record(question, "answered", addresses.len());
        Some(question.answer(alias.as_deref(), &addresses, carrier))
    }

    fn count(&self, labels: &Labels) {
        self.shared.metrics.names.asked(labels);
    }

    fn record(&self, question: &Question, result: &str, endpoints: usize) {
        debug!(
            target: "dns",
            { src.workload = self.pod.name.as_str(), src.namespace = self.pod.namespace.as_str(), query = question.kind(),
              domain = question.name().unwrap_or(""), result = result, endpoints = endpoints },
            "name asked"
        );
    }
}
