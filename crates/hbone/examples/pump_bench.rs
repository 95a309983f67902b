//! What a tunnel costs: CPU per request, throughput, memory per idle stream. Two proxies on a thread each,
//! the applications on a third, everything over loopback in one process.
//! `cargo run -p ambit-hbone --release --example pump_bench`

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
use ambit_tls::configs::Accepting;
use ambit_tls::credential::{Credential, Material, Terms};
use ambit_tls::issue::{IssueError, Issuer};
use ambit_tls::vault::Vault;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CONNECTIONS: usize = 16;
const REQUESTS: u32 = 4000;
const MESSAGE: usize = 1024;
const BULK: usize = 1 << 30;
const IDLE: usize = 1000;
const ECHO_BUFFER: usize = 16 * 1024;
const NEAR: &str = "bench-0";
const FAR: &str = "bench-1";

/// Signs any identity.
struct Signer(CertifiedIssuer<'static, KeyPair>);

impl Issuer for Signer {
    async fn issue(&self, identity: &Identity) -> Result<Credential, IssueError> {
        let key = KeyPair::generate().map_err(IssueError::Request)?;
        let mut params = CertificateParams::default();
        let name = identity.to_string().try_into().map_err(IssueError::Request)?;
        params.subject_alt_names = vec![SanType::URI(name)];
        let leaf = params.signed_by(&key, &self.0).map_err(IssueError::Request)?.pem();
        let (key, root) = (key.serialize_pem(), self.0.pem());
        let material = Material::from_pem(leaf.as_bytes(), key.as_bytes(), root.as_bytes())?;
        Ok(Credential::new(material, &Terms::default())?)
    }
    async fn changed(&self) {
        std::future::pending().await
    }
}

/// The far proxy: accepts tunnels, and connects each stream to `target`.
async fn far(tls: Accepting, target: SocketAddr, tell: oneshot::Sender<SocketAddr>) -> Fallible<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tell.send(listener.local_addr()?).unwrap_or_default();
    let stop = Stop::new();
    let mut tunnels = Tasks::new(&stop);
    loop {
        let accepted = accept(listener.accept().await?.0, tls.clone(), Windows::default()).await?;
        tunnels.spawn("tunnel", |stop| async move {
            let mut streams = Tasks::new(&stop);
            let take = |arrival: Arrival| {
                streams.spawn("stream", |_| async move {
                    let _ = answer(arrival, target).await;
                });
            };
            accepted.serve(stop, take).await;
        });
    }
}

async fn answer(arrival: Arrival, target: SocketAddr) -> Fallible<()> {
    let app = TcpStream::connect(target).await?;
    app.set_nodelay(true)?;
    let stream = arrival.open(&Opened::default())?;
    pump::tunnel(app, stream, &Count::default(), std::future::pending()).await;
    Ok(())
}

/// The near proxy: carries each accepted connection through the pool.
async fn near(vault: Vault, key: Key, tell: oneshot::Sender<SocketAddr>) -> Fallible<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tell.send(listener.local_addr()?).unwrap_or_default();
    let stop = Stop::new();
    let pool = Arc::new(Pool::new(vault, PoolSettings::default(), &stop));
    let mut streams = Tasks::new(&stop);
    loop {
        let (app, _) = listener.accept().await?;
        app.set_nodelay(true)?;
        let (pool, key) = (Arc::clone(&pool), key.clone());
        streams.spawn("stream", |_| async move {
            let _ = carry(app, &pool, &key).await;
        });
    }
}

async fn carry(app: TcpStream, pool: &Pool, key: &Key) -> Fallible<()> {
    let head = Connect {
        authority: Authority::Address(key.hop.socket()),
        baggage: Baggage::default(),
        forwarded: None,
        trace: None,
        network: None,
        for_stranger: false,
    };
    let hop = key.hop.socket();
    let connect = move || async move {
        let tcp = TcpStream::connect(hop).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    };
    let carried = pool.open(key, &head, connect).await?;
    pump::tunnel(app, carried.stream, &Count::default(), std::future::pending()).await;
    Ok(())
}

