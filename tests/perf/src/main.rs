//! `cargo xtask perf` and `scale`: entry and arguments; `bench` and `scale` do the work.

use ambit_perf::{bench, load, scale, server, upload, waypoint};
use clap::{Parser, Subcommand};

/// What two ztunnels cost per request, in memory and in latency, beside no proxy at all.
#[derive(Parser)]
struct Perf {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    bench: bench::Arguments,
}

#[derive(Subcommand)]
enum Role {
    /// A control plane beside a large cluster (`cargo xtask scale`).
    Scale(scale::Arguments),
    /// A waypoint between two ztunnels, beside none and beside a peer.
    Waypoint(waypoint::Arguments),
    /// Answer requests, send them, or send a large body: started by measurements themselves.
    #[command(hide = true)]
    Serve(server::Arguments),
    #[command(hide = true)]
    Load(load::Arguments),
    #[command(hide = true)]
    Upload(upload::Arguments),
}

fn main() -> anyhow::Result<()> {
    let Perf { role, bench } = Perf::parse();
    match role {
        None => bench::run(&bench),
        Some(Role::Scale(scale)) => scale::run(&scale),
        Some(Role::Waypoint(waypoint)) => waypoint::run(&waypoint),
        Some(Role::Serve(serve)) => server::run(&serve),
        Some(Role::Load(load)) => load::run(&load),
        Some(Role::Upload(upload)) => upload::run(&upload),
    }
}
