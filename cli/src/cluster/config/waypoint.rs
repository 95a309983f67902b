//! `ambit waypoint-config`: what a waypoint knows: in the same tables as what a ztunnel knows, and in `requests`' what
//! only waypoints are told. Owns finding a replica of it that is ready, or a file; of services only those are shown that
//! go through it, unless all are asked for.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use ambit_cluster::kinds::waypoint::PART_OF;
use ambit_process::clock;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::Value;

use super::{Filters, Page, fetch as dumps, handled, requests};
use crate::args::fail;
use crate::cluster::dump::{Dump, text, texts};
use crate::cluster::parts::{ADMIN_PORT, Part, fetch, parts};
use crate::cluster::{Which, block_on};
use crate::output::{Output, render};
use crate::table::Table;
use crate::why::DUMP;

/// What `ambit waypoint-config` is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaypointConfigArgs {
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// The whole dump, as it comes.
    All(Asked),
    /// Workloads that are known.
    #[command(visible_aliases = ["workloads", "w"])]
    Workload(Asked),
    /// Services that go through it, and how many of their ends are well.
    #[command(visible_aliases = ["services", "svc", "clusters"])]
    Service(ServiceArgs),
    /// Routes of requests, rule by rule.
    #[command(visible_aliases = ["routes", "r"])]
    Route(Asked),
    /// Policies that are known, of requests and of connections.
    #[command(visible_aliases = ["policies", "pol", "p"])]
    Policy(Asked),
    /// Whose tokens are believed about who asks.
    #[command(visible_aliases = ["authentications", "authn"])]
    Authentication(Asked),
    /// How services' traffic is handled, as DestinationRules say.
    #[command(visible_aliases = ["destination", "destinations"])]
    Traffic(Asked),
    /// Who else is asked or told about requests, of the mesh's configuration.
    #[command(visible_aliases = ["providers"])]
    Provider(Asked),
    /// Certificates that it holds.
    #[command(visible_aliases = ["certificates", "certs", "cert"])]
    Certificate(Asked),
}

