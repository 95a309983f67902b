//! What a pod and a tunnel keep in memory while nothing happens, of a proxy that is a process of its own.

#[cfg(test)]
#[path = "scene/desk.rs"]
#[expect(dead_code, reason = "these tests need an agent that only adds")]
mod desk;

#[cfg(test)]
#[path = "scene/raw.rs"]
mod raw;

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};
    use std::process::Command;
    use std::time::Duration;

    use ambit_kit::{Namespace, eventually, until_up};
    use ambit_wire::node_link::PodInfo;

    use super::desk::Desk;
    use super::raw::Raw;

    const PATIENCE: Duration = Duration::from_secs(60);
    const PODS: usize = 25;
    const TUNNELS: usize = 100;

    fn info(name: &str) -> PodInfo {
        let (namespace, service_account) = ("shop".parse().unwrap(), "server".parse().unwrap());
        PodInfo { name: name.into(), namespace, service_account }
    }

    /// Waits until something more costs no more than `most` KiB; what is free is let go of now and then.
    fn costs_at_most(desk: &Desk, before: usize, most: usize) -> Result<usize, String> {
        eventually(PATIENCE, || match desk.anonymous().saturating_sub(before) {
            cost if cost <= most => Ok(cost),
            cost => Err(format!("{cost} KiB, and {most} are right\n{}", desk.log())),
        })
    }

    #[test]
    fn a_pod_without_traffic_costs_less_than_fifty_kib() {
        let desk = Desk::new("{}");
        let pods: Vec<Namespace> = (0..=PODS).map(|_| Namespace::new()).collect();
        // Once through everything that is kept for good.
        desk.add("uid-first", info("first"), &pods[PODS]).unwrap();
        let before = desk.anonymous();
        for (n, pod) in pods.iter().take(PODS).enumerate() {
            desk.add(&format!("uid-{n}"), info(&format!("pod-{n}")), pod).unwrap();
        }
        let cost = costs_at_most(&desk, before, PODS * 50);
        assert!(cost.is_ok(), "{PODS} pods cost {cost:?}");
        println!("{PODS} pods: {cost:?} KiB");
    }

    const WORLD: &str = "workloads: [{uid: Kubernetes//Pod/shop/web, name: web, namespace: shop, \
        serviceAccount: server, trustDomain: cluster.local, workloadIps: [10.79.0.2], protocol: HBONE, \
        services: {}}]";

    fn ip(namespace: &Namespace, args: &[&str]) {
        let outcome = namespace.within(|| Command::new("ip").args(args).output());
        let outcome = outcome.expect("install it: apt-get install iproute2");
        assert!(outcome.status.success(), "{args:?}: {}", String::from_utf8_lossy(&outcome.stderr));
    }

    /// A pod's namespace, and the wire to it.
    fn wired() -> (Namespace, Namespace) {
        let (pod, wire) = (Namespace::new(), Namespace::new());
        let inside = pod.path().display().to_string();
        ip(&wire, &["link", "add", "pod", "type", "veth", "peer", "name", "eth0", "netns", &inside]);
        for (at, device, address) in [(&wire, "pod", "10.79.0.9/24"), (&pod, "eth0", "10.79.0.2/24")] {
            ip(at, &["addr", "add", address, "dev", device]);
            ip(at, &["link", "set", device, "up"]);
        }
        wire.within(|| until_up(&["pod"]));
        pod.within(|| until_up(&["eth0"]));
        (pod, wire)
    }

    /// A tunnel that has carried a connection to an application that has ended.
    fn used(desk: &Desk, wire: &Namespace) -> Raw {
        let to = SocketAddr::from(([10, 79, 0, 2], 15008));
        let tcp = wire.within(|| eventually(PATIENCE, || TcpStream::connect(to)).unwrap());
        let mut peer = Raw::new(tcp, &desk.client_identity(), true);
        assert!(!peer.connect(1, SocketAddr::from(([10, 79, 0, 2], 8080))), "nobody is there");
        peer
    }

    #[test]
    fn a_tunnel_without_streams_costs_less_than_forty_kib_at_the_end_that_has_accepted_it() {
        let desk = Desk::new(WORLD);
        let (pod, wire) = wired();
        desk.add("uid-web", info("web"), &pod).unwrap();
        let mut peers: Vec<Raw> = (0..8).map(|_| used(&desk, &wire)).collect();
        let before = desk.anonymous();
        peers.extend((0..TUNNELS).map(|_| used(&desk, &wire)));
        let cost = costs_at_most(&desk, before, TUNNELS * 40);
        assert!(cost.is_ok(), "{} tunnels cost {cost:?}", peers.len());
        // They answer no pings, so those that wait for long are given up: that they cost nothing then does not count.
        assert!(desk.descriptors() > TUNNELS, "tunnels have ended meanwhile");
        println!("{TUNNELS} tunnels: {cost:?} KiB");
    }
}
