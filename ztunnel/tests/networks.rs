//! Two proxies on two networks with a gateway between, as real processes and sockets: tunnels inside tunnels.

#[cfg(test)]
mod scene;

#[cfg(test)]
mod tests {
    use super::scene::networks::Networks;

    /// Shown to nobody on the way.
    const SECRET: &[u8] = b"secret-in-the-clear ";

    #[test]
    fn a_service_of_another_network_is_reached_through_its_gateway_in_both_families() {
        let networks = Networks::new();
        // More than the windows on the way hold, so that both ends must give room to each other.
        let sent = SECRET.repeat(400_000);
        for (service, v6) in [("four", false), ("four", true), ("six", false), ("six", true)] {
            let back = networks.send(service, v6, &sent);
            assert!(back == sent, "{service}: {} bytes came back\n{}", back.len(), networks.logs());
            let authority = format!("dst.hbone_addr={service}.shop.svc.cluster.local:80");
            let client = networks.access("client", &["direction=\"outbound\"", &authority]);
            let server = networks.access("server", &["direction=\"inbound\"", &authority]);
            for (line, part) in [
                (&client, "dst.workload=\"server\""),
                (&client, "dst.identity=\"spiffe://cluster.local/ns/shop/sa/server\""),
                (
                    &client,
                    if service == "four" { "dst.addr=10.77.0.7:15008" } else { "dst.addr=[fd77::7]:15008" },
                ),
                (&client, "src.workload=\"client\""),
                (&client, "bytes_sent=8000000 bytes_recv=8000000"),
                // Not the gateway, though the connection comes from its address.
                (&server, "src.workload=\"client\""),
                (&server, "src.identity=\"spiffe://cluster.local/ns/shop/sa/client\""),
                (&server, if service == "four" { "src.addr=10.78.0.7:" } else { "src.addr=[fd78::7]:" }),
                (&server, "bytes_sent=8000000 bytes_recv=8000000"),
            ] {
                assert!(line.contains(part) && !line.contains("error="), "{part}: {line}");
            }
        }
        let wire = networks.wire();
        assert!(!wire.contains(SECRET), "plaintext on the wire");
        assert!(wire.tls_to(15008), "no TLS to port 15008 on the wire");
        let asked = networks.asked();
        assert_eq!(asked.len(), 4);
        for (peer, head) in asked {
            assert_eq!(peer, "spiffe://cluster.local/ns/shop/sa/client");
            assert!(head.authority.to_string().ends_with(".shop.svc.cluster.local:80"), "{head:?}");
            assert_eq!(head.network, None, "the network is told inside only");
        }
    }

    #[test]
    fn nobody_but_those_the_service_lists_is_believed_behind_the_gateway() {
        let mut networks = Networks::new();
        let error = |networks: &Networks, service: &str| {
            let host = format!("dst.service=\"{service}.shop.svc.cluster.local\"");
            networks.access("client", &["direction=\"outbound\"", &host, "error="])
        };
        assert_eq!(networks.send("mistaken", false, SECRET), b"", "{}", networks.logs());
        let line = error(&networks, "mistaken");
        assert!(
            line.contains("behind the gateway: ") && line.contains("is not the peer that was expected"),
            "{line}"
        );
        assert_eq!(networks.asked().len(), 1);
        assert_eq!(networks.send("nobody", true, SECRET), b"", "{}", networks.logs());
        let line = networks.access("client", &["its service lists no identity that may answer there"]);
        assert!(line.contains("direction=\"outbound\""), "{line}");
        assert_eq!(networks.asked().len(), 1, "the gateway is not even asked");
        networks.close_gateway();
        assert_eq!(networks.send("four", false, SECRET), b"", "{}", networks.logs());
        let line = error(&networks, "four");
        assert!(line.contains("the gateway: "), "{line}");
        assert!(!networks.wire().contains(SECRET), "plaintext on the wire");
    }
}
