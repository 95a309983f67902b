//! How services' traffic is handled and who else is asked or told, as a waypoint's dump has it, as tables. Owns the columns;
//! what has no column is named, and read in full with `-o json`.

use serde_json::{Map, Value};

use super::requests::plain;
use crate::cluster::dump::text;
use crate::table::Table;

/// Traffic of services: one row for what was said of all of it, of a port, of a subset.
pub(super) fn traffic_table(shown: &[Value]) -> Table {
    let mut table = Table::new(&["SERVICE", "OF", "BALANCER", "LIMITS", "BESIDE"]);
    for it in shown {
        let service = text(it, "service");
        for (of, handling) in parts(it) {
            table.row([service.into(), of, balancer(handling), limits(handling), beside(handling)]);
        }
    }
    table
}

/// Who is asked or told: one row each.
pub(super) fn provider_table(shown: &[Value]) -> Table {
    let mut table = Table::new(&["NAME", "KIND", "SERVICE", "TIMEOUT", "ON FAILURE"]);
    for it in shown {
        let kind = it.as_object().into_iter().flatten().find(|(key, _)| *key != "name");
        let (kind, said) = kind.map_or(("", &Value::Null), |(kind, said)| (kind.as_str(), said));
        let failure = match (said.get("failOpen"), said.get("statusOnError")) {
            (Some(Value::Bool(true)), _) => "let in".to_owned(),
            (_, Some(status)) => format!("refused: {}", plain(status)),
            (_, None) => "passed over".to_owned(),
        };
        let words = [text(it, "name"), kind, text(said, "service"), text(said, "timeout")];
        let [name, kind, service, timeout] = words.map(str::to_owned);
        table.row([name, kind, service, timeout, failure]);
    }
    table
}

/// What something was said of, and what.
fn parts(it: &Value) -> Vec<(String, &Value)> {
    let mut all = vec![("everything".to_owned(), it)];
    let port_of = |it| named(it, "ports").into_iter().flatten();
    all.extend(port_of(it).map(|(port, handling)| (format!("port {port}"), handling)));
    for (name, subset) in named(it, "subsets").into_iter().flatten() {
        all.push((format!("subset {name}"), subset));
        all.extend(port_of(subset).map(|(port, it)| (format!("subset {name} port {port}"), it)));
    }
    all
}

fn named<'a>(of: &'a Value, key: &str) -> Option<&'a Map<String, Value>> {
    of.get(key).and_then(Value::as_object)
}

fn balancer(handling: &Value) -> String {
    let Some(balancer) = handling.get("loadBalancer") else { return String::new() };
    match balancer.get("consistentHash") {
        Some(by) => format!("hash of {}", plain(by)),
        None => plain(balancer),
    }
}

/// For example `maxConnections=3 idleTimeout=5s`.
fn limits(handling: &Value) -> String {
    let all = named(handling, "limits").into_iter().flatten();
    all.map(|(name, value)| format!("{name}={}", plain(value))).collect::<Vec<_>>().join(" ")
}

/// What there is beside: why nothing is sent, how many are in a subset, the names of everything else.
fn beside(handling: &Value) -> String {
    let shown = ["service", "loadBalancer", "limits", "ports", "subsets", "workloads"];
    let all = handling.as_object().into_iter().flatten().filter(|(key, _)| !shown.contains(&key.as_str()));
    let words = all.map(|(key, value)| match key.as_str() {
        "closed" => format!("closed: {}", plain(value)),
        "members" => format!("{} workloads", plain(value)),
        key => key.to_owned(),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(table: &Table) -> Vec<Vec<String>> {
        let text = table.text();
        let cells = |line: &str| {
            let all = line.split("  ").map(str::trim).filter(|it| !it.is_empty());
            all.map(str::to_owned).collect()
        };
        text.lines().skip(1).map(cells).collect()
    }

    #[test]
    fn traffic_has_a_row_for_all_of_it_each_port_and_each_subset() {
        let limited =
            json!({"loadBalancer": "LEAST_REQUEST", "limits": {"maxConnections": 3, "idleTimeout": "5s"}});
        let shown = json!({
            "service": "shop/web.shop.svc", "loadBalancer": {"consistentHash": "header x-user", "table": "ring of 1024"},
            "outlierDetection": {"interval": "1s"}, "ports": {"80": limited},
            "subsets": {"v1": {"loadBalancer": "RANDOM", "members": 2, "workloads": ["a", "b"], "closed": "no such thing",
                               "ports": {"90": {"loadBalancer": "ROUND_ROBIN"}}}},
        });
        let service = "shop/web.shop.svc";
        assert_eq!(
            cells(&traffic_table(&[shown])),
            [
                [service, "everything", "hash of header x-user", "-", "outlierDetection"],
                [service, "port 80", "LEAST_REQUEST", "idleTimeout=5s maxConnections=3", "-"],
                [service, "subset v1", "RANDOM", "-", "closed: no such thing, 2 workloads"],
                [service, "subset v1 port 90", "ROUND_ROBIN", "-", "-"],
            ]
        );
    }

    #[test]
    fn a_provider_says_what_it_is_where_it_is_and_what_becomes_of_requests_without_it() {
        let shown = [
            json!({"name": "a", "envoyExtAuthzGrpc": {"service": "shop/a.shop.svc:9000", "timeout": "200ms", "statusOnError": 403}}),
            json!({"name": "b", "envoyExtAuthzHttp": {"service": "s", "timeout": "1s", "statusOnError": 403, "failOpen": true}}),
            json!({"name": "c", "opentelemetry": {"service": "s", "timeout": "1s"}}),
        ];
        assert_eq!(
            cells(&provider_table(&shown)),
            [
                ["a", "envoyExtAuthzGrpc", "shop/a.shop.svc:9000", "200ms", "refused: 403"],
                ["b", "envoyExtAuthzHttp", "s", "1s", "let in"],
                ["c", "opentelemetry", "s", "1s", "passed over"],
            ]
        );
    }
}
