//! Settings of the waypoints that are deployed for gateways. Owns those settings only.

use clap::Args;
use serde_json::Value;

/// The waypoints that are deployed for gateways.
#[derive(Debug, Clone, Default, Args)]
pub struct Waypoint {
    /// The image of waypoints. Without one, none are deployed: their pods are somebody else's to run.
    #[arg(long = "waypoint-image", env = "WAYPOINT_IMAGE", value_name = "IMAGE", default_value = "")]
    pub image: String,
    /// What their pods have beside, as JSON in a pod's own words.
    /// These are read: resources, imagePullPolicy, affinity, topologySpreadConstraints, nodeSelector, tolerations,
    /// imagePullSecrets, priorityClassName.
    #[arg(long = "waypoint-pod", env = "WAYPOINT_POD", value_name = "JSON", default_value = "{}", value_parser = json)]
    pub pod: Value,
    /// Where waypoints find discovery and certificates; by default this control plane's service.
    #[arg(
        long = "waypoint-control-plane",
        env = "WAYPOINT_CONTROL_PLANE",
        value_name = "URL",
        default_value = ""
    )]
    pub control_plane: String,
}

fn json(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if value.is_object() { Ok(value) } else { Err("write an object, like {\"nodeSelector\": {}}".into()) }
}
