//! What of a waypoint's dump is of requests, as tables: routes rule by rule, policies, and whom to believe about who
//! asks. Owns the columns and how a rule is told in a few words; everything it says is in the dump.

use serde_json::Value;

use super::tables::sorted;
use crate::cluster::dump::{Dump, members, text, texts};
use crate::table::Table;

/// Matches of one rule that are told; of more only how many.
const MATCHES_TOLD: usize = 3;

/// Routes: one row for each rule.
pub(super) fn route_table(shown: &[Value]) -> Table {
    let mut table = Table::new(&["NAMESPACE", "ROUTE", "KIND", "SERVICES", "RULE", "MATCHES", "GOES TO"]);
    for route in shown {
        let parents: Vec<_> = members(route, "parents").map(parent).collect();
        for (at, rule) in members(route, "rules").enumerate() {
            table.row([
                text(route, "namespace").into(),
                text(route, "name").into(),
                text(route, "kind").into(),
                parents.join(", "),
                Some(text(rule, "name"))
                    .filter(|name| !name.is_empty())
                    .map_or_else(|| at.to_string(), Into::into),
                matches(rule),
                goes_to(rule),
            ]);
        }
    }
    table
}

/// Policies of connections and of requests.
pub(super) fn policies(dump: &Dump) -> Vec<Value> {
    sorted(dump.list("requestPolicies").iter().chain(dump.list("policies")), "name")
}

/// As a table: a policy of connections has a scope, one of requests has targets.
pub(super) fn policy_table(shown: &[Value]) -> Table {
    let mut table = Table::new(&["NAMESPACE", "POLICY NAME", "OF", "ACTION", "SCOPE", "RULES"]);
    for it in shown {
        let is_of_requests = it.get("targets").is_some();
        let action = match it.get("dryRun").and_then(Value::as_bool) {
            Some(true) => format!("{} (dry run)", text(it, "action")),
            _ => text(it, "action").to_owned(),
        };
        table.row([
            text(it, "namespace").into(),
            text(it, "name").into(),
            if is_of_requests { "requests" } else { "connections" }.into(),
            action,
            if is_of_requests { targets(it) } else { text(it, "scope").into() },
            members(it, "rules").count().to_string(),
        ]);
    }
    table
}

/// Whom to believe: one row for each issuer.
pub(super) fn authentication_table(shown: &[Value]) -> Table {
    let mut table = Table::new(&["NAMESPACE", "NAME", "SCOPE", "ISSUER", "AUDIENCES", "KEYS"]);
    for it in shown {
        for rule in members(it, "rules") {
            let keys = rule.get("keys").and_then(Value::as_object).into_iter().flatten();
            let keys: Vec<_> = keys.map(|(name, value)| format!("{name} {}", plain(value))).collect();
            table.row([
                text(it, "namespace").into(),
                text(it, "name").into(),
                targets(it),
                text(rule, "issuer").into(),
                texts(rule, "audiences").collect::<Vec<_>>().join(", "),
                keys.join(", "),
            ]);
        }
    }
    table
}

/// How many there are that the dump does not show.
pub(super) fn left_out(dump: &Dump, key: &str) -> u64 {
    dump.whole().pointer(&format!("/leftOut/{key}")).and_then(Value::as_u64).unwrap_or_default()
}

/// `namespace/host` or `namespace/host:port`.
fn parent(parent: &Value) -> String {
    let port = parent.get("port").map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", text(parent, "service"))
}

fn targets(of: &Value) -> String {
    let one = |target: &Value| match target.as_object().and_then(|it| it.iter().next()) {
        Some((kind, name)) => format!("{kind} {}", plain(name)),
        None => plain(target),
    };
    members(of, "targets").map(one).collect::<Vec<_>>().join(", ")
}

fn matches(rule: &Value) -> String {
    let mut all: Vec<_> = members(rule, "matches").map(one_match).collect();
    if all.is_empty() {
        return "all".into();
    }
    let more = all.len().saturating_sub(MATCHES_TOLD);
    all.truncate(MATCHES_TOLD);
    let more = if more > 0 { format!(" | {more} more") } else { String::new() };
    format!("{}{more}", all.join(" | "))
}