/// Sends back what it gets, message by message.
async fn echo(listener: TcpListener) -> Fallible<()> {
    let mut open = Tasks::new(&Stop::new());
    loop {
        let (mut tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        open.spawn("echo", |_| async move {
            let mut buffer = vec![1; ECHO_BUFFER]; // touched, so that it counts in full
            while let Ok(bytes @ 1..) = tcp.read(&mut buffer).await {
                if tcp.write_all(buffer.get(..bytes).unwrap_or_default()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// CPU time of the thread of that name, as the scheduler counts it.
fn cpu(thread: &str) -> Fallible<Duration> {
    for entry in std::fs::read_dir("/proc/self/task")? {
        let task = entry?.path();
        if std::fs::read_to_string(task.join("comm"))?.trim() == thread {
            let stat = std::fs::read_to_string(task.join("schedstat"))?;
            return Ok(Duration::from_nanos(stat.split(' ').next().unwrap_or_default().parse()?));
        }
    }
    Err("no such thread".into())
}

/// The process's resident memory.
fn rss_kib() -> Fallible<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u32 = statm.split(' ').nth(1).ok_or("statm")?.parse()?;
    Ok(f64::from(pages) * 4.0)
}

async fn talk(entry: SocketAddr, requests: u32) -> Fallible<()> {
    let mut tcp = TcpStream::connect(entry).await?;
    tcp.set_nodelay(true)?;
    let (message, mut answer) = ([7; MESSAGE], [0; MESSAGE]);
    for _ in 0..requests {
        tcp.write_all(&message).await?;
        tcp.read_exact(&mut answer).await?;
    }
    Ok(())
}

async fn requests(entry: SocketAddr) -> Fallible<()> {
    talk(entry, 100).await?; // the tunnel is up
    let (near, far, began) = (cpu(NEAR)?, cpu(FAR)?, Instant::now());
    let talks = (0..CONNECTIONS).map(|_| talk(entry, REQUESTS));
    for done in futures_util::future::join_all(talks).await {
        done?;
    }
    let took = began.elapsed();
    let count = f64::from(REQUESTS) * f64::from(u32::try_from(CONNECTIONS)?);
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / count;
    let (near, far) = (each(cpu(NEAR)? - near), each(cpu(FAR)? - far));
    println!(
        "requests  {CONNECTIONS} connections, {MESSAGE} B each way: {:.0}/s",
        count / took.as_secs_f64()
    );
    println!("          CPU per request: near {near:.1} us, far {far:.1} us, both {:.1} us", near + far);
    Ok(())
}

async fn bulk(entry: SocketAddr) -> Fallible<()> {
    let (mut read, mut write) = TcpStream::connect(entry).await?.into_split();
    let (near, far, began) = (cpu(NEAR)?, cpu(FAR)?, Instant::now());
    let send = async {
        let chunk = vec![7; 256 * 1024];
        for _ in 0..BULK / chunk.len() {
            write.write_all(&chunk).await?;
        }
        write.shutdown().await
    };
    let mut nowhere = tokio::io::sink();
    let receive = tokio::io::copy(&mut read, &mut nowhere);
    let (sent, received) = tokio::join!(send, receive);
    sent?;
    let mib = f64::from(u32::try_from(received? >> 20)?) * 2.0;
    let (near, far) = (cpu(NEAR)? - near, cpu(FAR)? - far);
    println!("bulk      {:.0} MiB/s, both ways together", mib / began.elapsed().as_secs_f64());
    let per_gib = |spent: Duration| spent.as_secs_f64() / (mib / 1024.0);
    println!("          CPU per GiB: near {:.2} s, far {:.2} s", per_gib(near), per_gib(far));
    Ok(())
}

async fn idle(entry: SocketAddr) -> Fallible<()> {
    talk(entry, 1).await?;
    let before = rss_kib()?;
    let mut open = Vec::new();
    for _ in 0..IDLE {
        let mut tcp = TcpStream::connect(entry).await?;
        tcp.write_all(&[7; MESSAGE]).await?;
        tcp.read_exact(&mut [0; MESSAGE]).await?;
        open.push(tcp);
    }
    let echo = f64::from(u32::try_from(ECHO_BUFFER / 1024)?);
    let grown = (rss_kib()? - before) / f64::from(u32::try_from(IDLE)?) - echo;
    println!(
        "memory    {IDLE} idle streams: {grown:.1} KiB each, both proxies, their tunnels and the client's end"
    );
    Ok(())
}

async fn measure(runtimes: &Runtimes) -> Fallible<()> {
    let mut tasks = Tasks::new(&Stop::new());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signer = Signer(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?);
    let (vault, driver) = Vault::new(signer, ambit_process::clock::now_system);
    tasks.spawn("vault", |stop| async move { driver.run(stop.stopped()).await });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = listener.local_addr()?;
    tasks.spawn("apps", |_| async move { drop(echo(listener).await) });

    let [near_thread, far_thread] = runtimes.traffic() else { return Err("two threads".into()) };
    let db: Identity = "spiffe://cluster.local/ns/shop/sa/db".parse()?;
    let tls = vault.fetch(&db, Duration::from_secs(5)).await?.accepting();
    let (tell, told) = oneshot::channel();
    tasks.spawn_on(far_thread, "far", move |_| async move { drop(far(tls, target, tell).await) });
    let hop = HopAddr::new(told.await?);
    let source = "spiffe://cluster.local/ns/shop/sa/web".parse()?;
    let key = Key { source, source_ip: None, hop, expect: Arc::from([db]) };
    let (tell, told) = oneshot::channel();
    tasks.spawn_on(near_thread, "near", move |_| async move { drop(near(vault, key, tell).await) });
    let entry = told.await?;

    requests(entry).await?;
    idle(entry).await?;
    bulk(entry).await
}

fn main() -> Fallible<()> {
    let runtimes = Runtimes::start("bench", 2)?;
    runtimes.run(measure(&runtimes))
}
