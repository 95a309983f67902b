//! Has a waypoint be there: its Gateway applied, its namespace labelled, its readiness waited for.

use std::time::{Duration, Instant};

use ambit_cluster::api::{ApiError, Client};
use ambit_cluster::kinds::waypoint::{USE, USE_NAMESPACE};
use serde_json::{Value, json};

use super::gateway::{Design, Waypoint, collection};
use super::{ApplyArgs, Done, LOOK_EVERY, WaypointError, label, namespace};
use crate::cluster::MODE;

/// In whose hand fields are.
const MANAGER: &str = "ambit";

pub(super) async fn run(client: &Client, args: &ApplyArgs) -> Done {
    let space = namespace(client, args.namespace.as_ref());
    let design = args.wanted.design(Some(space.clone()));
    let full = format!("{space}/{}", design.name);
    if args.enroll_namespace {
        let object = look_at(client, &space).await?;
        is_free(&object, &space, &design.name, args.overwrite)?;
    }
    put(client, (&design, &space), args.overwrite).await?;
    println!("waypoint {full} applied");
    if args.enroll_namespace {
        // What names a waypoint of another namespace would be misread otherwise.
        let labels = json!({"metadata": {"labels": {USE: design.name, USE_NAMESPACE: Value::Null}}});
        client.merge(&space_path(&space), &labels).await?;
        println!("namespace {space} labeled with \"{USE}: {}\"", design.name);
    }
    if args.wait {
        ready(client, &full, args.waypoint_timeout).await?;
        println!("waypoint {full} is ready");
    }
    Ok(true)
}

/// The namespace; whoever is not in the mesh is told that nothing will go through the waypoint.
async fn look_at(client: &Client, space: &str) -> Result<Value, Box<dyn std::error::Error>> {
    let object: Value = match client.read(&space_path(space)).await {
        Err(ApiError::NotFound { .. }) => return Err(WaypointError::NoNamespace(space.into()).into()),
        other => other?,
    };
    if label(&object, MODE) != Some("ambient") {
        eprintln!(
            "ambit: namespace {space} is not in the mesh: kubectl label namespace {space} {MODE}=ambient"
        );
    }
    Ok(object)
}

/// Whether the namespace goes through nothing yet, or through this one.
fn is_free(object: &Value, space: &str, name: &str, overwrite: bool) -> Result<(), WaypointError> {
    let Some(other) = label(object, USE) else { return Ok(()) };
    let at = label(object, USE_NAMESPACE).unwrap_or(space);
    if overwrite || (other, at) == (name, space) {
        return Ok(());
    }
    Err(WaypointError::Enrolled { namespace: space.into(), other: format!("{at}/{other}") })
}

async fn put(
    client: &Client,
    (design, space): (&Design, &str),
    overwrite: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let path = format!("{}/{}", collection(space), design.name);
    match client.apply(&path, &design.object(), (MANAGER, overwrite)).await {
        Ok(_) => Ok(()),
        Err(ApiError::Conflict) => Err(WaypointError::Others(format!("{space}/{}", design.name)).into()),
        Err(ApiError::NotFound { name: Some(_) }) => Err(WaypointError::NoNamespace(space.into()).into()),
        Err(error) => Err(super::no_gateway_api(error)),
    }
}

/// Waits until a waypoint is there.
async fn ready(client: &Client, full: &str, limit: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let (space, name) = full.split_once('/').unwrap_or(("", full));
    let path = format!("{}/{name}", collection(space));
    let begun = Instant::now();
    loop {
        let object: Value = client.read(&path).await?;
        // Its class is ours: it was just written.
        let why = match Waypoint::of(&object, &[]) {
            Some(it) if it.is_ready() => return Ok(()),
            Some(it) => it.verdict().message,
            None => "it is of another class now".to_owned(),
        };
        if begun.elapsed() >= limit {
            return Err(WaypointError::NotReady { name: full.into(), limit, why }.into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn space_path(space: &str) -> String {
    format!("/api/v1/namespaces/{space}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_goes_through_another_waypoint_is_left_alone_unless_told() {
        let labelled = |labels: Value| json!({"metadata": {"labels": labels}});
        for (labels, is_ours) in [
            (json!({}), true),
            (json!({USE: "w"}), true),
            (json!({USE: "w", USE_NAMESPACE: "shop"}), true),
            (json!({USE: "w", USE_NAMESPACE: "other"}), false),
            (json!({USE: "v"}), false),
            (json!({USE: "none"}), false),
        ] {
            let object = labelled(labels);
            assert_eq!(is_free(&object, "shop", "w", false).is_ok(), is_ours, "{object}");
            assert!(is_free(&object, "shop", "w", true).is_ok(), "{object}");
        }
    }
}
