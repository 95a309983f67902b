//! Takes waypoints away, and names who is still labelled to go through them: without them, their traffic goes directly,
//! or nowhere where a policy is attached.

use std::collections::BTreeSet;

use ambit_cluster::api::{ApiError, Client};
use ambit_cluster::kinds::waypoint::{USE, USE_NAMESPACE};
use serde_json::Value;

use super::gateway::collection;
use super::{DeleteArgs, Done, full_name, label, namespace, no_gateway_api, waypoints};
use crate::args::chain;
use crate::cluster::dump::text;

/// Who may be labelled, by its word for `kubectl`.
const LABELLED: [(&str, &str); 4] = [
    ("namespace", "/api/v1/namespaces"),
    ("service", "/api/v1/services"),
    ("serviceentry", "/apis/networking.istio.io/v1/serviceentries"),
    ("pod", "/api/v1/pods"),
];

pub(super) async fn run(client: &Client, args: &DeleteArgs) -> Done {
    let space = namespace(client, args.namespace.as_ref());
    let names: Vec<String> = if args.names.is_empty() {
        let all = waypoints(client, Some(&space)).await?;
        let is_meant = |of: &str| args.revision.as_deref().is_none_or(|it| it == of);
        all.into_iter().filter(|it| is_meant(&it.revision)).map(|it| it.name).collect()
    } else {
        args.names.iter().map(|it| it.0.clone()).collect()
    };
    if names.is_empty() {
        println!("no waypoints found in namespace {space}");
    }
    let mut gone = BTreeSet::new();
    for name in names {
        match client.remove(&format!("{}/{name}", collection(&space)), &[]).await {
            Ok(()) => {
                println!("waypoint {space}/{name} deleted");
                gone.insert(name);
            }
            Err(ApiError::NotFound { name: Some(_) }) => println!("waypoint {space}/{name} not found"),
            Err(error) => return Err(no_gateway_api(error)),
        }
    }
    tell_who_is_left(client, &space, &gone).await;
    Ok(true)
}

/// Labels stay: a waypoint that is made anew is used again. But whoever has them is to know.
async fn tell_who_is_left(client: &Client, space: &str, gone: &BTreeSet<String>) {
    for name in gone {
        let selector = format!("{USE}={name}");
        for (kind, collection) in LABELLED {
            match client.list(collection, &[("labelSelector", &selector)]).await {
                Ok(all) => {
                    for it in all.iter().filter(|it| home_of_waypoint(it) == space) {
                        eprintln!("ambit: {}", remark(kind, it));
                    }
                }
                // The kind is not installed.
                Err(ApiError::NotFound { .. }) => {}
                Err(error) => {
                    eprintln!("ambit: who of each {kind} is still labelled {selector}: {}", chain(&error))
                }
            }
        }
    }
}

/// The namespace of the waypoint that an object names.
fn home_of_waypoint(object: &Value) -> &str {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let own = text(metadata, "namespace");
    label(object, USE_NAMESPACE).unwrap_or_else(|| if own.is_empty() { text(metadata, "name") } else { own })
}

fn remark(kind: &str, object: &Value) -> String {
    let full = full_name(object);
    let (own, name) = full.split_once('/').unwrap_or_default();
    let (at, shown) =
        if own.is_empty() { (String::new(), name) } else { (format!("-n {own} "), full.as_str()) };
    format!("{kind} {shown} is still labelled for it: kubectl {at}label {kind} {name} {USE}-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whoever_is_still_labelled_is_named_with_the_command_that_ends_it() {
        let service = json!({"metadata": {"namespace": "shop", "name": "web", "labels": {USE: "w"}}});
        assert_eq!(home_of_waypoint(&service), "shop");
        assert_eq!(
            remark("service", &service),
            "service shop/web is still labelled for it: kubectl -n shop label service web istio.io/use-waypoint-"
        );
        let far = json!({"metadata": {"name": "shop", "labels": {USE: "w", USE_NAMESPACE: "edge"}}});
        assert_eq!(home_of_waypoint(&far), "edge");
        let near = json!({"metadata": {"name": "shop", "labels": {USE: "w"}}});
        assert_eq!(home_of_waypoint(&near), "shop");
        assert!(remark("namespace", &near).ends_with("kubectl label namespace shop istio.io/use-waypoint-"));
    }
}
