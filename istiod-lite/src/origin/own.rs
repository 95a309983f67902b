//! Who this program is to the cluster: its pod and its service account, as the token says that is mounted into every
//! pod. Leases that are made here belong to them, so that the cluster takes them away with them.

use std::path::Path;

use ambit_cluster::api::Owner;
use serde::Deserialize;

use crate::ca::review::unproven;

/// Where kubelet mounts it.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Whom leases may belong to; none outside of a cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// This pod.
    pub(super) pod: Option<Owner>,
    /// Its account, which is the same for all replicas.
    pub(super) account: Option<Owner>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io", default)]
    cluster: Cluster,
}

#[derive(Default, Deserialize)]
struct Cluster {
    pod: Option<Named>,
    serviceaccount: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

/// As the mounted token says.
pub(super) fn read() -> Own {
    std::fs::read_to_string(Path::new(TOKEN)).ok().and_then(|token| said(&token)).unwrap_or_default()
}

/// What a token says. It is ours, and nothing is permitted by it here.
fn said(token: &str) -> Option<Own> {
    let Claims { cluster: Cluster { pod, serviceaccount } } = unproven(token.trim())?;
    Some(Own {
        pod: pod.map(|it| Owner::pod(&it.name, &it.uid)),
        account: serviceaccount.map(|it| Owner::account(&it.name, &it.uid)),
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn a_mounted_token_names_the_pod_and_its_account() {
        let claims = serde_json::json!({
            "aud": ["https://kubernetes.default.svc"], "exp": 1,
            "kubernetes.io": {
                "namespace": "istio-system", "node": {"name": "n1", "uid": "9"},
                "pod": {"name": "istiod-1", "uid": "7"}, "serviceaccount": {"name": "istiod", "uid": "8"},
            },
        });
        let token = format!("e30.{}.x\n", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let wanted =
            Own { pod: Some(Owner::pod("istiod-1", "7")), account: Some(Owner::account("istiod", "8")) };
        assert_eq!(said(&token), Some(wanted));
        for other in ["", "a.b", "a.!.c", &format!("e30.{}.x", URL_SAFE_NO_PAD.encode("7"))] {
            assert_eq!(said(other), None, "{other}");
        }
        assert_eq!(said(&format!("e30.{}.x", URL_SAFE_NO_PAD.encode("{}"))), Some(Own::default()));
    }
}
