//! Which path a connection would take and which policy decides, from what a node's proxy knows: the proxy's own
//! decisions (`model::route`, `model::judge`), made here again on its dump. Owns the explanation and its words;
//! fetches no dump and opens no connection. What a waypoint does with a request on it is `request`'s.

mod find;
mod request;
mod told;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ambit_model::address::{Authority, ClientAddr, ListenAddr, OriginalDst};
use ambit_model::balance::First;
use ambit_model::delta::{Change, Delta};
use ambit_model::judge::{self, Opinion, Rehearsal, Verdict};
use ambit_model::name::Identity;
use ambit_model::route::{self, Direct, Flow, HBONE_PORT, Plan, Tunnelled};
use ambit_model::snapshot::Snapshot;
use ambit_model::workload::{Tunnel, Workload};
use serde::Serialize;

pub(crate) use find::Unclear;
pub(crate) use request::{RequestExplanation, Wanted, explain_request, waypoint_of};
pub(crate) use told::{DUMP, RESOURCES, Told, ToldError};

/// What would happen to a connection. Of several endpoints the first by uid is explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    /// Who opens it.
    pub(crate) source: Party,
    /// The destination as asked about.
    pub(crate) asked: String,
    /// The address the application would dial.
    pub(crate) dialled: String,
    /// The service that is addressed: `<namespace>/<hostname>`.
    pub(crate) service: Option<String>,
    /// The way it goes.
    pub(crate) path: Path,
    /// What the far end says; none where nobody judges.
    pub(crate) verdict: Option<Ruling>,
    /// All in all.
    pub(crate) outcome: Outcome,
}

/// A workload that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Party {
    /// `<namespace>/<name>`.
    pub(crate) name: String,
    /// Its SPIFFE identity.
    pub(crate) identity: String,
    /// Its node; empty when unknown.
    pub(crate) node: String,
    /// Its traffic is captured and it is reached through a tunnel.
    pub(crate) in_mesh: bool,
}

/// The way a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(crate) enum Path {
    /// Through a tunnel to the destination's own node.
    Tunnel(Leg),
    /// Through a tunnel to a waypoint, which decides further.
    Waypoint(Leg),
    /// Through a tunnel inside a tunnel, to another network.
    Gateway(Leg),
    /// In plaintext.
    #[serde(rename_all = "camelCase")]
    Plaintext {
        /// Where to.
        hop: String,
        /// Who that is, when it is known.
        to: Option<Party>,
        /// Why it is plaintext.
        why: String,
    },
    /// Nowhere: the connection is closed.
    Refused {
        /// A closed label.
        label: String,
        /// Why.
        why: String,
    },
}

/// One tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Leg {
    /// Where it is dialled.
    pub(crate) hop: String,
    /// What is asked for there.
    pub(crate) authority: String,
    /// Who must answer.
    pub(crate) expect: Vec<String>,
    /// Who is at its end.
    pub(crate) to: Party,
}

/// What the far end says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ruling {
    /// Let in.
    pub(crate) allowed: bool,
    /// The deciding policy: `<namespace>/<name>`.
    pub(crate) policy: Option<String>,
    /// In words.
    pub(crate) reason: String,
    /// The identity that is judged; none for plaintext.
    pub(crate) peer: Option<String>,
    /// Where the application is reached.
    pub(crate) target: String,
    /// What policies in dry run would say.
    pub(crate) dry_run: Vec<String>,
}

/// All in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    /// It reaches the application.
    Allowed,
    /// The far end refuses it.
    Denied,
    /// It does not leave its node.
    Refused,
    /// A waypoint or another network has the last word, which is not known here.
    DecidedElsewhere,
}

/// Explains a connection from a pod (`<name>` or `<namespace>/<name>`) to `<ip, host or pod>:<port>`.
pub(crate) fn explain(world: &Snapshot, src: &str, dst: &str) -> Result<Explanation, Unclear> {
    let source = find::source(world, src)?;
    let target = find::target(world, &source, dst)?;
    let client = find::client(&source, target)?;
    let flow = Flow { source: Arc::clone(&source), client, dst: target };
    let captured = source.tunnel == Tunnel::Hbone;
    let service = find::service(world, &flow);
    let (path, verdict, outcome) = if captured { carried(world, &flow) } else { uncaptured(world, &flow) };
    Ok(Explanation {
        source: Party::of(&source),
        asked: dst.into(),
        dialled: target.to_string(),
        service: service.map(|s| s.key().to_string()),
        path,
        verdict,
        outcome,
    })
}

