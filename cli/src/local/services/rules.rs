//! Services as rules of a node's packet filter: one transaction that replaces the table. Pure.
//!
//! An endpoint is a rule of its own: the first of n is taken with chance 1/n, the next with 1/(n-1), …, the last
//! always; by client, the rule is that of the client's hash. Only the first packet of a connection asks.

use std::net::{IpAddr, SocketAddr};

use ambit_sys::netlink::attribute::{Attributes, Messages};
use ambit_sys::netlink::nftables::{Batch, DEL_TABLE, NEW_CHAIN, NEW_ELEMENTS, NEW_RULE, NEW_SET, NEW_TABLE};
use ambit_sys::netlink::{APPEND, CREATE};

use super::{Balance, Choice, Services, Transport};

/// The table of the node's namespace.
pub(super) const TABLE: &str = "ambit-local-services";

const SERVICES: &str = "services";
/// Connections of a pod to itself through a service: it would not know its own answer's sender.
const OWN: [(&str, u32, u32); 2] = [("own-v4", 7 << 6 | 7, 8), ("own-v6", 8 << 6 | 8, 32)];

// Numbers of linux/netfilter/nf_tables.h.
const VERDICT: u32 = 0;
const REG: u32 = 1;
const NEXT_REG: u32 = 2;
/// What follows 4 bytes in the first register.
const REG_AFTER_4: u32 = 9;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CT_STATUS: u32 = 2;
const TRANSLATED: u32 = 0x20;
const JUMP: u32 = 0xffff_fffd;
const RANDOM: u32 = 1;
const DESTINATION_NAT: u32 = 1;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const ICMP_OF_BOTH: u32 = 2;
const PORT_UNREACHABLE: u8 = 1;
/// Any number does; one that changed would send open sessions elsewhere.
const HASH_SEED: u32 = 0x616d_6274;

/// Own-connection pairs in one message; an attribute holds at most 64 KiB.
const ELEMENTS: usize = 500;

/// The transaction, and the number of the message that is acknowledged.
pub(super) fn transaction(services: &Services) -> (Messages, u32) {
    let table = Attributes::new().text(1, TABLE);
    let mut batch = Batch::begin();
    batch.add(NEW_TABLE, CREATE, &table);
    batch.add(DEL_TABLE, 0, &table);
    batch.add(NEW_TABLE, CREATE, &table);
    sets(&mut batch, services);
    batch.add(NEW_CHAIN, CREATE, &table.clone().text(3, SERVICES));
    for (name, hook, priority, kind) in [
        ("arriving", 0, -100, "nat"),
        ("own-processes", 3, -100, "nat"),
        ("leaving", 4, 100, "nat"),
        ("forwarded", 2, 0, "filter"),
        ("sent", 3, 0, "filter"),
    ] {
        let place = Attributes::new().be32(1, hook).be32(2, i32::cast_unsigned(priority));
        let chain = table.clone().text(3, name).nested(4, &place).text(7, kind);
        batch.add(NEW_CHAIN, CREATE, &chain);
    }
    for chain in ["arriving", "own-processes"] {
        rule(&mut batch, chain, &Rule::default().jump(SERVICES));
    }
    for balance in &services.balances {
        for (left, endpoint) in (1..=balance.endpoints.len()).rev().zip(&balance.endpoints) {
            rule(&mut batch, SERVICES, &endpoint_rule(balance, *endpoint, left));
        }
    }
    for (set, ip) in [(OWN[0].0, IpAddr::from([0_u8; 4])), (OWN[1].0, IpAddr::from([0_u8; 16]))] {
        rule(&mut batch, "leaving", &Rule::default().family(ip).translated().own(ip, set).then("masq"));
    }
    for chain in ["forwarded", "sent"] {
        for address in &services.addresses {
            rule(&mut batch, chain, &Rule::default().family(*address).destination(*address).reject());
        }
    }
    batch.end()
}

fn endpoint_rule(balance: &Balance, endpoint: SocketAddr, left: usize) -> Rule {
    let count = balance.endpoints.len();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let to = Rule::default()
        .family(balance.to.ip())
        .destination(balance.to.ip())
        .protocol(balance.protocol)
        .port(balance.to.port());
    let chosen = match balance.choice {
        Choice::Chance => to.chance(number(left)),
        Choice::ByClient => to.client(balance.to.ip(), number(count), number(count - left)),
    };
    chosen.send_to(endpoint)
}

fn sets(batch: &mut Batch, services: &Services) {
    let mut all: Vec<IpAddr> =
        services.balances.iter().flat_map(|b| &b.endpoints).map(SocketAddr::ip).collect();
    all.sort();
    all.dedup();
    let (v4, v6): (Vec<_>, Vec<_>) = all.into_iter().partition(IpAddr::is_ipv4);
    for (number, ((name, kind, length), own)) in (1..).zip(OWN.into_iter().zip([v4, v6])) {
        let set = Attributes::new().text(1, TABLE).text(2, name).be32(3, 0);
        batch.add(NEW_SET, CREATE, &set.be32(4, kind).be32(5, length).be32(10, number));
        for part in own.chunks(ELEMENTS) {
            let list = part.iter().fold(Attributes::new(), |list, ip| {
                let octets = octets(*ip);
                let key = Attributes::new().raw(1, &[octets.clone(), octets].concat());
                list.nested(1, &Attributes::new().nested(1, &key))
            });
            batch.add(NEW_ELEMENTS, CREATE, &Attributes::new().text(1, TABLE).text(2, name).nested(3, &list));
        }
    }
}

