//! `ambit pod …`: the small programs that run inside demo and test pods, so that a pod needs nothing else.
//! A server that says who it is and whom it saw, and clients. They know nothing of the mesh.

mod client;
mod collector;
mod load;
mod server;
mod steady;
mod url;

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

pub(crate) use self::client::{Answer, FetchError};
pub(crate) use self::url::{Url, UrlError};

/// Programs for pods.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PodCommand {
    /// Answer HTTP requests with this pod's name and the client address it saw.
    Serve {
        /// Port to listen on, in both address families.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Status to answer with.
        #[arg(long, default_value_t = 200)]
        status: u16,
        /// Name to answer with.
        #[arg(long, env = "HOSTNAME", default_value = "pod")]
        name: String,
    },
    /// Fetch a URL and print the answer.
    Fetch(FetchArgs),
    /// Keep one connection open, ask over it again and again, and say at once when it ends.
    Hold {
        /// What to ask for.
        url: Url,
        /// Pause between two requests.
        #[arg(long, default_value = "200", value_parser = millis)]
        every_ms: Duration,
    },
    /// Ask again and again until standard input ends; report what failed and who answered.
    Load(LoadArgs),
    /// Collect spans that are told by OTLP over HTTP, and print a line for each.
    Collect {
        /// Port to listen on, in both address families.
        #[arg(long, default_value_t = 4318)]
        port: u16,
    },
}

/// What `ambit pod load` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LoadArgs {
    /// What to ask for.
    url: Url,
    /// Stop after so many instead.
    #[arg(long)]
    times: Option<u64>,
    /// Each over a new connection, one after the other, with this pause between two.
    #[arg(long, default_value = "20", value_parser = millis)]
    every_ms: Duration,
    /// So many a second instead, however long answers take, over connections that are kept.
    #[arg(long, conflicts_with = "every_ms", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    per_second: Option<u32>,
    /// How many connections are kept.
    #[arg(long, default_value_t = 16, requires = "per_second", value_parser = clap::value_parser!(u32).range(1..=512))]
    connections: u32,
}

/// What `ambit pod fetch` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FetchArgs {
    /// For example http://web.shop:8080/hello.
    url: Url,
    /// Use only IPv4.
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use only IPv6.
    #[arg(short = '6')]
    ipv6: bool,
    /// Give up after so long.
    #[arg(long, default_value = "3000", value_parser = millis)]
    timeout_ms: Duration,
    /// A header field to send, `NAME: VALUE`; may be given more than once.
    #[arg(short = 'H', long = "header", value_parser = header)]
    headers: Vec<String>,
}

/// A field that cannot be taken for the end of its line.
fn header(text: &str) -> Result<String, &'static str> {
    let is_name = |it: &str| !it.is_empty() && it.bytes().all(|c| c.is_ascii_graphic());
    match text.split_once(':') {
        Some((name, _)) if is_name(name) && !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err("a header field is NAME: VALUE, in one line"),
    }
}

fn millis(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

/// Runs one of them.
pub(crate) fn run(command: PodCommand) -> ExitCode {
    let done = match command {
        PodCommand::Serve { port, status, name } => {
            server::serve(port, status, &name).map_err(|e| e.to_string())
        }
        PodCommand::Fetch(args) => fetch(&args),
        PodCommand::Hold { url, every_ms } => client::hold(&url, every_ms).map_err(|e| e.to_string()),
        PodCommand::Load(args) => load(&args),
        PodCommand::Collect { port } => collector::collect(port).map_err(|e| e.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Asks once over a new connection.
pub(crate) fn get(url: &Url, limit: Duration) -> Result<Answer, FetchError> {
    client::fetch(client::Wanted { url, headers: &[] }, client::Family::Any, limit)
}

fn load(args: &LoadArgs) -> Result<(), String> {
    let end = load::End::after(args.times);
    match args.per_second {
        Some(per_second) => {
            steady::Steady { per_second, connections: args.connections }.load(&args.url, &end)
        }
        None => load::load(&args.url, args.every_ms, &end),
    }
}

fn fetch(args: &FetchArgs) -> Result<(), String> {
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => client::Family::V4,
        (_, true) => client::Family::V6,
        _ => client::Family::Any,
    };
    let wanted = client::Wanted { url: &args.url, headers: &args.headers };
    let answer = client::fetch(wanted, family, args.timeout_ms).map_err(|e| e.to_string())?;
    print!("{}", answer.body);
    if answer.status < 400 { Ok(()) } else { Err(format!("status {}", answer.status)) }
}
