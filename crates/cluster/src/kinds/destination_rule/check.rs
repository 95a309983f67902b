//! What a DestinationRule cannot be meant to say: fields that are missing, given twice or against each other. Owns their words.

use std::collections::BTreeSet;

use super::{
    ConnectionPool, DestinationRule, H2Upgrade, LoadBalancer, LocalityLb, OutlierDetection, TrafficPolicy,
};
use crate::fault::Wrong;
use crate::kinds::duration::span;

impl DestinationRule {
    /// The secrets that it names.
    pub fn credentials(&self) -> impl Iterator<Item = &str> {
        let subsets = self.spec.subsets.iter().filter_map(|it| it.traffic_policy.as_ref());
        let policies = self.spec.traffic_policy.iter().chain(subsets);
        let all = policies.flat_map(|it| {
            let ports = it.port_level_settings.iter().filter_map(|it| it.tls.as_ref());
            it.tls.iter().chain(ports)
        });
        all.map(|it| it.credential_name.as_str()).filter(|it| !it.is_empty())
    }

    /// What a rule cannot be without, or with.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        let spec = &self.spec;
        if spec.host.is_empty() {
            return Err(Wrong::field(
                "spec.host",
                "",
                "missing",
                "name the host, or a service of its namespace",
            ));
        }
        let mut names = BTreeSet::new();
        for (at, subset) in spec.subsets.iter().enumerate() {
            let field = format!("spec.subsets[{at}]");
            if subset.name.is_empty() {
                return Err(Wrong::field(
                    format!("{field}.name"),
                    "",
                    "missing",
                    "give it a name for routes",
                ));
            }
            if !names.insert(&subset.name) {
                let remedy = "give each subset a name of its own";
                return Err(Wrong::field(format!("{field}.name"), &subset.name, "given twice", remedy));
            }
            policy(&format!("{field}.trafficPolicy"), subset.traffic_policy.as_ref())?;
        }
        policy("spec.trafficPolicy", spec.traffic_policy.as_ref())
    }
}

fn policy(field: &str, policy: Option<&TrafficPolicy>) -> Result<(), Wrong> {
    let Some(policy) = policy else { return Ok(()) };
    let parts = (&policy.load_balancer, &policy.connection_pool, &policy.outlier_detection);
    settings(field, parts)?;
    let mut ports = BTreeSet::new();
    for (at, port) in policy.port_level_settings.iter().enumerate() {
        let field = format!("{field}.portLevelSettings[{at}]");
        let Some(number) = &port.port else {
            return Err(Wrong::field(format!("{field}.port"), "", "missing", "say for which port they are"));
        };
        if !ports.insert(number.number.0) {
            let value = number.number.0.to_string();
            return Err(Wrong::field(format!("{field}.port"), &value, "given twice", "say it once"));
        }
        settings(&field, (&port.load_balancer, &port.connection_pool, &port.outlier_detection))?;
    }
    Ok(())
}

type Settings<'a> = (&'a Option<LoadBalancer>, &'a Option<ConnectionPool>, &'a Option<OutlierDetection>);

fn settings(field: &str, (balancer, pool, outlier): Settings<'_>) -> Result<(), Wrong> {
    if let Some(it) = balancer {
        balanced(&format!("{field}.loadBalancer"), it)?;
    }
    let time = |name: &str, text: &str| is_time(format!("{field}.{name}"), text);
    if let Some(it) = pool.as_ref().and_then(|it| it.tcp.as_ref()) {
        time("connectionPool.tcp.connectTimeout", &it.connect_timeout)?;
        time("connectionPool.tcp.maxConnectionDuration", &it.max_connection_duration)?;
        time("connectionPool.tcp.idleTimeout", &it.idle_timeout)?;
    }
    if let Some(it) = pool.as_ref().and_then(|it| it.http.as_ref()) {
        time("connectionPool.http.idleTimeout", &it.idle_timeout)?;
        if it.use_client_protocol && it.h2_upgrade_policy == H2Upgrade::Upgrade {
            let remedy = "keep one of the two: what the client speaks, or always HTTP/2";
            let field = format!("{field}.connectionPool.http.useClientProtocol");
            return Err(Wrong::field(field, "true", "given together with h2UpgradePolicy UPGRADE", remedy));
        }
    }
    if let Some(it) = outlier {
        time("outlierDetection.interval", &it.interval)?;
        time("outlierDetection.baseEjectionTime", &it.base_ejection_time)?;
        let percents =
            [("maxEjectionPercent", it.max_ejection_percent), ("minHealthPercent", it.min_health_percent)];
        for (name, percent) in percents {
            if let Some(percent) = percent.filter(|it| *it > 100) {
                let field = format!("{field}.outlierDetection.{name}");
                return Err(Wrong::field(
                    field,
                    &percent.to_string(),
                    "more than a hundred",
                    "give 0 to 100",
                ));
            }
        }
    }
    Ok(())
}

