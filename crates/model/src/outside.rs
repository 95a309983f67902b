//! Places outside of the mesh that a client names itself (`waypoint.md` 1.14): which hosts are below a wildcard, and
//! which addresses are anybody's. Whatever is not certainly public is not: one that leads into somebody's own network
//! could be asked for by giving it a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::traffic::is_host;

/// The host that `asked` is, if it is below a wildcard: `a.example.com` and `a.b.example.com` are below
/// `*.example.com`, `example.com` is not. Letters count alike, and a dot at the end says nothing.
#[must_use]
pub fn under(wildcard: &str, asked: &str) -> Option<Box<str>> {
    let suffix =
        wildcard.strip_prefix('*').filter(|it| it.len() > 1 && it.starts_with('.'))?.to_ascii_lowercase();
    let asked = asked.strip_suffix('.').unwrap_or(asked).to_ascii_lowercase();
    let first = asked.strip_suffix(&suffix)?;
    (!first.is_empty() && is_host(&asked)).then(|| asked.into())
}

/// Whether an address is anybody's to reach (the special-purpose registries of RFC 6890).
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match (a, b) {
        // Shared by carriers (RFC 6598), where some clouds tell their machines things.
        (100, 64..=127) => true,
        // Protocols' own, relays of 6to4, documentation.
        (192, 0) => matches!(c, 0 | 2),
        (192, 88) => c == 99,
        (198, 18 | 19) => true,
        (198, 51) => c == 100,
        (203, 0) => c == 113,
        // Where a cloud tells its machines things, though it looks like anybody's.
        (168, 63) => ip == Ipv4Addr::new(168, 63, 129, 16),
        // This network; multicast, and what nobody was given.
        (0 | 224.., _) => true,
        _ => false,
    };
    !(special || ip.is_private() || ip.is_loopback() || ip.is_link_local())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Global unicast, without what embeds an address of IPv4, measures, or documents.
    let special = matches!((a, b), (0x2001, 0..=0x01ff | 0x0db8) | (0x2002, _) | (0x3fff, 0..=0x0fff));
    (0x2000..=0x3fff).contains(&a) && !special
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_is_below_a_wildcard_when_it_ends_as_it_does_and_is_more() {
        for (wildcard, asked, wanted) in [
            ("*.example.com", "a.example.com", Some("a.example.com")),
            ("*.example.com", "A.Example.COM.", Some("a.example.com")),
            ("*.Example.com", "a.b.example.com", Some("a.b.example.com")),
            ("*.example.com", "example.com", None),
            ("*.example.com", ".example.com", None),
            ("*.example.com", "a.example.org", None),
            ("*.example.com", "aexample.com", None),
            ("*.example.com", "a.example.com.evil.org", None),
            ("*.example.com", "a b.example.com", None),
            ("*.example.com", "a..example.com", None),
            ("*.example.com", "127.0.0.1", None),
            ("*", "a.example.com", None),
            ("*.", "a.", None),
            ("*example.com", "an-example.com", None),
            ("a.example.com", "a.example.com", None),
        ] {
            assert_eq!(under(wildcard, asked).as_deref(), wanted, "{wildcard} {asked}");
        }
    }

    #[test]
    fn an_address_is_public_when_it_is_nobodys_own() {
        for (ip, wanted) in [
            ("93.184.216.34", true),
            ("8.8.8.8", true),
            ("2606:4700::1111", true),
            ("::ffff:8.8.8.8", true),
            ("10.1.2.3", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("100.100.100.200", false),
            ("168.63.129.16", false),
            ("0.0.0.0", false),
            ("192.0.2.1", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("240.240.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("::ffff:10.0.0.1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("2001:2::1", false),
            ("2001:db8::1", false),
            ("2002:0a00:0001::1", false),
            ("64:ff9b::a00:1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), wanted, "{ip}");
        }
    }

    proptest! {
        #[test]
        fn what_is_below_a_wildcard_ends_as_it_does(asked in ".{0,40}") {
            if let Some(found) = under("*.example.com", &asked) {
                prop_assert!(found.ends_with(".example.com") && is_host(&found));
            }
        }
    }
}