impl Explanation {
    /// The node whose proxy decides, as far as it is known.
    pub(crate) fn far_node(&self) -> Option<&str> {
        let party = match &self.path {
            Path::Tunnel(leg) | Path::Waypoint(leg) | Path::Gateway(leg) => Some(&leg.to),
            Path::Plaintext { to, .. } => to.as_ref(),
            Path::Refused { .. } => None,
        };
        party.map(|it| it.node.as_str()).filter(|node| !node.is_empty())
    }
}

type Story = (Path, Option<Ruling>, Outcome);

/// The source's own proxy carries it.
fn carried(world: &Snapshot, flow: &Flow) -> Story {
    match route::plan(world, flow, &mut First) {
        Err(refusal) => {
            let path = Path::Refused { label: refusal.label().into(), why: refusal.to_string() };
            (path, None, Outcome::Refused)
        }
        Ok(Plan::Tunnel(t)) => {
            let (ruling, outcome) = at_far_end(world, flow, &t);
            (Path::Tunnel(Leg::of(&t)), Some(ruling), outcome)
        }
        // What terminates tunnels itself is asked by nobody else.
        Ok(Plan::ViaWaypoint(t)) if t.destination.native_tunnel => {
            (Path::Waypoint(Leg::of(&t)), None, Outcome::DecidedElsewhere)
        }
        Ok(Plan::ViaWaypoint(t)) => {
            let (ruling, outcome) = at_far_end(world, flow, &t);
            let outcome = if outcome == Outcome::Allowed { Outcome::DecidedElsewhere } else { outcome };
            (Path::Waypoint(Leg::of(&t)), Some(ruling), outcome)
        }
        Ok(Plan::ViaGateway(r)) => (Path::Gateway(Leg::of(&r.outer)), None, Outcome::DecidedElsewhere),
        Ok(Plan::Direct(direct)) => {
            let why = match &direct.destination {
                Some(_) => "the destination is not in the mesh",
                None => "the destination is not known to the mesh",
            };
            plain(world, flow, &direct, why)
        }
    }
}

/// Nobody captures it: it leaves its pod as it is, past any waypoint.
fn uncaptured(world: &Snapshot, flow: &Flow) -> Story {
    let why = "the source is not in the mesh";
    let world = &without_waypoints(world, flow);
    let direct = match route::plan(world, flow, &mut First) {
        Ok(Plan::Direct(direct)) => direct,
        Ok(Plan::Tunnel(t) | Plan::ViaWaypoint(t)) => Direct {
            hop: match &t.authority {
                Authority::Address(address) => ambit_model::address::HopAddr::new(*address),
                Authority::Host { .. } => t.hop,
            },
            destination: Some(t.destination),
            service: t.service,
        },
        // The mesh's reasons do not hold a plain connection back, but its end is not known either.
        Ok(Plan::ViaGateway(_)) | Err(_) => Direct {
            hop: ambit_model::address::HopAddr::new(flow.dst.socket()),
            destination: None,
            service: None,
        },
    };
    plain(world, flow, &direct, why)
}

/// The world as a client without a proxy meets it.
fn without_waypoints(world: &Snapshot, flow: &Flow) -> Snapshot {
    let mut delta = Delta::default();
    if let Some(service) = find::service(world, flow) {
        let mut bare = (**service).clone();
        (bare.waypoint, bare.weighted_waypoints) = (None, Vec::new());
        delta.changes.push(Change::Service(Arc::new(bare)));
    }
    if let Some(workload) = find::workload(world, flow) {
        let mut bare = (**workload).clone();
        bare.waypoint = None;
        delta.changes.push(Change::Workload(Arc::new(bare)));
    }
    world.with(&delta)
}

/// A plaintext connection is judged where its destination is in the mesh, without an identity.
fn plain(world: &Snapshot, flow: &Flow, direct: &Direct, why: &str) -> Story {
    let to = direct.destination.as_deref();
    let path = Path::Plaintext { hop: direct.hop.to_string(), to: to.map(Party::of), why: why.into() };
    match to.filter(|w| w.tunnel == Tunnel::Hbone) {
        None => (path, None, Outcome::Allowed),
        Some(workload) => {
            let target = OriginalDst::new(direct.hop.socket());
            let ruling = ruling(world, workload, None, flow.client, target);
            let outcome = if ruling.allowed { Outcome::Allowed } else { Outcome::Denied };
            (path, Some(ruling), outcome)
        }
    }
}

