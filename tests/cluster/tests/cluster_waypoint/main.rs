//! Waypoints in a cluster: the commands of docs/waypoints.md, done while a client asks all the while, and what that page
//! claims looked at from outside: shares, identities, and that nothing is lost while waypoints come, change and go.
//! Owns the story. What a waypoint does with a request is the waypoint's own tests'.

#![cfg(test)]

use std::path::Path;
use std::time::Duration;

use ambit_cluster_lab::mesh::{Reader, told};
use ambit_cluster_lab::{Channel, Lab, Load, Running};
use anyhow::{Context as _, Result, ensure};

const PAGE: &str = "waypoints.md";
const ALL_THE_WHILE: &str = "http://web.shop/all-the-while";
const PODS: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);
/// Requests a second over connections that are kept, and over new ones, one after the other.
const KEPT: u32 = 500;
const NEW: u32 = 20;
/// The part in a hundred of the former that there is at least. Programs that are built for tests have held all of it on
/// two cores that compiled meanwhile, but nobody knows what else a machine does: what counts is that nothing is lost.
const HELD: u64 = if cfg!(debug_assertions) { 20 } else { 95 };
/// Lines of one who asks that are shown where something was lost.
const WORDS: usize = 40;

#[test]
fn a_namespace_and_a_service_go_through_waypoints_and_nothing_is_lost_while_those_change() {
    told("waypoint", story).unwrap();
}

fn story(lab: &Lab) -> Result<()> {
    lab.import_programs()?;
    lab.install_gateway_api(Channel::Standard)?;
    lab.kubectl(&["apply", "-f", &sample("shop.yaml")])?;
    lab.install_mesh(&[])?;
    lab.enrol("shop")?;
    lab.pods_ready("shop", "app in (web, client)", PODS)?;
    for app in ["web", "client"] {
        lab.is_in("shop", &pod(lab, app)?)?;
    }
    let client = format!("shop/{}", pod(lab, "client")?);
    lab.wait("the first answer", SOON, || lab.fetch(&client, "http://web.shop/first"))?;
    let askers = Askers::begin(lab, &client)?;
    let reader = Reader::of(lab)?;
    reader.follow_section(PAGE, "A namespace goes through one")?;
    reader.follow_section(PAGE, "A canary")?;
    a_tenth_goes_to_the_canary(lab)?;
    routes_change(lab, &client)?;
    reader.follow_section(PAGE, "Who may ask for what")?;
    policies_change(lab, &client)?;
    reader.follow_section(PAGE, "It is replaced, and there are more of it")?;
    the_waypoint_is_who_asks(lab)?;
    let wrong = reader.follow("egress.md")?;
    ensure!(wrong.is_empty(), "not as egress.md says:\n{}", wrong.join("\n"));
    reader.follow_section(PAGE, "How its pods are")?;
    reader.follow_section(PAGE, "What runs as an account")?;
    reader.follow_section(PAGE, "One service alone")?;
    reader.follow_section(PAGE, "Away again")?;
    askers.end()
}

/// Those who ask all the while.
struct Askers {
    kept: Running,
    new: Running,
}

impl Askers {
    fn begin(lab: &Lab, client: &str) -> Result<Self> {
        let kept = lab.steady(client, ALL_THE_WHILE, KEPT)?;
        Ok(Self { kept, new: lab.load(client, ALL_THE_WHILE, NEW)? })
    }

    fn end(self) -> Result<()> {
        lost_nothing("over new connections", &self.new.finish()?)?;
        let kept = self.kept.finish()?;
        lost_nothing("over kept connections", &kept)?;
        let told = format!("{} a second, of {KEPT} that were to be", kept.rate());
        eprintln!("{told}; {} connections, {} requests sent again", kept.connections, kept.asked_again);
        ensure!(kept.rate() * 100 >= u64::from(KEPT) * HELD, "{told}");
        Ok(())
    }
}

/// At the application's node, the tunnel is the waypoint's; of one that was replaced it has ended, and is told of.
fn the_waypoint_is_who_asks(lab: &Lab) -> Result<()> {
    let wanted = "src.identity=\"spiffe://cluster.local/ns/shop/sa/waypoint\"";
    lab.wait("a connection of the waypoint's to web", SOON, || {
        let said = lab.kubectl(&["-n", "istio-system", "logs", "-l", "app=ztunnel", "--tail=-1"])?;
        let is_it = |line: &str| line.contains("inbound") && line.contains(wanted);
        ensure!(said.lines().any(is_it), "none in {} lines", said.lines().count());
        Ok(())
    })
}