fn balanced(field: &str, balancer: &LoadBalancer) -> Result<(), Wrong> {
    if let Some(hash) = &balancer.consistent_hash {
        let field = format!("{field}.consistentHash");
        let given = [
            !hash.http_header_name.is_empty(),
            hash.http_cookie.is_some(),
            hash.use_source_ip,
            !hash.http_query_parameter_name.is_empty(),
        ];
        let (count, remedy) = (
            given.into_iter().filter(|it| *it).count(),
            "give one: a header, a cookie, a parameter, the address",
        );
        if balancer.simple.is_some() {
            return Err(Wrong::field(field, "", "given together with simple", "keep one of the two"));
        }
        if count != 1 {
            let problem = if count == 0 { "nothing to go by" } else { "more than one to go by" };
            return Err(Wrong::field(field, "", problem, remedy));
        }
        if let Some(ttl) = hash.http_cookie.as_ref().and_then(|it| it.ttl.as_ref()) {
            is_time(format!("{field}.httpCookie.ttl"), ttl)?;
        }
    }
    if let Some(setting) = &balancer.locality_lb_setting {
        locality(&format!("{field}.localityLbSetting"), setting)?;
    }
    is_time(format!("{field}.warmupDurationSecs"), &balancer.warmup_duration_secs)?;
    balancer.warmup.as_ref().map_or(Ok(()), |it| is_time(format!("{field}.warmup.duration"), &it.duration))
}

fn locality(field: &str, setting: &LocalityLb) -> Result<(), Wrong> {
    let kinds =
        [setting.distribute.is_empty(), setting.failover.is_empty(), setting.failover_priority.is_empty()];
    if !setting.distribute.is_empty() && kinds.iter().filter(|is_empty| !**is_empty).count() > 1 {
        let remedy = "keep one: shares by hand, or who stands in for whom";
        return Err(Wrong::field(format!("{field}.distribute"), "", "given together with failover", remedy));
    }
    for (at, one) in setting.distribute.iter().enumerate() {
        let total: u64 = one.to.values().map(|share| u64::from(*share)).sum();
        if total != 100 {
            let field = format!("{field}.distribute[{at}].to");
            return Err(Wrong::field(
                field,
                &total.to_string(),
                "does not add up to 100",
                "share out a hundred",
            ));
        }
    }
    Ok(())
}

fn is_time(field: String, text: &str) -> Result<(), Wrong> {
    if text.is_empty() || span(text).is_some() {
        return Ok(());
    }
    Err(Wrong::field(field, text, "not a duration", "write it as 30s"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused_by_its_field() {
        let refused = |spec: serde_json::Value| {
            let rule: DestinationRule = serde_json::from_value(json!({ "spec": spec })).unwrap();
            rule.check().err().map(|wrong| format!("{}: {}", wrong.field, wrong.problem))
        };
        let policy = |policy: serde_json::Value| refused(json!({ "host": "a", "trafficPolicy": policy }));
        assert_eq!(refused(json!({ "host": "a", "subsets": [{ "name": "v1" }] })), None);
        for (found, wanted) in [
            (refused(json!({})), "spec.host: missing"),
            (refused(json!({ "host": "a", "subsets": [{}] })), "spec.subsets[0].name: missing"),
            (
                refused(json!({ "host": "a", "subsets": [{ "name": "b" }, { "name": "b" }] })),
                "spec.subsets[1].name: given twice",
            ),
            (
                policy(json!({ "loadBalancer": { "consistentHash": {} } })),
                "spec.trafficPolicy.loadBalancer.consistentHash: nothing to go by",
            ),
            (
                policy(
                    json!({ "loadBalancer": { "simple": "RANDOM", "consistentHash": { "useSourceIp": true } } }),
                ),
                "spec.trafficPolicy.loadBalancer.consistentHash: given together with simple",
            ),
            (
                policy(json!({ "outlierDetection": { "interval": "soon" } })),
                "spec.trafficPolicy.outlierDetection.interval: not a duration",
            ),
            (
                policy(json!({ "outlierDetection": { "maxEjectionPercent": 101 } })),
                "spec.trafficPolicy.outlierDetection.maxEjectionPercent: more than a hundred",
            ),
            (
                policy(json!({ "portLevelSettings": [{}] })),
                "spec.trafficPolicy.portLevelSettings[0].port: missing",
            ),
            (
                policy(
                    json!({ "loadBalancer": { "localityLbSetting": { "distribute": [{ "from": "a", "to": { "b": 99 } }] } } }),
                ),
                "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to: does not add up to 100",
            ),
        ] {
            assert_eq!(found.as_deref(), Some(wanted));
        }
    }
}
