//! Rules of connections that a VirtualService says (`waypoint.md` 4.1): those of TLS first, by the server that is asked
//! for, then those of all. They come behind its rules of requests, and no request is ever of them.

use ambit_cluster::kinds::virtual_service::{
    ConnectionDestination, ConnectionMatch as Written, MESH, VirtualServiceSpec,
};
use ambit_model::http_route::{Backend, Broken, ConnectionMatch, Match, More, Rule, Timeouts};
use ambit_model::name::Label;
use ambit_wire::limits;

use super::super::matches::kept;
use super::super::{Reader, none};

/// A rule as it is written, in one of the two lists.
#[derive(Clone, Copy)]
struct Line<'a> {
    list: &'static str,
    matches: &'a [Written],
    route: &'a [ConnectionDestination],
}

impl Reader<'_> {
    /// All of them, in order. `ports` are those of the services that they are for.
    pub(super) fn of_connections<'p>(
        &mut self,
        spec: &VirtualServiceSpec,
        ports: impl Fn() -> Vec<u16> + 'p,
    ) -> Vec<Rule> {
        let tls = spec.tls.iter().map(|it| Line { list: "tls", matches: &it.matches, route: &it.route });
        let tcp = spec.tcp.iter().map(|it| Line { list: "tcp", matches: &it.matches, route: &it.route });
        let mut rules = Vec::new();
        for (at, line) in tls.enumerate().chain(tcp.enumerate()) {
            self.rule = at;
            if !line.route.iter().any(|it| self.is_as_asked(&it.destination)) {
                rules.extend(self.carried(line, None));
                continue;
            }
            let before = self.notes.clone();
            for port in ports() {
                self.notes = before.clone();
                rules.extend(self.carried(line, Some(port)));
            }
        }
        rules
    }

    /// A rule, of connections to one port or to any; none, if it is for none that can be told from others.
    fn carried(&mut self, line: Line<'_>, asked: Option<u16>) -> Option<Rule> {
        let Line { list, matches: written, route } = line;
        let every = [Written::default()];
        let written = if written.is_empty() { &every } else { written };
        let ours =
            written.iter().filter(|it| it.gateways.is_empty() || it.gateways.iter().any(|it| it == MESH));
        let read = ours.map(|it| self.connection(list, it)).collect();
        let (mut matches, broken) = kept(read);
        if let Some(port) = asked {
            let of = |it: &Match| it.more.as_ref().and_then(|it| it.port);
            matches.retain(|it| of(it).is_none_or(|it| it == port));
            matches.iter_mut().for_each(|it| it.more.get_or_insert_default().port = Some(port));
        }
        if matches.is_empty() {
            return None;
        }
        let alone = route.len() == 1;
        let taken = route.iter().filter(|it| alone || it.weight > 0);
        let mut backends: Vec<Backend> = taken.map(|it| self.receiver(it, alone, asked)).collect();
        let mut filters = broken.map_or_else(|| Ok(none()), Err);
        if backends.len() > limits::ROUTE_BACKENDS {
            filters = Err(self.unsupported(&format!("{list}: there are more than 16 destinations")));
            backends.truncate(limits::ROUTE_BACKENDS);
        }
        let timeouts = Timeouts::default();
        Some(Rule {
            name: Label::default(),
            matches,
            filters,
            backends,
            timeouts,
            retry: None,
            session: None,
        })
    }

    fn receiver(&mut self, it: &ConnectionDestination, alone: bool, asked: Option<u16>) -> Backend {
        let to = self.led(&it.destination, asked);
        // Alone, all of them go there, whatever it says.
        let weight = if alone { 1 } else { it.weight };
        if weight > limits::ROUTE_WEIGHT {
            let why = self.unsupported(&format!("the weight {weight} is larger than any"));
            return Backend { to, weight: limits::ROUTE_WEIGHT, filters: Err(why) };
        }
        Backend { to, weight, filters: Ok(none()) }
    }

    fn connection(&mut self, list: &str, it: &Written) -> Result<Match, Broken> {
        let mut more = More { port: it.port.map(|port| port.0), ..More::default() };
        if !it.source_namespace.is_empty() {
            let from = it.source_namespace.parse();
            let why = format!("{list}: match.sourceNamespace is no namespace");
            more.from = Some(from.map_err(|_| self.unsupported(&why))?);
        }
        more.from_labels = self.labels(&it.source_labels)?;
        if it.sni_hosts.len().max(it.destination_subnets.len()) > limits::ROUTE_LIST {
            return Err(self.unsupported(&format!("{list}: a match has more than 16 names or ranges")));
        }
        for name in &it.sni_hosts {
            let server = name.parse();
            let why = format!("{list}: match.sniHosts: {name:?} is no name of a server");
            more.servers.push(server.map_err(|_| self.unsupported(&why))?);
        }
        if list == "tls" && more.servers.is_empty() {
            return Err(self.unsupported("tls: match.sniHosts names no server"));
        }
        let mut connection = ConnectionMatch::default();
        for text in &it.destination_subnets {
            let range = ranged(text).parse();
            let why = format!("{list}: match.destinationSubnets: {text:?} is no range of addresses");
            connection.to.push(range.map_err(|_| self.unsupported(&why))?);
        }
        if !it.source_subnet.is_empty() {
            let why = format!("{list}: match.sourceSubnet: {:?} is no range of addresses", it.source_subnet);
            let range = ranged(&it.source_subnet).parse();
            connection.from = Some(range.map_err(|_| self.unsupported(&why))?);
        }
        more.connection = Some(connection);
        Ok(Match { more: Some(Box::new(more)), ..Match::default() })
    }
}

/// An address alone is a range of one.
fn ranged(text: &str) -> String {
    match text {
        text if text.contains('/') => text.into(),
        text if text.contains(':') => format!("{text}/128"),
        text => format!("{text}/32"),
    }
}
