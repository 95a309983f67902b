//! How services' traffic is handled, as people read it in dumps: what is not set left out. Written, never read back.
//! The members of a subset are counted, and shown where they are few.

use std::collections::BTreeMap;
use std::time::Duration;

use ambit_model::traffic::{
    Ask, Balance, Handling, HashBy, HashTable, Limits, Near, Origination, Outlier, Probe, Roots, SubjectName,
    Subset, Traffic, Version,
};
use serde_json::{Map, Value, json};

/// So many members are shown.
const SHOWN: usize = 20;

/// How one service's traffic is handled.
#[must_use]
pub fn traffic(traffic: &Traffic) -> Value {
    let Traffic { service, handling, ports, subsets } = traffic;
    let mut members = self::handling(handling);
    members.insert("service".into(), service.to_string().into());
    put_ports(&mut members, ports);
    if !subsets.is_empty() {
        let all = subsets.iter().map(|(name, it)| (name.to_string(), subset(it)));
        members.insert("subsets".into(), Value::Object(all.collect()));
    }
    Value::Object(members)
}

fn subset(subset: &Subset) -> Value {
    let Subset { members, handling, ports } = subset;
    let mut shown = self::handling(handling);
    shown.insert("members".into(), members.len().into());
    shown.insert("workloads".into(), members.iter().take(SHOWN).map(|it| it.as_str()).collect());
    put_ports(&mut shown, ports);
    Value::Object(shown)
}

fn put_ports(to: &mut Map<String, Value>, ports: &BTreeMap<u16, Handling>) {
    if !ports.is_empty() {
        let all = ports.iter().map(|(port, it)| (port.to_string(), Value::Object(handling(it))));
        to.insert("ports".into(), Value::Object(all.collect()));
    }
}

