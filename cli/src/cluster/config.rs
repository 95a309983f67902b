//! `ambit ztunnel-config`: what the node proxies of a cluster know and carry, in the tables of `istioctl`.
//! Owns what can be asked. What is shown is in `tables`, whose dump it is in `fetch`, levels of logs in `levels`.

mod fetch;
mod handled;
mod levels;
mod requests;
mod tables;
mod waypoint;

use std::error::Error;
use std::net::IpAddr;
use std::process::ExitCode;

use ambit_process::clock;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use self::fetch::{Asked, Whose};
use self::levels::LogArgs;
pub(crate) use self::waypoint::{WaypointConfigArgs, run as run_of_waypoint};
use super::dump::Dump;
use super::{Which, block_on};
use crate::args::fail;
use crate::output::{Output, render};
use crate::table::Table;

/// What `ambit ztunnel-config` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Everything: all tables, or the whole dump.
    All(AllArgs),
    /// Workloads that are known.
    #[command(visible_aliases = ["workloads", "w"])]
    Workload(WorkloadArgs),
    /// Services that are known, and how many of their ends are well.
    #[command(visible_aliases = ["services", "svc", "s"])]
    Service(ServiceArgs),
    /// Policies that are known.
    #[command(visible_aliases = ["policies", "pol", "p"])]
    Policy(PolicyArgs),
    /// Certificates that are held.
    #[command(visible_aliases = ["certificates", "certs", "cert"])]
    Certificate(Common),
    /// Connections that are open.
    #[command(visible_alias = "cons")]
    Connections(ConnectionArgs),
    /// Levels of logs: shows or sets them.
    #[command(visible_alias = "o")]
    Log(LogArgs),
}

/// Whose dump is meant, and how it is printed.
#[derive(Debug, Clone, Args)]
struct Common {
    #[command(flatten)]
    whose: Whose,
    /// How to print it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Args)]
struct AllArgs {
    #[command(flatten)]
    common: Common,
    /// Each table after a line that says what it is.
    #[arg(long)]
    with_headers: bool,
}

#[derive(Debug, Clone, Args)]
struct WorkloadArgs {
    #[command(flatten)]
    common: Common,
    /// Only those with this address.
    #[arg(long)]
    address: Option<IpAddr>,
    /// Only those of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    workload_namespace: Option<String>,
    /// Only those on this node.
    #[arg(long, value_name = "NODE")]
    workload_node: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct ServiceArgs {
    #[command(flatten)]
    common: Common,
    /// Only those of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    service_namespace: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct PolicyArgs {
    #[command(flatten)]
    common: Common,
    /// Only those of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    policy_namespace: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct ConnectionArgs {
    #[command(flatten)]
    common: Common,
    /// Only those that came in, or went out.
    #[arg(long)]
    direction: Option<Direction>,
    /// Addresses as they are, without names.
    #[arg(long)]
    raw: bool,
    /// Only those of pods of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    workload_namespace: Option<String>,
}

/// Which way a connection went, seen from its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
pub(super) enum Direction {
    /// To the pod.
    Inbound,
    /// From it.
    Outbound,
}

/// What is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filters {
    namespace: Option<String>,
    node: Option<String>,
    address: Option<IpAddr>,
    direction: Option<Direction>,
    /// Namespace and name.
    pod: Option<(String, String)>,
}

/// A part of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Workloads,
    Services,
    Policies,
    Certificates,
    Connections { raw: bool },
}

impl Page {
    /// All of them, with what is printed above each.
    const ALL: [(Self, &str); 5] = [
        (Self::Workloads, "Workloads"),
        (Self::Services, "Services"),
        (Self::Policies, "Policies"),
        (Self::Certificates, "Certificates"),
        (Self::Connections { raw: false }, "Connections"),
    ];