/// Which waypoint, and how to print it.
#[derive(Debug, Clone, Args)]
struct Asked {
    /// The waypoint.
    #[arg(default_value = "waypoint")]
    name: String,
    /// The namespace; else that of the kubeconfig's context.
    #[arg(short, long)]
    namespace: Option<String>,
    /// A waypoint's dump in a file, or - for standard input, instead of a waypoint.
    #[arg(short, long, value_name = "FILE", conflicts_with = "namespace")]
    file: Option<PathBuf>,
    /// How to print it.
    #[arg(short = 'o', long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Args)]
struct ServiceArgs {
    #[command(flatten)]
    asked: Asked,
    /// Also those that do not go through it.
    #[arg(short, long)]
    all: bool,
}

/// Does what was asked.
pub(crate) fn run(args: &WaypointConfigArgs) -> ExitCode {
    let shown = match &args.what {
        What::All(asked) => dump(&args.which, asked).and_then(|dump| {
            let output = if asked.output == Output::Text { Output::Json } else { asked.output };
            render(dump.whole(), output, |_| String::new())
        }),
        What::Workload(asked) => page(&args.which, asked, Page::Workloads),
        What::Route(asked) => of_requests(&args.which, asked, "routes", |dump| {
            (dump.list("routes").to_vec(), requests::route_table)
        }),
        What::Policy(asked) => of_requests(&args.which, asked, "requestPolicies", |dump| {
            (requests::policies(dump), requests::policy_table)
        }),
        What::Authentication(asked) => of_requests(&args.which, asked, "authentications", |dump| {
            (dump.list("authentications").to_vec(), requests::authentication_table)
        }),
        What::Traffic(asked) => of_requests(&args.which, asked, "traffic", |dump| {
            (dump.list("traffic").to_vec(), handled::traffic_table)
        }),
        What::Provider(asked) => of_requests(&args.which, asked, "providers", |dump| {
            (dump.list("providers").to_vec(), handled::provider_table)
        }),
        What::Certificate(asked) => page(&args.which, asked, Page::Certificates),
        What::Service(it) => dump(&args.which, &it.asked).and_then(|dump| {
            let services = Page::Services.items(&dump, &Filters::default());
            let shown = if it.all { services } else { served(&dump, services) };
            show(&dump, &shown, (Page::Services, it.asked.output))
        }),
    };
    match shown {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(error.as_ref()),
    }
}

fn page(which: &Which, asked: &Asked, page: Page) -> Result<String, Box<dyn Error>> {
    let dump = dump(which, asked)?;
    show(&dump, &page.items(&dump, &Filters::default()), (page, asked.output))
}

/// What only waypoints are told; a word of what is left out.
fn of_requests(
    which: &Which,
    asked: &Asked,
    key: &str,
    read: impl Fn(&Dump) -> (Vec<Value>, fn(&[Value]) -> Table),
) -> Result<String, Box<dyn Error>> {
    let dump = dump(which, asked)?;
    let (items, table) = read(&dump);
    let more = requests::left_out(&dump, key);
    if more > 0 {
        eprintln!("ambit: {more} more are not shown");
    }
    render(&items, asked.output, |items| table(items).text())
}

fn show(dump: &Dump, items: &[Value], (page, output): (Page, Output)) -> Result<String, Box<dyn Error>> {
    let now = Timestamp::try_from(clock::now_system())?;
    render(&items, output, |items| page.table(dump, items, now).text())
}

/// Those of the services that the waypoint says that it serves.
fn served(dump: &Dump, services: Vec<Value>) -> Vec<Value> {
    let is_served = |it: &Value| {
        let key = format!("{}/{}", text(it, "namespace"), text(it, "hostname"));
        texts(dump.whole(), "served").any(|one| one == key)
    };
    services.into_iter().filter(is_served).collect()
}

fn dump(which: &Which, asked: &Asked) -> Result<Dump, Box<dyn Error>> {
    if let Some(path) = &asked.file {
        return Ok(dumps::from_file(path)?.dump);
    }
    block_on(async {
        let client = which.client().await?;
        let namespace = asked.namespace.as_deref().unwrap_or_else(|| client.namespace());
        let all = parts(&client, namespace, &format!("{PART_OF}={}", asked.name)).await?;
        let part = one_of(&all, namespace, &asked.name)?;
        Ok(Dump::parse(&Box::pin(fetch(&client, part, ADMIN_PORT, DUMP)).await?)?)
    })
}

/// A replica that is ready.
fn one_of<'a>(all: &'a [Part], namespace: &str, name: &str) -> Result<&'a Part, String> {
    let full = format!("{namespace}/{name}");
    if all.is_empty() {
        return Err(format!(
            "no pod runs of waypoint {full}; `ambit waypoint list -A` shows which there are"
        ));
    }
    all.iter().find(|it| it.ready).ok_or_else(|| {
        format!("no pod of waypoint {full} is ready; `ambit waypoint status -n {namespace}` says more")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_services_that_go_through_it_are_shown() {
        let service =
            |name: &str| json!({"namespace": "shop", "name": name, "hostname": format!("{name}.shop.svc.x")});
        let whole = json!({"workloads": [], "policies": [], "certificates": [], "served": ["shop/web.shop.svc.x"],
                           "services": [service("web"), service("other")]});
        let dump = Dump::parse(&whole.to_string()).unwrap();
        let services = Page::Services.items(&dump, &Filters::default());
        assert_eq!(services.len(), 2);
        assert_eq!(served(&dump, services), [service("web")]);
    }

    #[test]
    fn a_replica_that_is_ready_is_asked_and_what_is_missing_is_said() {
        let part = |name: &str, ready| Part {
            namespace: "shop".into(),
            name: name.into(),
            node: String::new(),
            ready,
            version: String::new(),
            phase: String::new(),
            restarts: 0,
        };
        let all = [part("a", false), part("b", true)];
        assert_eq!(one_of(&all, "shop", "w").unwrap().name, "b");
        assert!(one_of(&[], "shop", "w").unwrap_err().contains("ambit waypoint list"));
        assert!(one_of(&all[..1], "shop", "w").unwrap_err().contains("ambit waypoint status"));
    }
}