fn handling(handling: &Handling) -> Map<String, Value> {
    let Handling {
        balance,
        near,
        warmup,
        limits,
        outlier,
        probe,
        hedge_after,
        adaptive,
        retry_budget,
        tls,
        proxied,
        closed,
    } = handling;
    let near = match near {
        Near::Unsaid => None,
        Near::Ignored => Some("ignored".into()),
        Near::Failover(ways) => Some(
            json!({ "failover": ways.iter().map(|(from, to)| format!("{from} -> {to}")).collect::<Vec<_>>() }),
        ),
        Near::Priority(all) => Some(
            json!({ "priority": all.iter().map(|it| format!("{:?}{}", it.scope, it.value.as_ref().map(|value| format!("={value}")).unwrap_or_default())).collect::<Vec<_>>() }),
        ),
        Near::Shares(all) => Some(json!({ "shares": all.iter().map(|it| json!({
            "from": it.from.to_string(),
            "to": it.to.iter().map(|(place, share)| format!("{place}: {share}")).collect::<Vec<_>>(),
        })).collect::<Vec<_>>() })),
    };
    let budget = retry_budget.map(|it| json!({ "percent": it.percent, "minRetryConcurrency": it.floor }));
    let warmup = warmup.map(|it| json!({ "duration": text(it.duration), "minimumPercent": it.least_percent, "aggression": f64::from(it.aggression) / 1000.0 }));
    let limits = self::limits(limits);
    let members = [
        ("loadBalancer", Some(self::balance(balance))),
        ("locality", near),
        ("warmup", warmup),
        ("limits", (!limits.is_empty()).then_some(Value::Object(limits))),
        ("outlierDetection", outlier.as_ref().map(self::outlier)),
        ("healthCheck", probe.as_ref().map(self::probe)),
        ("hedgingAfter", hedge_after.map(|it| text(it).into())),
        ("adaptiveConcurrency", adaptive.map(|it| json!({ "min": it.least, "max": it.most }))),
        ("retryBudget", budget),
        ("tls", tls.as_ref().map(self::tls)),
        ("proxyProtocol", proxied.map(|it| format!("{it:?}").into())),
        ("closed", closed.as_ref().map(|it| it.to_string().into())),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn balance(balance: &Balance) -> Value {
    match balance {
        Balance::LeastRequest => "LEAST_REQUEST".into(),
        Balance::Random => "RANDOM".into(),
        Balance::RoundRobin => "ROUND_ROBIN".into(),
        Balance::Hash(by, table) => {
            let by = match by {
                HashBy::Header(name) => format!("header {name}"),
                HashBy::Cookie { name, .. } => format!("cookie {name}"),
                HashBy::Query(name) => format!("query {name}"),
                HashBy::SourceIp => "source address".into(),
            };
            let table = match table {
                HashTable::Ring { least } => format!("ring of {least}"),
                HashTable::Maglev { size } => format!("Maglev of {size}"),
            };
            json!({ "consistentHash": by, "table": table })
        }
    }
}

fn limits(limits: &Limits) -> Map<String, Value> {
    let Limits {
        connections,
        pending,
        requests,
        retries,
        per_connection,
        connect,
        idle,
        still,
        age,
        streams,
        version,
    } = limits;
    let version = match version {
        Version::OfPort => None,
        Version::Http1 => Some("HTTP/1.1".into()),
        Version::Http2 => Some("HTTP/2".into()),
    };
    let count = |it: &Option<u32>| it.map(Value::from);
    let time = |it: &Option<Duration>| it.map(|it| text(it).into());
    let members: [(&str, Option<Value>); 11] = [
        ("maxConnections", count(connections)),
        ("maxPendingRequests", count(pending)),
        ("maxRequests", count(requests)),
        ("maxRetries", count(retries)),
        ("maxRequestsPerConnection", count(per_connection)),
        ("connectTimeout", time(connect)),
        ("idleTimeout", time(idle)),
        ("tcpIdleTimeout", time(still)),
        ("maxConnectionDuration", time(age)),
        ("maxConcurrentStreams", count(streams)),
        ("version", version),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn outlier(outlier: &Outlier) -> Value {
    let Outlier { errors, gateway_errors, split, interval, base, most_percent, panic_percent } = outlier;
    json!({
        "consecutive5xxErrors": errors,
        "consecutiveGatewayErrors": gateway_errors,
        "consecutiveLocalOriginFailures": split,
        "interval": text(*interval),
        "baseEjectionTime": text(*base),
        "maxEjectionPercent": most_percent,
        "minHealthPercent": panic_percent,
    })
}

/// Certificates are not shown: that there are some says enough.
fn probe(probe: &Probe) -> Value {
    let Probe { ask, interval, timeout, unhealthy, healthy } = probe;
    let ask = match ask {
        Ask::Tcp => json!("a TCP connection"),
        Ask::Http { path, host, good } => {
            let host = host.as_deref().unwrap_or("the service");
            json!({ "path": &**path, "host": host, "statuses": format!("{}-{}", good.start(), good.end()) })
        }
        Ask::Grpc { service } => json!({ "grpcService": &**service }),
    };
    json!({
        "asks": ask,
        "interval": text(*interval),
        "timeout": text(*timeout),
        "unhealthyAfter": unhealthy,
        "healthyAfter": healthy,
    })
}

fn tls(tls: &Origination) -> Value {
    let Origination { server, names, roots, shown } = tls;
    let names = names.iter().map(|it| match it {
        SubjectName::Host(name) | SubjectName::Any(name) => name.to_string(),
        SubjectName::Uri(uri) => format!("URI {uri}"),
    });
    let roots = match roots {
        Roots::System => "the system's".to_owned(),
        Roots::Given(_) => "given".into(),
        Roots::Credential(name) => format!("of the secret {name}"),
        Roots::Unchecked => "nobody: whoever answers is believed".into(),
    };
    json!({
        "server": server.as_ref().map_or("as asked for", |it| it.as_str()),
        "names": names.collect::<Vec<_>>(),
        "roots": roots,
        "shown": shown.as_ref().map_or_else(|| "nothing".into(), |name| format!("of the secret {name}")),
    })
}

fn text(duration: Duration) -> String {
    format!("{duration:?}")
}