fn rule(batch: &mut Batch, chain: &str, rule: &Rule) {
    let rule = Attributes::new().text(1, TABLE).text(2, chain).nested(4, &rule.0);
    batch.add(NEW_RULE, CREATE | APPEND, &rule);
}

/// A rule's expressions over registers, in their order.
#[derive(Default)]
struct Rule(Attributes);

impl Rule {
    fn with(self, name: &str, data: &Attributes) -> Self {
        Self(self.0.nested(1, &Attributes::new().text(1, name).nested(2, data)))
    }

    fn then(self, name: &str) -> Self {
        self.with(name, &Attributes::new())
    }

    fn compare(self, operator: u32, value: &[u8]) -> Self {
        let data = Attributes::new().be32(1, REG).be32(2, operator);
        self.with("cmp", &data.nested(3, &Attributes::new().raw(1, value)))
    }

    fn meta(self, key: u32) -> Self {
        self.with("meta", &Attributes::new().be32(1, REG).be32(2, key))
    }

    fn payload(self, header: u32, offset: u32, length: u32, register: u32) -> Self {
        let data = Attributes::new().be32(1, register).be32(2, header).be32(3, offset).be32(4, length);
        self.with("payload", &data)
    }

    fn immediate(self, register: u32, value: &[u8]) -> Self {
        let value = Attributes::new().raw(1, value);
        self.with("immediate", &Attributes::new().be32(1, register).nested(2, &value))
    }

    fn family(self, like: IpAddr) -> Self {
        self.meta(META_NFPROTO).compare(EQUAL, &[family(like)])
    }

    fn destination(self, ip: IpAddr) -> Self {
        let (_, offset, length) = places(ip);
        self.payload(NETWORK_HEADER, offset, length, REG).compare(EQUAL, &octets(ip))
    }

    fn protocol(self, protocol: Transport) -> Self {
        let number = match protocol {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        };
        self.meta(META_L4PROTO).compare(EQUAL, &[number])
    }

    fn port(self, port: u16) -> Self {
        self.payload(TRANSPORT_HEADER, 2, 2, REG).compare(EQUAL, &port.to_be_bytes())
    }

    /// Once in so many.
    fn chance(self, one_in: u32) -> Self {
        if one_in == 1 {
            return self;
        }
        let data = Attributes::new().be32(1, REG).be32(2, one_in).be32(3, RANDOM).be32(4, 0);
        self.with("numgen", &data).compare(EQUAL, &0_u32.to_ne_bytes())
    }

    /// The clients whose hash has this rest.
    fn client(self, like: IpAddr, of: u32, rest: u32) -> Self {
        if of == 1 {
            return self;
        }
        let (offset, _, length) = places(like);
        let hash = Attributes::new().be32(1, NEXT_REG).be32(2, REG).be32(3, length).be32(4, of);
        let hash = hash.be32(5, HASH_SEED).be32(6, 0).be32(7, 0);
        self.payload(NETWORK_HEADER, offset, length, NEXT_REG)
            .with("hash", &hash)
            .compare(EQUAL, &rest.to_ne_bytes())
    }

    fn send_to(self, endpoint: SocketAddr) -> Self {
        let nat = Attributes::new().be32(1, DESTINATION_NAT).be32(2, family(endpoint.ip()).into());
        self.immediate(REG, &octets(endpoint.ip()))
            .immediate(NEXT_REG, &endpoint.port().to_be_bytes())
            .with("nat", &nat.be32(3, REG).be32(5, NEXT_REG))
    }

    fn translated(self) -> Self {
        let value = |number: u32| Attributes::new().raw(1, &number.to_ne_bytes());
        let mask = Attributes::new().be32(1, REG).be32(2, REG).be32(3, 4);
        self.with("ct", &Attributes::new().be32(1, REG).be32(2, CT_STATUS))
            .with("bitwise", &mask.nested(4, &value(TRANSLATED)).nested(5, &value(0)))
            .compare(NOT_EQUAL, &0_u32.to_ne_bytes())
    }

    /// Source and destination are a pair of this set.
    fn own(self, like: IpAddr, set: &str) -> Self {
        let (source, destination, length) = places(like);
        let next = if like.is_ipv4() { REG_AFTER_4 } else { NEXT_REG };
        self.payload(NETWORK_HEADER, source, length, REG)
            .payload(NETWORK_HEADER, destination, length, next)
            .with("lookup", &Attributes::new().text(1, set).be32(2, REG))
    }

    fn reject(self) -> Self {
        self.with("reject", &Attributes::new().be32(1, ICMP_OF_BOTH).raw(2, &[PORT_UNREACHABLE]))
    }

    fn jump(self, chain: &str) -> Self {
        let verdict = Attributes::new().be32(1, JUMP).text(2, chain);
        let value = Attributes::new().nested(2, &verdict);
        self.with("immediate", &Attributes::new().be32(1, VERDICT).nested(2, &value))
    }
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 2 } else { 10 }
}

/// Where source and destination stand in the network header, and how long they are.
fn places(like: IpAddr) -> (u32, u32, u32) {
    if like.is_ipv4() { (12, 16, 4) } else { (8, 24, 16) }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
