//! Links, addresses and routes of a namespace, as a list of steps, and the netlink calls that carry it out.
//! What to build is decided elsewhere (`layout`, `sandbox`); namespaces themselves are `space`'s.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::space::{self, SpaceError};

/// One thing to be done inside a namespace. Links are named: they are made by the same list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Writes a value below `/proc/sys/net`.
    Set {
        key: &'static str,
        value: &'static str,
    },
    /// As `Set`, where the kernel has such a value.
    SetIfThere {
        key: &'static str,
        value: &'static str,
    },
    /// With an address of its own: otherwise it takes that of its lowest port, and neighbours lose it whenever
    /// a port comes or goes.
    Bridge {
        name: String,
        address: [u8; 6],
    },
    /// A pair of links: `name` here, `peer` in the namespace pinned at `peer_space`.
    Veth {
        name: String,
        peer: String,
        peer_space: PathBuf,
    },
    Join {
        link: String,
        bridge: String,
    },
    Address {
        link: String,
        net: IpNet,
    },
    Up {
        link: String,
    },
    Route {
        to: IpNet,
        via: IpAddr,
    },
    /// A route without a gateway.
    Reach {
        link: String,
        to: IpNet,
    },
    /// Removes a link, and with it its peer; nothing happens where there is none.
    Gone {
        link: String,
    },
}

/// Why a namespace could not be furnished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error("this kernel has no {what} ({option})")]
    NoKernelSupport { what: &'static str, option: &'static str },
    #[error("cannot carry out {step:?}")]
    Netlink { step: Box<Step>, source: rtnetlink::Error },
    #[error("cannot carry out {step:?}")]
    Io { step: Box<Step>, source: io::Error },
    #[error("{step:?} names a link that is not there")]
    NoSuchLink { step: Box<Step> },
    #[error("no netlink connection")]
    NoConnection(#[source] io::Error),
}

/// Makes a namespace in which links of both families work from their first moment.
pub(crate) fn make_space(pin: &Path) -> Result<(), LinkError> {
    space::make(pin)?;
    let set = |key| Step::Set { key, value: "0" };
    let made = furnish(
        pin,
        &[
            // A machine may have IPv6 switched off for new links; the mesh is dual stack all the same.
            set("ipv6/conf/all/disable_ipv6"),
            set("ipv6/conf/default/disable_ipv6"),
            // WHY before there are links: looking for duplicates of their own addresses holds up the first
            // packets of all neighbours by two seconds, and nobody else is on these links.
            set("ipv6/conf/default/accept_dad"),
            set("ipv6/conf/default/dad_transmits"),
            // The way to a neighbour is the one that was laid.
            set("ipv4/conf/all/accept_redirects"),
            set("ipv4/conf/default/accept_redirects"),
            set("ipv6/conf/default/accept_redirects"),
        ],
    );
    if made.is_err() {
        space::remove(pin)?;
    }
    made
}

/// Carries out `steps` in the namespace, in order, and stops at the first that fails.
pub(crate) fn furnish(pin: &Path, steps: &[Step]) -> Result<(), LinkError> {
    space::within(pin, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LinkError::NoConnection)?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::NoConnection)?;
            let work = async {
                for step in steps {
                    carry_out(&handle, step).await?;
                }
                Ok(())
            };
            tokio::select! {
                () = connection => Err(LinkError::NoConnection(io::ErrorKind::ConnectionAborted.into())),
                done = work => done,
            }
        })
    })?
}

async fn carry_out(handle: &Handle, step: &Step) -> Result<(), LinkError> {
    let netlink = |source| refused(step, source);
    match step {
        Step::Set { key, value } => set(step, key, value),
        Step::SetIfThere { key, value } => match set(step, key, value) {
            Err(LinkError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        },
        Step::Bridge { name, address } => handle
            .link()
            .add(LinkBridge::new(name).address(address.to_vec()).build())
            .execute()
            .await
            .map_err(netlink),
        Step::Veth { name, peer, peer_space } => {
            let space = File::open(peer_space)
                .map_err(|source| LinkError::Io { step: Box::new(step.clone()), source })?;
            let far =
                LinkMessageBuilder::<LinkUnspec>::new().name(peer).setns_by_fd(space.as_raw_fd()).build();
            let near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
                .name(name)
                .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
                .build();
            handle.link().add(near).execute().await.map_err(netlink)
        }
        Step::Join { link, bridge } => {
            let to = index(handle, bridge, step).await?;
            let change = LinkMessageBuilder::<LinkUnspec>::new()
                .index(index(handle, link, step).await?)
                .controller(to)
                .up()
                .build();
            handle.link().change(change).execute().await.map_err(netlink)
        }
        Step::Up { link } => {
            let change = LinkMessageBuilder::<LinkUnspec>::new().index(index(handle, link, step).await?).up();
            handle.link().change(change.build()).execute().await.map_err(netlink)
        }
        Step::Address { link, net } => {
            let link = index(handle, link, step).await?;
            let mut request = handle.address().add(link, net.addr(), net.prefix_len());
            // WHY: nobody else is on this link; waiting for duplicates would hold up every start by a second.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            request.execute().await.map_err(netlink)
        }
        Step::Route { to, via } => {
            let to = destination(step, *to)?.gateway(*via).map_err(|e| not_an_address(step, &e))?;
            handle.route().add(to.build()).execute().await.map_err(netlink)
        }
        Step::Reach { link, to } => {
            let link = index(handle, link, step).await?;
            let to = destination(step, *to)?.output_interface(link).scope(RouteScope::Link);
            handle.route().add(to.build()).execute().await.map_err(netlink)
        }
        Step::Gone { link } => match index(handle, link, step).await {
            Ok(link) => handle.link().del(link).execute().await.map_err(netlink),
            Err(LinkError::NoSuchLink { .. }) => Ok(()),
            Err(other) => Err(other),
        },
    }
}

fn set(step: &Step, key: &str, value: &str) -> Result<(), LinkError> {
    fs::write(Path::new("/proc/sys/net").join(key), value)
        .map_err(|source| LinkError::Io { step: Box::new(step.clone()), source })
}

fn destination(step: &Step, to: IpNet) -> Result<RouteMessageBuilder<IpAddr>, LinkError> {
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to.network(), to.prefix_len());
    route.map_err(|e| not_an_address(step, &e))
}

