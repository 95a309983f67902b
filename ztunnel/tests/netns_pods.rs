//! Many pods at once, pods that cannot be served, and pods whose processes are gone without a word: what one pod
//! does, no other notices, and nothing of it stays behind.

#[cfg(test)]
#[path = "scene/desk.rs"]
#[expect(dead_code, reason = "memory is measured elsewhere")]
mod desk;

#[cfg(test)]
#[path = "scene/raw.rs"]
mod raw;

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::process::Command;
    use std::time::{Duration, Instant};

    use ambit_kit::{Namespace, eventually, pause, until_up};
    use ambit_wire::node_link::{PodInfo, Request};

    use super::desk::Desk;
    use super::raw::Raw;

    const PATIENCE: Duration = Duration::from_secs(60);
    const PODS: usize = 40;
    /// The one whose port is taken.
    const ODD: usize = 7;

    fn info(name: &str) -> PodInfo {
        let (namespace, service_account) = ("shop".parse().unwrap(), "server".parse().unwrap());
        PodInfo { name: name.into(), namespace, service_account }
    }

    fn is_served(pod: &Namespace) -> bool {
        let open = |port| TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok();
        pod.within(|| [15001, 15006, 15008].into_iter().all(open))
    }

    #[test]
    fn a_storm_of_pods_is_served_one_by_one_and_one_that_cannot_be_holds_up_no_other() {
        let desk = Desk::new("{}");
        let before = desk.descriptors();
        let pods: Vec<Namespace> = (0..PODS).map(|_| Namespace::new()).collect();
        let holder = pods[ODD].within(|| TcpListener::bind("[::]:15008").unwrap());
        let mut longest = Duration::ZERO;
        for (n, pod) in pods.iter().enumerate() {
            let began = Instant::now();
            let added = desk.add(&format!("uid-{n}"), info(&format!("pod-{n}")), pod);
            longest = longest.max(began.elapsed());
            match added {
                Ok(()) => assert!(n != ODD && is_served(pod), "{n}"),
                Err(why) => assert!(n == ODD && why.contains("15008"), "{n}: {why}"),
            }
        }
        assert!(longest < Duration::from_secs(10), "{longest:?} for one pod");
        let dump = desk.get(15000, "/config_dump");
        assert_eq!(dump.matches("\"state\": \"Up\"").count(), PODS - 1, "{}", desk.log());
        assert!(!desk.is_ready(), "one pod is not served, and nobody is told");
        assert!(pods.iter().enumerate().all(|(n, pod)| n == ODD || is_served(pod)), "{}", desk.log());
        drop(holder);
        let healed = || if is_served(&pods[ODD]) && desk.is_ready() { Ok(()) } else { Err(desk.log()) };
        assert_eq!(eventually(PATIENCE, healed), Ok(()), "not tried again");
        for n in 0..PODS {
            desk.del(&format!("uid-{n}")).unwrap();
        }
        assert_eq!(eventually(PATIENCE, || same(before, &desk)), Ok(()), "descriptors stay behind");
    }

    fn same(before: usize, desk: &Desk) -> Result<(), String> {
        let now = desk.descriptors();
        if now == before { Ok(()) } else { Err(format!("{before} before, {now} now")) }
    }

    /// A pod on a wire of its own, with an application that a test is.
    struct Pod {
        namespace: Namespace,
        wire: Namespace,
        application: TcpListener,
    }

    impl Pod {
        fn new() -> Self {
            let (namespace, wire) = (Namespace::new(), Namespace::new());
            let inside = namespace.path().display().to_string();
            ip(&wire, &["link", "add", "pod", "type", "veth", "peer", "name", "eth0", "netns", &inside]);
            for (at, device, address) in
                [(&wire, "pod", "10.78.0.9/24"), (&namespace, "eth0", "10.78.0.2/24")]
            {
                ip(at, &["addr", "add", address, "dev", device]);
                ip(at, &["link", "set", device, "up"]);
            }
            wire.within(|| until_up(&["pod"]));
            namespace.within(|| until_up(&["eth0"]));
            let application = namespace.within(|| TcpListener::bind("10.78.0.2:8080").unwrap());
            Self { namespace, wire, application }
        }

        /// A tunnel into it, with a connection that its application has taken.
        fn connected(&self, identity: &std::path::Path) -> (Raw, TcpStream) {
            let tcp = self.wire.within(|| {
                eventually(PATIENCE, || TcpStream::connect(SocketAddr::from(([10, 78, 0, 2], 15008))))
                    .unwrap()
            });
            let mut peer = Raw::new(tcp, identity, true);
            assert!(peer.connect(1, "10.78.0.2:8080".parse().unwrap()));
            let (taken, _) = self.application.accept().unwrap();
            (peer, taken)
        }
    }

    fn ip(namespace: &Namespace, args: &[&str]) {
        let outcome = namespace.within(|| Command::new("ip").args(args).output());
        let outcome = outcome.expect("install it: apt-get install iproute2");
        assert!(outcome.status.success(), "{args:?}: {}", String::from_utf8_lossy(&outcome.stderr));
    }

    const WORLD: &str = "workloads: [{uid: Kubernetes//Pod/shop/web, name: web, namespace: shop, \
        serviceAccount: server, trustDomain: cluster.local, workloadIps: [10.78.0.2], protocol: HBONE, \
        services: {}}]";

    #[test]
    fn a_pod_that_is_gone_without_a_word_costs_no_time_and_leaves_nothing_behind() {
        let mut desk = Desk::new(WORLD);
        // Once through everything that is kept for good, so that the count is of the pod alone.
        let first = Pod::new();
        desk.add("uid-first", info("web"), &first.namespace).unwrap();
        drop(first.connected(&desk.client_identity()));
        desk.del("uid-first").unwrap();
        drop(first);
        let settled = || {
            let before = desk.descriptors();
            pause(Duration::from_secs(2));
            if desk.descriptors() == before { Ok(before) } else { Err("connections still end") }
        };
        let before = eventually(PATIENCE, settled).unwrap();
        let pod = Pod::new();
        desk.add("uid-web", info("web"), &pod.namespace).unwrap();
        let peers: Vec<_> = (0..5).map(|_| pod.connected(&desk.client_identity())).collect();
        assert!(desk.descriptors() > before + 10, "five tunnels, five applications, listeners");
        let Pod { namespace, wire, application } = pod;
        // The process ends, its wire and its namespace's name are taken away; nobody tells of it.
        let (mut peers, taken): (Vec<Raw>, Vec<TcpStream>) = peers.into_iter().unzip();
        drop((taken, application));
        ip(&wire, &["link", "del", "pod"]);
        drop(namespace);
        // What is done once takes its time; what is done for ever does not end.
        let calm = || {
            let busy = desk.processor_time();
            pause(Duration::from_secs(2));
            let busy = desk.processor_time() - busy;
            if busy < Duration::from_millis(100) { Ok(()) } else { Err(busy) }
        };
        let calm = eventually(PATIENCE, calm);
        assert_eq!(calm, Ok(()), "busy for so long in two seconds\n{}", desk.log());
        // The agent comes back, and does not know the pod.
        desk.hang_up();
        desk.welcome();
        desk.ask(&Request::SnapshotSent, None).unwrap();
        assert_eq!(eventually(PATIENCE, || same(before, &desk)), Ok(()), "{}", desk.log());
        assert!(desk.is_ready());
        peers.clear();
    }
}