/// A share of one in ten, of 600 or more requests: 30 less or more is further from it than chance ever leads.
fn a_tenth_goes_to_the_canary(lab: &Lab) -> Result<()> {
    lab.wait("600 requests since the canary's first", SOON, || {
        let said = lab.kubectl(&["-n", "shop", "logs", "deploy/waypoint", "--tail=4000"])?;
        let asked = said.lines().filter(|line| line.contains("/all-the-while"));
        let is_next = |line: &str| {
            let workload = line.split("destination_workload=").nth(1).unwrap_or_default();
            workload.trim_start_matches('"').starts_with("web-next")
        };
        let since: Vec<&str> = asked.skip_while(|line| !is_next(line)).collect();
        ensure!(since.len() >= 600, "{} requests", since.len());
        let next = since.iter().filter(|line| is_next(line)).count();
        let (least, most) = (since.len() / 20, since.len() / 6);
        // Nothing that comes later makes it right.
        Ok((next, since.len(), (least..=most).contains(&next)))
    })
    .and_then(|(next, all, is_fair)| {
        eprintln!("{next} of {all} requests went to the canary");
        ensure!(is_fair, "{next} of {all} requests went to the canary");
        Ok(())
    })
}

/// Shares are changed again and again, and the last holds: all requests go to the canary.
fn routes_change(lab: &Lab, client: &str) -> Result<()> {
    for weight in [80, 60, 40, 20, 0] {
        lab.kubectl(&["-n", "shop", "patch", "httproute", "web", "--type=json", "-p", &weights(weight)])?;
    }
    lab.wait("the last route to be in force", SOON, || {
        for _ in 0..5 {
            let said = lab.fetch(client, "http://web.shop/last")?;
            ensure!(said.contains("\"web-next-"), "{said}");
        }
        Ok(())
    })
}

/// What is denied is changed again and again, and the last holds.
fn policies_change(lab: &Lab, client: &str) -> Result<()> {
    for number in 1..=5 {
        let paths = format!(
            r#"[{{"op": "replace", "path": "/spec/rules/0/to/0/operation/paths/0", "value": "/closed/{number}"}}]"#
        );
        let patch = ["patch", "authorizationpolicy", "nobody-to-admin", "--type=json", "-p", &paths];
        lab.kubectl(&[&["-n", "shop"], patch.as_slice()].concat())?;
    }
    lab.wait("the last policy to be in force", SOON, || {
        let refused = lab.fetch(client, "http://web.shop/closed/5").err().context("it was let in")?;
        let said = format!("{refused:#}");
        ensure!(said.contains("status 403"), "{said}");
        lab.fetch(client, "http://web.shop/closed/4")
    })
    .map(drop)
}

/// The first backend's weight, and the rest of a hundred for the second.
fn weights(first: u32) -> String {
    let put = |at: u32, weight: u32| {
        format!(r#"{{"op": "replace", "path": "/spec/rules/0/backendRefs/{at}/weight", "value": {weight}}}"#)
    };
    format!("[{}, {}]", put(0, first), put(1, 100 - first))
}

fn lost_nothing(how: &str, told: &Load) -> Result<()> {
    eprintln!("{} requests {how} all the while, the longest {} ms", told.sent, told.longest_ms);
    if told.failed > 0 {
        told.words.iter().take(WORDS).for_each(|line| eprintln!("{line}"));
    }
    ensure!(told.sent > 20, "only {} requests {how}", told.sent);
    ensure!(
        told.failed == 0,
        "{} of {} requests {how} failed, first {:?}",
        told.failed,
        told.sent,
        told.first_failure
    );
    Ok(())
}

/// The pod of an application that has one.
fn pod(lab: &Lab, app: &str) -> Result<String> {
    let label = format!("app={app}");
    let name = "jsonpath={.items[0].metadata.name}";
    let said = lab.kubectl(&["-n", "shop", "get", "pods", "-l", &label, "-o", name])?;
    ensure!(!said.is_empty(), "no pod of {app}");
    Ok(said)
}

fn sample(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/sample").join(name).display().to_string()
}