    /// What is shown of it, as it stands in the dump.
    fn items(self, dump: &Dump, by: &Filters) -> Vec<Value> {
        match self {
            Self::Workloads => tables::workloads(dump, by),
            Self::Services => tables::services(dump, by),
            Self::Policies => tables::policies(dump, by),
            Self::Certificates => tables::certificates(dump, by),
            Self::Connections { .. } => tables::connections(dump, by),
        }
    }

    fn table(self, dump: &Dump, items: &[Value], now: Timestamp) -> Table {
        match self {
            Self::Workloads => tables::workload_table(dump, items),
            Self::Services => tables::service_table(dump, items),
            Self::Policies => tables::policy_table(items),
            Self::Certificates => tables::certificate_table(items, now),
            Self::Connections { raw } => tables::connection_table(dump, items, raw),
        }
    }

    /// What each node knows for itself; of everything else they know the same.
    fn is_each_nodes_own(self) -> bool {
        matches!(self, Self::Certificates | Self::Connections { .. })
    }
}

/// Does what was asked.
pub(crate) fn run(args: &ConfigArgs) -> ExitCode {
    let which = &args.which;
    let shown = match &args.what {
        What::Log(log) => block_on(levels::run(which, log)),
        What::All(all) => everything(which, all),
        What::Workload(it) => {
            let (node, address) = (it.workload_node.clone(), it.address);
            let by =
                Filters { namespace: it.workload_namespace.clone(), node, address, ..Filters::default() };
            show(which, &it.common, Page::Workloads, &by)
        }
        What::Service(it) => {
            let by = Filters { namespace: it.service_namespace.clone(), ..Filters::default() };
            show(which, &it.common, Page::Services, &by)
        }
        What::Policy(it) => {
            let by = Filters { namespace: it.policy_namespace.clone(), ..Filters::default() };
            show(which, &it.common, Page::Policies, &by)
        }
        What::Certificate(common) => show(which, common, Page::Certificates, &Filters::default()),
        What::Connections(it) => {
            let (namespace, direction) = (it.workload_namespace.clone(), it.direction);
            let by = Filters { namespace, direction, ..Filters::default() };
            show(which, &it.common, Page::Connections { raw: it.raw }, &by)
        }
    };
    match shown {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(error.as_ref()),
    }
}

/// The dumps that are meant: a file's, the named proxy's, or, of what is each node's own, every node's.
fn ask(which: &Which, common: &Common, every: bool) -> Result<Vec<Asked>, Box<dyn Error>> {
    match &common.whose.file {
        Some(path) => Ok(vec![fetch::from_file(path)?]),
        None => block_on(fetch::from_cluster(which, &common.whose, every)),
    }
}

fn show(which: &Which, common: &Common, page: Page, by: &Filters) -> Result<String, Box<dyn Error>> {
    let asked = ask(which, common, page.is_each_nodes_own())?;
    let now = Timestamp::try_from(clock::now_system())?;
    let (mut all, mut text) = (Vec::new(), String::new());
    for one in &asked {
        let by = Filters { pod: one.pod.clone(), ..by.clone() };
        let items = page.items(&one.dump, &by);
        if let (Some(at), true) = (&one.at, asked.len() > 1) {
            text.push_str(&format!("{at}:\n"));
        }
        text.push_str(&page.table(&one.dump, &items, now).text());
        all.extend(items);
    }
    render(&all, common.output, |_| text)
}

fn everything(which: &Which, args: &AllArgs) -> Result<String, Box<dyn Error>> {
    let asked = ask(which, &args.common, false)?;
    let now = Timestamp::try_from(clock::now_system())?;
    let Some(one) = asked.first() else { return Ok(String::new()) };
    let by = Filters { pod: one.pod.clone(), ..Filters::default() };
    render(one.dump.whole(), args.common.output, |_| {
        let page = |(page, name): (Page, &str)| {
            let table = page.table(&one.dump, &page.items(&one.dump, &by), now).text();
            if args.with_headers { format!("{name}:\n{table}") } else { table }
        };
        Page::ALL.map(page).join("\n")
    })
}
