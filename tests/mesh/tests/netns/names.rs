//! Names, asked through the mesh in place of the file that local pods have them from: the daemon's rules lead what a
//! pod's resolver asks to ztunnel, which knows from the control plane.

use ambit_kit::eventually;

use crate::mesh::{Mesh, SOON};

/// A pod whose annotation leads its questions to ztunnel.
pub(crate) const ASKER: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: asker
  namespace: shop
  annotations: { ambient.istio.io/dns-capture: 'true' }
spec:
  nodeName: node-1
  containers: [{ name: app, command: [ambit, pod, serve] }]
";

/// What the C library's resolver finds that asks a server there is not, and no file.
const FIND: &str = "printf 'search shop.svc.cluster.local svc.cluster.local cluster.local\\n\
    nameserver 10.96.0.10\\noptions ndots:5 timeout:1 attempts:1\\n' > \"$0\" && \
    mount --bind \"$0\" /etc/resolv.conf && { getent -s hosts:dns ahosts \"$1\" || test $? = 2; }";

fn found(mesh: &Mesh, pod: &str, name: &str) -> Vec<String> {
    let file = mesh.aside("resolv.conf", "");
    let words = ["exec", pod, "--", "unshare", "--mount", "sh", "-c", FIND, file.to_str().unwrap(), name];
    let told = mesh.run(&words);
    let mut all: Vec<_> =
        told.lines().filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_pod_whose_names_are_captured_finds_services_by_every_name_without_a_name_server() {
    let mesh = Mesh::up("names");
    mesh.write("asker.yaml", ASKER);
    eventually(SOON * 2, || mesh.phase("shop/asker", "Running")).unwrap();
    let hosts = mesh.run(&["exec", "shop/asker", "--", "cat", "/etc/hosts"]);
    let named = |line: &&str| line.contains(" cart.shop.svc.cluster.local");
    let known = hosts.lines().filter(named).map(|line| line.split(' ').next().unwrap().to_owned());
    let mut known: Vec<_> = known.collect();
    known.sort();
    assert_eq!(known.len(), 2, "an address of each family: {hosts}");
    for name in ["cart", "cart.shop", "cart.shop.svc", "cart.shop.svc.cluster.local"] {
        let same = || match found(&mesh, "shop/asker", name) {
            all if all == known => Ok(()),
            other => Err(format!("{name}: {other:?}, not {known:?}")),
        };
        eventually(SOON, same).unwrap();
    }
    // One without the annotation asks the server that there is not.
    assert_eq!(found(&mesh, "shop/web", "cart"), Vec::<String>::new());
}
