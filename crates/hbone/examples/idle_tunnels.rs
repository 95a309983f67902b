//! What an idle tunnel keeps in memory, at each end: the ends are processes of their own, each tunnel has carried a
//! few messages and carries nothing now. Then all are closed, and what is left is told, too.
//! `cargo run -p ambit-hbone --release --example idle_tunnels [COUNT]`

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ambit_hbone::Windows;
use ambit_hbone::accept::{Arrival, accept};
use ambit_hbone::head::{Baggage, Connect, Opened};
use ambit_hbone::pool::{Key, Pool, PoolSettings};
use ambit_hbone::pump::{self, Count};
use ambit_model::address::{Authority, HopAddr};
use ambit_model::name::Identity;
use ambit_process::net::{TcpListener, TcpStream};
use ambit_process::start::Runtimes;
use ambit_process::stop::Stop;
use ambit_process::tasks::Tasks;
use ambit_tls::credential::{Credential, Material, Terms};
use ambit_tls::issue::{IssueError, Issuer};
use ambit_tls::vault::Vault;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const COUNT: u16 = 1000;
/// Tunnels that are dialled at once.
const AT_ONCE: usize = 8;
const MESSAGES: u32 = 5;
const MESSAGE: usize = 1024;
const NEAR: &str = "spiffe://cluster.local/ns/shop/sa/web";
const FAR: &str = "spiffe://cluster.local/ns/shop/sa/db";

/// Chain, key and root, one PEM text after the other.
#[derive(Clone)]
struct Given([String; 3]);

impl Given {
    fn new(identity: &str, by: &CertifiedIssuer<'static, KeyPair>) -> Fallible<Self> {
        let (key, mut params) = (KeyPair::generate()?, CertificateParams::default());
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        Ok(Self([params.signed_by(&key, by)?.pem(), key.serialize_pem(), by.pem()]))
    }

    fn vault(self, tasks: &mut Tasks) -> Vault {
        let (vault, driver) = Vault::new(self, ambit_process::clock::now_system);
        tasks.spawn("vault", |stop| async move { driver.run(stop.stopped()).await });
        vault
    }
}

impl Issuer for Given {
    async fn issue(&self, _: &Identity) -> Result<Credential, IssueError> {
        let [chain, key, root] = &self.0;
        let material = Material::from_pem(chain.as_bytes(), key.as_bytes(), root.as_bytes())?;
        Ok(Credential::new(material, &Terms::default())?)
    }
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// The far end: accepts tunnels, and sends back what comes in their streams.
async fn far(runtimes: &Runtimes) -> Fallible<()> {
    let mut parts = <[String; 3]>::default();
    let mut lines = std::io::stdin().lock().lines();
    for part in &mut parts {
        for line in lines.by_ref() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            part.push_str(&line);
            part.push('\n');
        }
    }
    let mut tasks = Tasks::new(&Stop::new());
    let tls = Given(parts).vault(&mut tasks).fetch(&FAR.parse()?, Duration::from_secs(5)).await?.accepting();
    let [thread] = runtimes.traffic() else { return Err("one thread".into()) };
    let listener = thread.enter(|| {
        let bound = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        bound.set_nonblocking(true)?;
        TcpListener::from_std(bound)
    })?;
    println!("{}", listener.local_addr()?.port());
    let echoes = thread.enter(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let target = echoes.local_addr()?;
    std::thread::spawn(move || echoes.incoming().flatten().for_each(echo));
    tasks.spawn_on(thread, "far", move |stop| async move {
        let mut tunnels = Tasks::new(&stop);
        while let Ok((tcp, _)) = listener.accept().await {
            let tls = tls.clone();
            tunnels.spawn("tunnel", move |stop| async move {
                let Ok(accepted) = accept(tcp, tls, Windows::default()).await else { return };
                let mut streams = Tasks::new(&stop);
                let take = |arrival: Arrival| {
                    streams.spawn("stream", move |_| async move { drop(answer(arrival, target).await) });
                };
                Box::pin(accepted.serve(stop, take)).await;
            });
        }
    });
    // Ends with the process.
    while tasks.one_ended().await {}
    Ok(())
}

fn echo(mut stream: std::net::TcpStream) {
    let mut message = [0; MESSAGE];
    while std::io::Read::read_exact(&mut stream, &mut message).is_ok() {
        if stream.write_all(&message).is_err() {
            return;
        }
    }
}

async fn answer(arrival: Arrival, target: SocketAddr) -> Fallible<()> {
    let app = TcpStream::connect(target).await?;
    let stream = arrival.open(&Opened::default())?;
    pump::tunnel(app, stream, &Count::default(), std::future::pending()).await;
    Ok(())
}

/// Opens a stream to `hop`, which dials a tunnel, talks a little and closes the stream.
async fn talk(pool: Arc<Pool>, hop: SocketAddr) -> Fallible<()> {
    let (source, expect) = (NEAR.parse()?, Arc::from([FAR.parse()?]));
    let key = Key { source, source_ip: None, hop: HopAddr::new(hop), expect };
    let authority = Authority::Address(hop);
    let head = Connect {
        authority,
        baggage: Baggage::default(),
        forwarded: None,
        trace: None,
        network: None,
        for_stranger: false,
    };
    let carried = pool.open(&key, &head, move || TcpStream::connect(hop)).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut client = TcpStream::connect(listener.local_addr()?).await?;
    let (app, _) = listener.accept().await?;
    let says = async {
        for _ in 0..MESSAGES {
            client.write_all(&[7; MESSAGE]).await?;
            client.read_exact(&mut [0; MESSAGE]).await?;
        }
        client.shutdown().await?;
        client.read(&mut [0]).await
    };
    let count = Count::default();
    let (_, said) = tokio::join!(pump::tunnel(app, carried.stream, &count, std::future::pending()), says);
    said?;
    Ok(())
}

/// Resident memory in bytes, anonymous only.
fn anonymous(process: u32) -> Fallible<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon")).ok_or("no RssAnon")?;
    let kib: u32 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(f64::from(kib) * 1024.0)
}

