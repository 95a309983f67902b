//! The namespaces of a mesh that exist before any pod: the wire, the control plane, the nodes.
//! Pure: says which namespaces there are and what is to be done in each; `links` does it.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ipam::{Networks, gateway};
use super::links::Step;
use super::mesh::Mesh;

/// The namespace of the wire between the nodes; every frame between two nodes is seen there.
pub(crate) const LAN: &str = "lan";
/// The namespace of istiod-lite.
pub(crate) const CONTROL_PLANE: &str = "cp";
/// The bridge a node's pods hang on.
pub(crate) const POD_BRIDGE: &str = "pods";

const CONTROL_PLANE_HOST: u8 = 10;

/// One node: its name, its number from 1, and with that all its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) number: u8,
}

impl Node {
    pub(crate) fn space(&self) -> String {
        format!("node-{}", self.number)
    }

    /// The node's own addresses on the wire.
    pub(crate) fn addresses(&self) -> [IpNet; 2] {
        Networks::lan(CONTROL_PLANE_HOST.saturating_add(self.number))
    }

    pub(crate) fn pods(&self) -> [IpNet; 2] {
        Networks::pods(self.number)
    }
}

/// The control plane's addresses on the wire.
pub(crate) fn control_plane() -> [IpNet; 2] {
    Networks::lan(CONTROL_PLANE_HOST)
}

/// Every namespace with the steps that furnish it, in the order in which that works.
pub(crate) fn plan(mesh: &Mesh, nodes: &[Node]) -> Vec<(String, Vec<Step>)> {
    let mut plan = vec![(LAN.to_owned(), wire(mesh, nodes))];
    let mut host = uplink(&control_plane());
    host.extend(nodes.iter().flat_map(pod_routes));
    plan.push((CONTROL_PLANE.to_owned(), host));
    for node in nodes {
        plan.push((node.space(), furnish(node, nodes)));
    }
    plan
}

fn wire(mesh: &Mesh, nodes: &[Node]) -> Vec<Step> {
    let mut steps = vec![up("lo"), bridge(LAN, 0)];
    steps.extend(Networks::lan(1).map(|net| Step::Address { link: LAN.to_owned(), net }));
    for space in std::iter::once(CONTROL_PLANE.to_owned()).chain(nodes.iter().map(Node::space)) {
        let name = format!("to-{space}");
        steps.push(Step::Veth {
            name: name.clone(),
            peer: "eth0".to_owned(),
            peer_space: mesh.space(&space),
        });
        steps.push(Step::Join { link: name, bridge: LAN.to_owned() });
    }
    steps
}

fn uplink(addresses: &[IpNet; 2]) -> Vec<Step> {
    let mut steps = vec![up("lo"), up("eth0")];
    steps.extend(addresses.iter().map(|net| Step::Address { link: "eth0".to_owned(), net: *net }));
    // Service addresses need some route to leave the sender at all, before anything translates them.
    steps.extend(Networks::lan(1).map(|net| Step::Route { to: everywhere(net), via: net.addr() }));
    steps
}

fn furnish(node: &Node, nodes: &[Node]) -> Vec<Step> {
    let mut steps = uplink(&node.addresses());
    steps.push(Step::Set { key: "ipv4/ip_forward", value: "1" });
    steps.push(Step::Set { key: "ipv6/conf/all/forwarding", value: "1" });
    // Pods of a node are neighbours who are not to know: no hint to talk past the node, and no bridge that
    // translates addresses on some machines and not on others.
    steps.push(Step::Set { key: "ipv4/conf/all/send_redirects", value: "0" });
    steps.push(Step::Set { key: "ipv4/conf/default/send_redirects", value: "0" });
    steps.push(Step::SetIfThere { key: "bridge/bridge-nf-call-iptables", value: "0" });
    steps.push(Step::SetIfThere { key: "bridge/bridge-nf-call-ip6tables", value: "0" });
    steps.push(bridge(POD_BRIDGE, node.number));
    steps.extend(node.pods().map(|net| Step::Address { link: POD_BRIDGE.to_owned(), net: at_gateway(net) }));
    steps.extend(nodes.iter().filter(|other| *other != node).flat_map(pod_routes));
    steps
}

