//! `ambit pod …`: the small programs that run inside demo and test pods, so that a pod needs nothing else.
//! A server that says who it is and whom it saw, and three clients. They know nothing of the mesh.

mod client;
mod load;
mod server;
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
    /// Ask again and again over new connections until standard input ends; report what failed and who answered.
    Load {
        /// What to ask for.
        url: Url,
        /// Stop after so many instead.
        #[arg(long)]
        times: Option<u64>,
        /// Pause between two requests.
        #[arg(long, default_value = "20", value_parser = millis)]
        every_ms: Duration,
    },
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
        PodCommand::Load { url, times, every_ms } => load::load(&url, every_ms, times),
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
    client::fetch(url, client::Family::Any, limit)
}

fn fetch(args: &FetchArgs) -> Result<(), String> {
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => client::Family::V4,
        (_, true) => client::Family::V6,
        _ => client::Family::Any,
    };
    let answer = client::fetch(&args.url, family, args.timeout_ms).map_err(|e| e.to_string())?;
    print!("{}", answer.body);
    if answer.status < 400 { Ok(()) } else { Err(format!("status {}", answer.status)) }
}