fn start_far(given: &Given) -> Fallible<(Child, u16)> {
    let mut far = Command::new(std::env::current_exe()?)
        .arg("far")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    far.stdin.take().ok_or("no input")?.write_all(format!("{}\n", given.0.join("\n")).as_bytes())?;
    let mut port = String::new();
    BufReader::new(far.stdout.take().ok_or("no output")?).read_line(&mut port)?;
    Ok((far, port.trim().parse()?))
}

async fn near(runtimes: &Runtimes, count: u16) -> Fallible<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let (mut far, port) = start_far(&Given::new(FAR, &authority)?)?;
    let measured = measure(runtimes, (count, port), Given::new(NEAR, &authority)?, far.id()).await;
    far.kill()?;
    far.wait()?;
    measured
}

async fn measure(runtimes: &Runtimes, (count, port): (u16, u16), given: Given, far: u32) -> Fallible<()> {
    let mut tasks = Tasks::new(&Stop::new());
    let settings = PoolSettings { tunnels: usize::from(count) + 1, ..PoolSettings::default() };
    let pool = Arc::new(Pool::new(given.vault(&mut tasks), settings, &Stop::new()));
    let [thread] = runtimes.traffic() else { return Err("one thread".into()) };
    let both = || Fallible::Ok([anonymous(std::process::id())?, anonymous(far)?]);
    let told = |what: &str, [near, far]: [f64; 2], per: f64| {
        println!("{what:<34} dialling end {:8.1} KiB, accepting end {:8.1} KiB", near / per, far / per);
    };
    let mut before = [0.0; 2];
    for (from, to) in [(0, 1), (1, count)] {
        let mut talks = Tasks::new(&Stop::new());
        for number in from..to {
            let [high, low] = number.to_be_bytes();
            let hop = SocketAddr::from(([127, 1, high, low], port));
            let pool = Arc::clone(&pool);
            talks.spawn_on(thread, "talk", move |_| async move {
                if let Err(error) = talk(pool, hop).await {
                    eprintln!("{hop}: {error}");
                }
            });
            while talks.len() >= AT_ONCE {
                talks.one_ended().await;
            }
        }
        while talks.one_ended().await {}
        if from == 0 {
            before = both()?;
            told("with one tunnel, in all", before, 1024.0);
        }
    }
    let [near, far] = both()?;
    println!("{} tunnels are open", pool.tunnels());
    let grown = [near - before[0], far - before[1]];
    told("with all, in all", [near, far], 1024.0);
    told("an idle tunnel", grown, 1024.0 * f64::from(count - 1));
    let pool = Arc::into_inner(pool).ok_or("the pool is in use")?;
    pool.drain(Duration::from_secs(10)).await;
    told("with none, in all", both()?, 1024.0);
    Ok(())
}

fn main() -> Fallible<()> {
    let runtimes = Runtimes::start("bench", 1)?;
    match std::env::args().nth(1).as_deref() {
        Some("far") => runtimes.run(far(&runtimes)),
        Some(count) => runtimes.run(near(&runtimes, count.parse()?)),
        None => runtimes.run(near(&runtimes, COUNT)),
    }
}
