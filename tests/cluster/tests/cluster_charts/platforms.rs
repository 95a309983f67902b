//! What differs from one platform to the other (`cni.md` 9): set by its name alone, and by a user's own value before it.

use serde_json::{Value, json};

use crate::render::{containers, objects, pod};

/// Where the container runtimes of each platform have their programs, configurations and namespaces (`cni.md` 9).
#[test]
fn each_platforms_folders_are_those_of_its_runtime() {
    let usual = ["/opt/cni/bin", "/etc/cni/net.d", "/var/run/netns"];
    let rancher = "/var/lib/rancher/k3s/agent/etc/cni/net.d";
    let snap = "/var/snap/microk8s/current";
    let (snap_bin, snap_conf) = (format!("{snap}/opt/cni/bin"), format!("{snap}/args/cni-network"));
    for (platform, wanted) in [
        ("", usual),
        ("gke", ["/home/kubernetes/bin", usual[1], usual[2]]),
        ("k3s", ["/var/lib/rancher/k3s/data/cni", rancher, usual[2]]),
        ("k3d", ["/bin", rancher, usual[2]]),
        ("microk8s", [&snap_bin, &snap_conf, usual[2]]),
        ("minikube", [usual[0], usual[1], "/var/run/docker/netns"]),
        ("openshift", ["/var/lib/cni/bin", "/etc/cni/multus/net.d", usual[2]]),
    ] {
        let all = objects("cni", &[&format!("global.platform={platform}")]);
        let set = all.iter().find(|it| it["kind"] == "DaemonSet").unwrap();
        let volumes = pod(set).unwrap()["volumes"].as_array().unwrap();
        let folder = |name: &str| {
            let volume = volumes.iter().find(|it| it["name"] == name).unwrap();
            volume["hostPath"]["path"].as_str().unwrap().to_owned()
        };
        assert_eq!(["cni-bin-dir", "cni-net-dir", "netns-dir"].map(folder), wanted, "{platform}");
        // The pod of a critical class needs a quota that names the class there, and a right to be what it is here.
        assert_eq!(all.iter().any(|it| it["kind"] == "ResourceQuota"), platform == "gke", "{platform}");
        let grants = all.iter().any(|it| it.to_string().contains("securitycontextconstraints"));
        assert_eq!(grants, platform == "openshift", "{platform}");
    }
}

/// A setting of the only container of these objects' only pod.
fn setting(all: &[Value], name: &str) -> Value {
    let container = all.iter().flat_map(containers).next().unwrap();
    let settings = container["env"].as_array().unwrap();
    settings.iter().find(|it| it["name"] == name).map_or(Value::Null, |it| it["value"].clone())
}

/// Where Multus calls each network by itself, SELinux keeps containers in, and users are given by namespace.
#[test]
fn openshift_is_set_up_by_its_name_alone_and_a_users_value_goes_before_it() {
    let there = "global.platform=openshift";
    let ways = |values: &[&str]| {
        let all = objects("cni", values);
        ["CHAINED_CNI_PLUGIN", "CNI_CONF_NAME"].map(|name| setting(&all, name))
    };
    assert_eq!(ways(&[]), [json!("true"), Value::Null]);
    assert_eq!(ways(&[there]), [json!("false"), json!("istio-cni.conf")]);
    assert_eq!(
        ways(&[there, "chained=true", "cniConfFileName=x.conflist"]),
        [json!("true"), json!("x.conflist")]
    );
    assert_eq!(ways(&["chained=false"]), [json!("false"), Value::Null]);
    for part in ["cni", "ztunnel"] {
        let kind = |values: &[&str]| {
            let all = objects(part, values);
            let mut pods = all.iter().filter_map(pod);
            pods.next().unwrap()["securityContext"]["seLinuxOptions"].clone()
        };
        assert_eq!(kind(&[]), Value::Null, "{part}");
        assert_eq!(kind(&[there]), json!({"type": "spc_t"}), "{part}");
        assert_eq!(kind(&[there, "seLinuxOptions.level=s0"]), json!({"level": "s0"}), "{part}");
        let grants =
            objects(part, &[there]).iter().any(|it| it["kind"] == "ClusterRole" && is_privileged(it));
        assert!(grants, "{part}");
    }
    assert!(!objects("ztunnel", &[]).iter().any(|it| it["kind"] == "ClusterRole"));
}

fn is_privileged(role: &Value) -> bool {
    role["rules"].as_array().into_iter().flatten().any(|it| {
        it["resources"] == json!(["securitycontextconstraints"])
            && it["resourceNames"] == json!(["privileged"])
            && it["verbs"] == json!(["use"])
    })
}

/// The control plane needs no rights there: its user is whom the namespace gives it.
#[test]
fn on_openshift_the_control_plane_takes_the_user_that_it_is_given_and_knows_where_node_proxies_are() {
    let of = |values: &[&str]| {
        let all = objects("istiod-lite", values);
        let user = all.iter().find_map(pod).unwrap()["securityContext"]["runAsUser"].clone();
        (user, setting(&all, "CA_TRUSTED_NODE_ACCOUNTS"))
    };
    assert_eq!(of(&[]), (json!(65532), json!("istio-system/ztunnel")));
    let there = "global.platform=openshift";
    assert_eq!(of(&[there]), (Value::Null, json!("istio-system/ztunnel,kube-system/ztunnel")));
    assert_eq!(of(&[there, "trustedZtunnelNamespace=mesh"]).1, json!("mesh/ztunnel"));
}