/// The far end of a tunnel: is the target one that may be asked for there, and may this peer ask?
fn at_far_end(world: &Snapshot, flow: &Flow, tunnel: &Tunnelled) -> (Ruling, Outcome) {
    let peer = flow.source.identity();
    let at = ListenAddr::new(SocketAddr::new(tunnel.hop.ip(), HBONE_PORT));
    match route::admit(world, &tunnel.destination, at, &tunnel.authority) {
        Err(refused) => {
            let ruling = Ruling {
                allowed: false,
                policy: None,
                reason: refused.to_string(),
                peer: Some(peer.to_string()),
                target: tunnel.authority.to_string(),
                dry_run: Vec::new(),
            };
            (ruling, Outcome::Denied)
        }
        Ok(admission) => {
            let target = OriginalDst::new(admission.target.socket());
            let ruling = ruling(world, &tunnel.destination, Some(&peer), flow.client, target);
            let outcome = if ruling.allowed { Outcome::Allowed } else { Outcome::Denied };
            (ruling, outcome)
        }
    }
}

fn ruling(
    world: &Snapshot,
    dest: &Workload,
    peer: Option<&Identity>,
    from: ClientAddr,
    to: OriginalDst,
) -> Ruling {
    let Opinion { verdict, dry_run } = judge::consider(world, dest, peer, from, to);
    let policy = match &verdict {
        Verdict::Allow { by } => by.as_ref(),
        Verdict::Deny(denial) => denial.policy(),
    };
    let rehearsed = |said: Rehearsal| match said {
        Rehearsal::WouldDeny(policy) => format!("{policy} would deny"),
        Rehearsal::WouldAllow(policy) => format!("{policy} would allow"),
        Rehearsal::NothingWouldAllow => "no allow policy would match, so that they would deny".into(),
    };
    Ruling {
        allowed: verdict.is_allowed(),
        policy: policy.map(ToString::to_string),
        reason: verdict.to_string(),
        peer: peer.map(ToString::to_string),
        target: to.to_string(),
        dry_run: dry_run.into_iter().map(rehearsed).collect(),
    }
}

impl Party {
    fn of(workload: &Workload) -> Self {
        Self {
            name: format!("{}/{}", workload.namespace, workload.name),
            identity: workload.identity().to_string(),
            node: workload.node.to_string(),
            in_mesh: workload.tunnel == Tunnel::Hbone,
        }
    }
}

impl Leg {
    fn of(tunnel: &Tunnelled) -> Self {
        Self {
            hop: tunnel.hop.to_string(),
            authority: tunnel.authority.to_string(),
            expect: tunnel.expect.iter().map(ToString::to_string).collect(),
            to: Party::of(&tunnel.destination),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
            Outcome::Refused => "refused before it leaves its node",
            Outcome::DecidedElsewhere => "decided beyond this mesh's tunnels",
        };
        writeln!(f, "{} -> {}: {outcome}", self.source.name, self.asked)?;
        writeln!(f, "  source   {}", self.source)?;
        match &self.service {
            Some(service) => writeln!(f, "  dials    {}, service {service}", self.dialled)?,
            None => writeln!(f, "  dials    {}", self.dialled)?,
        }
        writeln!(f, "  path     {}", self.path)?;
        match &self.verdict {
            None => write!(f, "  verdict  none: nobody there judges by the policies known here"),
            Some(ruling) => ruling.fmt(f),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.name, self.identity)?;
        if !self.node.is_empty() {
            write!(f, ", on {}", self.node)?;
        }
        f.write_str(if self.in_mesh { ", in the mesh" } else { ", not in the mesh" })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tunnel(leg) => write!(f, "HBONE {leg}"),
            Self::Waypoint(leg) => write!(f, "HBONE to a waypoint, {leg}"),
            Self::Gateway(leg) => write!(f, "HBONE inside HBONE, {leg}"),
            Self::Plaintext { hop, to, why } => {
                write!(f, "plaintext to {hop}, since {why}")?;
                to.as_ref().map_or(Ok(()), |party| write!(f, "\n           to {party}"))
            }
            Self::Refused { why, .. } => write!(f, "none: {why}"),
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {}, asking for {}", self.hop, self.authority)?;
        write!(f, "\n           expecting {}", self.expect.join(" or "))?;
        write!(f, "\n           to {}", self.to)
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  verdict  {}", self.reason)?;
        match &self.peer {
            Some(peer) => write!(f, "\n           judged as {peer} on {}", self.target)?,
            None => write!(f, "\n           judged as plaintext, without an identity, on {}", self.target)?,
        }
        self.dry_run.iter().try_for_each(|said| write!(f, "\n  dry run  {said}"))
    }
}

#[cfg(test)]
mod tests;
