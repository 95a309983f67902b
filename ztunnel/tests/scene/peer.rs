//! A peer of our own making: a tunnel to the server's proxy that asks for whatever a test wants.

use std::path::PathBuf;
use std::time::Duration;

use ambit_hbone::head::{Baggage, Connect};
use ambit_hbone::pool::{Key, OpenError, Pool, PoolSettings};
use ambit_model::address::HopAddr;
use ambit_process::clock;
use ambit_process::net::TcpStream;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::credential::Terms;
use ambit_tls::issue::Directory;
use ambit_tls::vault::Vault;

/// The status that answers a CONNECT for `target`.
pub(crate) async fn ask(identity: PathBuf, target: &str, for_stranger: bool) -> u16 {
    let directory = Directory::new(identity, Terms::default());
    let source = directory.identity().unwrap();
    let (vault, driver) = Vault::new(directory, clock::now_system);
    let mut tasks = Tasks::new(&Stop::new());
    tasks.spawn("certificates", |stop| async move { driver.run(stop.stopped()).await });
    let pool = Pool::new(vault, PoolSettings::default(), &Stop::new());
    let hop = HopAddr::new("10.77.0.2:15008".parse().unwrap());
    let server = "spiffe://cluster.local/ns/shop/sa/server".parse().unwrap();
    let key = Key { source, source_ip: None, hop, expect: [server].into() };
    let head = Connect {
        authority: target.parse().unwrap(),
        baggage: Baggage::default(),
        forwarded: None,
        trace: None,
        network: None,
        for_stranger,
    };
    let answer = pool.open(&key, &head, || TcpStream::connect(hop.socket())).await;
    tasks.drain(Duration::from_secs(1)).await;
    match answer {
        Ok(_) => 200,
        Err(OpenError::Refused { status }) => status.as_u16(),
        Err(error) => panic!("{error:?}"),
    }
}