/// For example `GET /cart* x-user=bob ?beta=1`.
fn one_match(it: &Value) -> String {
    let method = Some(text(it, "method")).filter(|method| !method.is_empty());
    let path = it.get("path").map(path).unwrap_or_default();
    let headers = members(it, "headers").map(|one| format!("{}{}", text(one, "name"), value(one)));
    let query = members(it, "queryParams").map(|one| format!("?{}{}", text(one, "name"), value(one)));
    let words = method.map(str::to_owned).into_iter().chain([path]).chain(headers).chain(query);
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn path(path: &Value) -> String {
    let part = |key: &str| path.get(key).map_or_else(|| "*".into(), |it| value(it).replacen('=', "", 1));
    match (path.get("exact"), path.get("prefix"), path.get("regex")) {
        (Some(exact), _, _) => plain(exact),
        (_, Some(prefix), _) => format!("{}*", plain(prefix)),
        (_, _, Some(regex)) => format!("~{}", plain(regex)),
        _ => format!("/{}/{}", part("service"), part("method")),
    }
}

fn value(of: &Value) -> String {
    match (of.get("exact"), of.get("regex")) {
        (Some(exact), _) => format!("={}", plain(exact)),
        (_, Some(regex)) => format!("~{}", plain(regex)),
        _ => String::new(),
    }
}

/// Where requests go, with weights where there is a choice; or what answers them.
fn goes_to(rule: &Value) -> String {
    if let Some(why) = rule.pointer("/filters/broken") {
        return format!("500: {}", plain(why));
    }
    if let Some(status) = rule.pointer("/filters/redirect/status") {
        return format!("redirect {status}");
    }
    let backends: Vec<_> = members(rule, "backends").collect();
    let several = backends.len() > 1;
    let one = |backend: &&Value| {
        let to = backend.get("to").unwrap_or(&Value::Null);
        let to = to.get("broken").map_or_else(|| plain(to), |why| format!("500 ({})", plain(why)));
        let weight = backend.get("weight").map(|weight| format!(" {weight}")).filter(|_| several);
        format!("{to}{}", weight.unwrap_or_default())
    };
    let all: Vec<_> = backends.iter().map(one).collect();
    if all.is_empty() { "500: no backend".into() } else { all.join(", ") }
}

/// A text as it is, anything else as JSON has it.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_is_told_rule_by_rule_in_a_few_words() {
        let many: Vec<_> = (0..5).map(|at| json!({"path": {"exact": format!("/{at}")}})).collect();
        let route = json!({
            "kind": "HTTPRoute", "namespace": "shop", "name": "cart",
            "parents": [{"service": "shop/cart.shop.svc", "port": 80}],
            "rules": [
                {"matches": [{"path": {"prefix": "/cart"}, "method": "GET",
                              "headers": [{"name": "x-user", "exact": "bob"}],
                              "queryParams": [{"name": "beta", "regex": "1|2"}]}],
                 "backends": [{"to": "shop/a.shop.svc:80", "weight": 9}, {"to": {"broken": "missing"}, "weight": 1}]},
                {"name": "rest", "filters": {"redirect": {"status": 302}}},
                {"matches": many, "backends": [{"to": "shop/a.shop.svc:80", "weight": 1}]},
                {"matches": [{"path": {"service": {"exact": "a.B"}}}], "filters": {"broken": "no such filter"}},
            ],
        });
        let told = route_table(&[route]).text();
        let rows: Vec<Vec<&str>> = told.lines().skip(1).map(|row| row.split("   ").collect()).collect();
        let cells =
            |row: usize| rows[row].iter().map(|it| it.trim()).filter(|it| !it.is_empty()).collect::<Vec<_>>();
        assert_eq!(
            cells(0)[3..],
            [
                "shop/cart.shop.svc:80",
                "0",
                "GET /cart* x-user=bob ?beta~1|2",
                "shop/a.shop.svc:80 9, 500 (missing) 1"
            ]
        );
        assert_eq!(cells(1)[4..], ["rest", "all", "redirect 302"]);
        assert_eq!(cells(2)[5], "/0 | /1 | /2 | 2 more");
        assert_eq!(cells(3)[5..], ["/a.B/*", "500: no such filter"]);
    }

    #[test]
    fn policies_of_both_sorts_and_issuers_say_whose_requests_they_are_for() {
        let whole = json!({
            "workloads": [], "services": [], "certificates": [],
            "policies": [{"namespace": "shop", "name": "b", "action": "Allow", "scope": "Namespace", "rules": []}],
            "requestPolicies": [{"namespace": "shop", "name": "a", "action": "DENY", "dryRun": true, "rules": [{}],
                                 "targets": [{"service": "shop/web.shop.svc"}, "every waypoint"]}],
            "leftOut": {"requestPolicies": 7},
        });
        let dump = Dump::parse(&whole.to_string()).unwrap();
        let told = policy_table(&policies(&dump)).text();
        let lines: Vec<_> = told.lines().collect();
        assert!(lines[1].contains("requests") && lines[1].contains("DENY (dry run)"), "{told}");
        assert!(lines[1].contains("service shop/web.shop.svc, every waypoint"), "{told}");
        assert!(lines[2].contains("connections") && lines[2].contains("Namespace"), "{told}");
        assert_eq!((left_out(&dump, "requestPolicies"), left_out(&dump, "routes")), (7, 0));
        let authentication = json!({"namespace": "shop", "name": "jwt", "targets": [{"waypoint": "shop/way"}],
            "rules": [{"issuer": "https://i", "keys": {"uri": "https://i/keys"}, "audiences": ["a", "b"]}]});
        let told = authentication_table(&[authentication]).text();
        for part in ["waypoint shop/way", "https://i", "a, b", "uri https://i/keys"] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