fn not_an_address(step: &Step, error: &impl ToString) -> LinkError {
    LinkError::Io { step: Box::new(step.clone()), source: io::Error::other(error.to_string()) }
}

async fn index(handle: &Handle, name: &str, step: &Step) -> Result<u32, LinkError> {
    let mut found = handle.link().get().match_name(name.to_owned()).execute();
    match found.try_next().await {
        Ok(Some(link)) => Ok(link.header.index),
        Ok(None) => Err(LinkError::NoSuchLink { step: Box::new(step.clone()) }),
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -nix::libc::ENODEV => {
            Err(LinkError::NoSuchLink { step: Box::new(step.clone()) })
        }
        Err(source) => Err(refused(step, source)),
    }
}

fn refused(step: &Step, source: rtnetlink::Error) -> LinkError {
    let unsupported = matches!(&source, rtnetlink::Error::NetlinkError(e)
        if e.raw_code() == -nix::libc::EOPNOTSUPP);
    match step {
        Step::Bridge { .. } if unsupported => {
            LinkError::NoKernelSupport { what: "bridges", option: "CONFIG_BRIDGE" }
        }
        Step::Veth { .. } if unsupported => {
            LinkError::NoKernelSupport { what: "virtual links", option: "CONFIG_VETH" }
        }
        _ => LinkError::Netlink { step: Box::new(step.clone()), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_namespaces_joined_by_a_pair_of_links_reach_each_other_in_both_families() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        space::make(&a).expect("network namespaces need root: run the tests with sudo");
        space::make(&b).unwrap();
        let named = |s: &str| s.to_owned();
        let near = [
            Step::Up { link: named("lo") },
            Step::Veth { name: named("to-b"), peer: named("eth0"), peer_space: b.clone() },
            Step::Bridge { name: named("br"), address: [2, 0, 0, 0, 0, 1] },
            Step::Join { link: named("to-b"), bridge: named("br") },
            Step::Address { link: named("br"), net: "10.9.9.1/24".parse().unwrap() },
            Step::Address { link: named("br"), net: "fd00:9::1/64".parse().unwrap() },
        ];
        furnish(&a, &near).unwrap();
        let far = [
            Step::Up { link: named("eth0") },
            Step::Address { link: named("eth0"), net: "10.9.9.2/24".parse().unwrap() },
            Step::Address { link: named("eth0"), net: "fd00:9::2/64".parse().unwrap() },
            Step::Route { to: "0.0.0.0/0".parse().unwrap(), via: "10.9.9.1".parse().unwrap() },
            Step::Route { to: "::/0".parse().unwrap(), via: "fd00:9::1".parse().unwrap() },
        ];
        furnish(&b, &far).unwrap();
        for address in ["10.9.9.1:0", "[fd00:9::1]:0"] {
            let listener = space::within(&a, || std::net::TcpListener::bind(address).unwrap()).unwrap();
            let to = listener.local_addr().unwrap();
            space::within(&b, || std::net::TcpStream::connect(to).unwrap()).unwrap();
        }
        furnish(&a, &[Step::Gone { link: named("to-b") }, Step::Gone { link: named("to-b") }]).unwrap();
        space::remove(&a).unwrap();
        space::remove(&b).unwrap();
    }

    #[test]
    fn a_step_that_names_an_unknown_link_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let pin = dir.path().join("a");
        space::make(&pin).expect("network namespaces need root: run the tests with sudo");
        let failed = furnish(&pin, &[Step::Up { link: "none".to_owned() }]);
        assert!(matches!(failed, Err(LinkError::NoSuchLink { .. })), "{failed:?}");
        space::remove(&pin).unwrap();
    }

    #[test]
    fn a_bridge_keeps_its_address_when_ports_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        space::make(&a).expect("network namespaces need root: run the tests with sudo");
        space::make(&b).unwrap();
        let named = |s: &str| s.to_owned();
        let bridge = Step::Bridge { name: named("br"), address: [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff] };
        furnish(&a, &[bridge]).unwrap();
        for link in ["v1", "v2", "v3"] {
            let veth = Step::Veth { name: named(link), peer: named(link), peer_space: b.clone() };
            furnish(&a, &[veth, Step::Join { link: named(link), bridge: named("br") }]).unwrap();
        }
        let found = space::within(&a, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                let look = async {
                    let links = handle.link().get().match_name(named("br")).execute();
                    let link = std::pin::pin!(links).try_next().await.unwrap().unwrap();
                    link.attributes.into_iter().find_map(|a| match a {
                        rtnetlink::packet_route::link::LinkAttribute::Address(address) => Some(address),
                        _ => None,
                    })
                };
                tokio::select! { () = connection => None, found = look => found }
            })
        });
        assert_eq!(found.unwrap(), Some(vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]));
        space::remove(&a).unwrap();
        space::remove(&b).unwrap();
    }
}