fn pod_routes(node: &Node) -> Vec<Step> {
    std::iter::zip(node.pods(), node.addresses())
        .map(|(pods, host)| Step::Route { to: pods, via: host.addr() })
        .collect()
}

/// What a pod's namespace gets: the inner end of its link, one address of each family, the way out.
pub(crate) fn pod_inside(node: &Node, addresses: &[IpAddr]) -> Vec<Step> {
    let mut steps = vec![up("lo"), up("eth0")];
    for pods in node.pods() {
        let own = addresses.iter().find(|address| pods.contains(*address));
        if let Some(address) = own {
            // WHY alone in its network: also what goes to a pod of the same node passes the node, and with it an
            // answer to a service's client, whose addresses are to be translated back.
            steps.push(Step::Address { link: "eth0".to_owned(), net: IpNet::from(*address) });
            steps.push(Step::Reach { link: "eth0".to_owned(), to: IpNet::from(gateway(pods)) });
            steps.push(Step::Route { to: everywhere(pods), via: gateway(pods) });
        }
    }
    steps
}

/// What the node does for a pod: the link into the pod's namespace, joined to the bridge.
pub(crate) fn pod_outside(mesh: &Mesh, link: &str, space: &str) -> Vec<Step> {
    vec![
        Step::Veth { name: link.to_owned(), peer: "eth0".to_owned(), peer_space: mesh.space(space) },
        Step::Join { link: link.to_owned(), bridge: POD_BRIDGE.to_owned() },
    ]
}

fn at_gateway(net: IpNet) -> IpNet {
    IpNet::new(gateway(net), net.prefix_len()).unwrap_or(net)
}

fn everywhere(like: IpNet) -> IpNet {
    match like {
        IpNet::V4(_) => Ipv4Net::default().into(),
        IpNet::V6(_) => Ipv6Net::default().into(),
    }
}

/// A locally administered address (IEEE 802), a different one for each bridge.
fn bridge(name: &str, number: u8) -> Step {
    Step::Bridge { name: name.to_owned(), address: [0x02, 0xa3, 0xb1, 0x70, 0, number] }
}

fn up(link: &str) -> Step {
    Step::Up { link: link.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh() -> Mesh {
        Mesh::new("/run/x".as_ref(), "m".parse().unwrap())
    }

    fn nodes(count: u8) -> Vec<Node> {
        (1..=count).map(|number| Node { name: format!("n{number}"), number }).collect()
    }

    #[test]
    fn every_host_has_a_way_to_the_pods_of_every_other_node_in_both_families() {
        let nodes = nodes(3);
        let plan = plan(&mesh(), &nodes);
        for host in plan.iter().filter(|(name, _)| name != LAN) {
            for node in nodes.iter().filter(|node| node.space() != host.0) {
                for (pods, own) in std::iter::zip(node.pods(), node.addresses()) {
                    let way = Step::Route { to: pods, via: own.addr() };
                    assert!(host.1.contains(&way), "{} to {}: {way:?}", host.0, node.name);
                }
            }
        }
    }

    #[test]
    fn no_address_is_given_twice() {
        let plan = plan(&mesh(), &nodes(5));
        let all = plan.iter().flat_map(|(_, steps)| steps);
        let mut given: Vec<_> = all
            .filter_map(|step| if let Step::Address { net, .. } = step { Some(net.addr()) } else { None })
            .collect();
        let count = given.len();
        given.sort();
        given.dedup();
        assert_eq!((given.len(), count), (2 + 2 + 5 * 4, 2 + 2 + 5 * 4));
    }

    #[test]
    fn a_pod_gets_an_address_and_a_way_out_of_each_family_it_has() {
        let node = nodes(2).remove(1);
        let both = pod_inside(&node, &["10.244.2.7".parse().unwrap(), "fd00:10:244:2::7".parse().unwrap()]);
        let routes = |steps: &[Step]| steps.iter().filter(|s| matches!(s, Step::Route { .. })).count();
        assert_eq!(routes(&both), 2);
        assert_eq!(routes(&pod_inside(&node, &["10.244.2.7".parse().unwrap()])), 1);
        assert_eq!(routes(&pod_inside(&node, &["10.244.1.7".parse().unwrap()])), 0, "another node's address");
    }
}
