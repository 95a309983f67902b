//! Names asked by processes of a pod, with the C library's own resolver, through the rules that the node agent
//! installs: ours are answered, others are asked in the pod's name, over UDP and TCP, IPv4 and IPv6; nobody outside
//! the pod is answered; and a proxy that takes over loses none.

#[cfg(test)]
#[path = "scene/agent.rs"]
#[expect(dead_code, reason = "these tests need an agent that only adds")]
mod agent;

#[cfg(test)]
#[path = "scene/names.rs"]
mod names;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use ambit_kit::{eventually, pause};

    use super::names::{POD, Scene, question};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// How a pod's resolver asks: by which address, and over what.
    const WAYS: [(&str, &str); 4] = [
        ("10.96.0.10", ""),
        ("10.96.0.10", "options use-vc\n"),
        ("fd96::a", ""),
        ("fd96::a", "options use-vc\n"),
    ];

    #[test]
    fn a_pods_resolver_finds_services_endpoints_pods_and_what_others_know() {
        let scene = Scene::new();
        let _proxy = scene.start(&[]);
        for (server, options) in WAYS {
            let resolver = scene.resolver(server, options);
            for (name, found) in [
                ("web", "10.1.0.1 fd10::1"),
                ("web.shop", "10.1.0.1 fd10::1"),
                ("web.shop.svc.cluster.local", "10.1.0.1 fd10::1"),
                ("api.example.com", "10.1.0.2"),
                ("db", "10.80.0.5 10.80.0.6"),
                ("db-1.db", "10.80.0.6"),
                ("10-80-0-5.shop.pod.cluster.local", "10.80.0.5"),
                ("other.test", "192.0.2.1"),
                ("long.test", "40 addresses"),
                ("gone.test", ""),
            ] {
                assert_eq!(resolver.find(name), found, "{name} by {server} {options:?}\n{}", scene.log());
            }
        }
        assert!(
            scene.askers().iter().all(|ip| POD.contains(&ip.to_string().as_str())),
            "{:?}",
            scene.askers()
        );
        let metrics = scene.get(15020, "/metrics");
        for line in [
            "istio_dns_requests_total{request_query_type=\"a\",request_protocol=\"udp\",source_canonical_service=\"client\"",
            "istio_dns_upstream_requests_total{request_query_type=\"aaaa\",request_protocol=\"tcp\"",
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }
    }

    #[test]
    fn a_proxy_for_names_alone_leaves_connections_to_others() {
        let scene = Scene::new();
        let _proxy = scene.start(&[("ENABLE_PROXY", "false")]);
        assert_eq!(scene.resolver("10.96.0.10", "").find("web"), "10.1.0.1 fd10::1", "{}", scene.log());
        let listening = scene.listening();
        assert!(listening.contains(":15053 "), "{listening}");
        for port in [":15001 ", ":15006 ", ":15008 "] {
            assert!(!listening.contains(port), "{listening}");
        }
    }

    #[test]
    fn a_pod_without_ipv6_is_answered_on_ipv4() {
        let scene = Scene::new();
        scene.switch_ipv6_off();
        let _proxy = scene.start(&[]);
        assert_eq!(scene.resolver("10.96.0.10", "").find("db"), "10.80.0.5 10.80.0.6", "{}", scene.log());
    }

    #[test]
    fn nobody_outside_the_pod_is_answered() {
        let scene = Scene::new();
        let _proxy = scene.start(&[]);
        assert_eq!(scene.resolver("10.96.0.10", "").find("web"), "10.1.0.1 fd10::1", "{}", scene.log());
        // Even with a pod that hands on to loopback what comes from outside.
        scene.lead_outsiders_in();
        for to in ["10.80.0.2:15053", "10.80.0.2:53", "[fd80::2]:15053", "10.80.0.2:5300"] {
            let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let outsider = scene.outside(|| UdpSocket::bind(any).unwrap());
            outsider.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            outsider.send_to(&question("web.shop.svc.cluster.local"), to).unwrap();
            assert!(outsider.recv(&mut [0; 512]).is_err(), "answered at {to}");
        }
        assert!(scene.led_in() > 0, "the last one must have come to where names are asked");
    }

    #[test]
    fn a_proxy_that_takes_over_loses_no_question() {
        let scene = Scene::new();
        let first = scene.start(&[]);
        let (asking, asked) = (AtomicBool::new(true), [const { AtomicUsize::new(0) }; 4]);
        let count = || asked.each_ref().map(|it| it.load(Ordering::Relaxed));
        std::thread::scope(|all| {
            // Some that take a while elsewhere are under way at any time.
            let names =
                ["slow.test", "slow.test", "web.shop.svc.cluster.local", "web.shop.svc.cluster.local"];
            let askers = std::array::from_fn::<_, 4, _>(|n| {
                let (asking, scene, asked) = (&asking, &scene, &asked[n]);
                all.spawn(move || scene.ask_while(asking, names[n], asked))
            });
            let each_asks_more = || {
                let before = count();
                let more = || std::iter::zip(before, count()).all(|(before, now)| now > before);
                let outcome = eventually(PATIENCE, || more().then_some(()).ok_or_else(count));
                pause(Duration::from_millis(300));
                outcome
            };
            let first_alone = each_asks_more();
            let second = scene.start(&[]);
            let both = each_asks_more();
            first.terminate();
            assert!(first.ended().success());
            let second_alone = each_asks_more();
            asking.store(false, Ordering::Relaxed);
            let lost = askers.map(|asker| asker.join().unwrap());
            assert_eq!(lost, [0; 4], "of {:?}\n{}", count(), scene.log());
            assert_eq!((first_alone, both, second_alone), (Ok(()), Ok(()), Ok(())));
            drop(second);
        });
    }
}
