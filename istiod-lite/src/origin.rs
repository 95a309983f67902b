//! Where the cluster is read from and written to: a directory and its overlay, or the Kubernetes API.
//! Owns the choice, and the parts that only a cluster has: an election, replicas that share what is written, a desk for
//! writes, callers by review.

mod own;

use std::path::PathBuf;
use std::sync::Arc;

use ambit_cluster::api::{
    self, Candidate, Client, Desk, Duty, Hand, Member, OpenError, Orders, Share, Wanted,
};
use ambit_cluster::files::{self, Keep, WatchError};
use ambit_cluster::{Kind, Overlay, Source, Writer};
use ambit_process::tasks::Tasks;
use clap::Args;
use tokio::sync::watch;

use crate::ca::anchors::Anchors;
use crate::ca::bundle::{self, Bundle};
use crate::ca::callers::Callers;
use crate::ca::here::Told;
use crate::ca::review::Reviewer;
use crate::ca::safe::Safe;
use crate::ca::token::{KeyError, Tokens};
use crate::config::Run;
use crate::deploy::Deployer;
use crate::deploy::maps::Maps;
use crate::deploy::overlay::Overlays;
use crate::deploy::plan::Template;
use crate::hooks::Hooks;
use crate::metrics::Metrics;
use crate::publish::Waypoints;
use crate::trust::{self, Trust, TrustError};

/// The field manager of what this program writes onto objects.
const MANAGER: &str = "ambit-istiod";

/// The lease of the one replica that leads. One for all revisions: what is written is said of the same objects.
const LEASE: &str = "ambit-istiod-leader";

/// How the leases of replicas that share what is written begin.
const REPLICA: &str = "ambit-istiod-replica-";

/// Kinds that are followed in a cluster, besides the mesh's own configuration.
const FOLLOWED: [Kind; 22] = [
    Kind::Node,
    Kind::Namespace,
    Kind::Pod,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Gateway,
    Kind::GatewayClass,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::TlsRoute,
    Kind::TcpRoute,
    Kind::BackendTlsPolicy,
    Kind::AuthorizationPolicy,
    Kind::PeerAuthentication,
    Kind::RequestAuthentication,
    Kind::RateLimitPolicy,
    Kind::ExtProcPolicy,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::VirtualService,
    Kind::DestinationRule,
    Kind::Telemetry,
];

/// What is needed to know when the cluster is read from the Kubernetes API.
#[derive(Debug, Clone, Default, Args)]
pub struct Kubernetes {
    /// Read the cluster from the API server of this kubeconfig. Without it and without --source: from that of the
    /// cluster that this program is a pod of.
    #[arg(long, env = "KUBECONFIG", value_name = "FILE", conflicts_with = "source")]
    pub kubeconfig: Option<PathBuf>,
    /// This pod's name, by which it is known among the replicas.
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "")]
    pub pod_name: String,
    /// This pod's namespace: where the lease and the mesh's configuration are. Empty: the root namespace.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = "")]
    pub pod_namespace: String,
    /// Whom service account tokens have to be for.
    #[arg(
        long = "token-audience",
        env = "TOKEN_AUDIENCES",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "istio-ca"
    )]
    pub audiences: Vec<String>,
}

/// Why the cluster cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The directory.
    #[error(transparent)]
    Directory(#[from] WatchError),
    /// The way to the API server.
    #[error(transparent)]
    Api(#[from] OpenError),
    /// The trust domain.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The key of tokens.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A directory says nothing of who signs tokens.
    #[error("nobody's token can be verified; give the public key of whoever signs them (--token-key)")]
    NoKey,
}

/// What is read and written, and who proves callers.
pub struct Origin {
    /// The trust domain that was decided.
    pub trust: Trust,
    /// Where objects come from.
    pub source: Source,
    /// Where what became of them is written.
    pub writer: Writer,
    /// Who proves callers.
    pub callers: Callers,
    /// What only a cluster has.
    pub inside: Option<Inside>,
}

/// What only a cluster has.
pub struct Inside {
    client: Client,
    desk: Desk,
    candidate: Candidate,
    lead: watch::Sender<bool>,
    member: Member,
    share: watch::Sender<Share>,
    /// The lease of the revision's own webhooks, where there is a revision: nobody else writes into them.
    revision: Option<(Candidate, watch::Sender<bool>)>,
    hooks: Vec<String>,
    template: Option<Template>,
}

impl Origin {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn open(config: &Run) -> Result<Self, OriginError> {
        match &config.cluster.source {
            Some(source) => Self::directory(source, config),
            None => {
                let client = connect(config.kubernetes.kubeconfig.as_deref()).await?;
                let map = config.config_map();
                let wanted = [Wanted::named(Kind::ConfigMap, &map.namespace, &map.name)];
                let look = trust::in_cluster(api::watch(&client, &wanted, Keep::Slim).into(), &map);
                let said = Box::pin(look).await?;
                let trust = Trust::new(config.cluster.trust_domain.clone()).decide(said, &map)?;
                Self::cluster(client, config, trust)
            }
        }
    }

    fn directory(source: &std::path::Path, config: &Run) -> Result<Self, OriginError> {
        let overlay = config.cluster.overlay(source);
        let key = config.token_key.as_deref().ok_or(OriginError::NoKey)?;
        let map = config.config_map();
        let said = trust::in_directory(source, &overlay, &map)?;
        let trust = Trust::new(config.cluster.trust_domain.clone()).decide(said, &map)?;
        let tokens = Tokens::open(key, trust.domain())?;
        Ok(Self {
            trust,
            source: files::watch(source, Some(&overlay), Keep::Slim)?.into(),
            writer: Writer::Overlay(Overlay::new(overlay, "istiod")),
            callers: Callers::Key(tokens),
            inside: None,
        })
    }

    fn cluster(client: Client, config: &Run, trust: Trust) -> Result<Self, OriginError> {
        let (settings, domain, namespace) = (&config.kubernetes, trust.domain(), config.namespace());
        let identity = Some(settings.pod_name.clone()).filter(|it| !it.is_empty());
        // Two programs outside of a cluster are told apart by chance.
        let identity = identity.unwrap_or_else(|| format!("istiod-lite-{:016x}", fastrand::u64(..)));
        let own = own::read();
        let candidate =
            Candidate { namespace: namespace.into(), lease: LEASE.into(), identity, owner: own.account };
        let member = member(&candidate, &config.cluster.revision, own.pod);
        let (lead, leading) = watch::channel(false);
        let (share, shared) = watch::channel(Share::default());
        let duty = Duty::new(leading, shared);
        let (orders, desk) = Orders::new(Hand::new(client.clone(), MANAGER), duty);
        let mut wanted: Vec<_> = FOLLOWED.into_iter().map(Wanted::from).collect();
        wanted.push(Wanted::named(Kind::ConfigMap, namespace, &config.cluster.mesh_config()));
        let callers = match &config.token_key {
            Some(key) => Callers::Key(Tokens::open(key, domain)?),
            None => {
                let audiences = settings.audiences.clone();
                Callers::Review(Box::new(Reviewer::new(client.clone(), domain, audiences)))
            }
        };
        let template = config.waypoints(&trust.domain());
        let revision = Some(&config.cluster.revision).filter(|it| !it.is_empty());
        let revision = revision.map(|name| {
            let lease = format!("{LEASE}-{name}");
            (Candidate { lease, ..candidate.clone() }, watch::channel(false).0)
        });
        Ok(Self {
            trust,
            source: api::watch(&client, &wanted, Keep::Slim).into(),
            writer: Writer::Api(orders),
            callers,
            inside: Some(Inside {
                client,
                desk,
                candidate,
                lead,
                member,
                share,
                revision,
                hooks: config.hooks(),
                template,
            }),
        })
    }
}

/// One of those that share what is written: with the replicas of its revision.
fn member(candidate: &Candidate, revision: &str, owner: Option<api::Owner>) -> Member {
    Member {
        namespace: candidate.namespace.clone(),
        leader: LEASE.into(),
        prefix: REPLICA.into(),
        identity: candidate.identity.clone(),
        group: if revision.is_empty() { "default".into() } else { revision.into() },
        owner,
    }
}

/// The way to the API server of a kubeconfig, or of the cluster around.
///
/// # Errors
/// When there is none.
pub async fn connect(kubeconfig: Option<&std::path::Path>) -> Result<Client, OpenError> {
    match kubeconfig {
        Some(path) => Client::from_kubeconfig(path).await,
        None => Client::in_cluster(),
    }
}

impl Inside {
    /// Where signing material is kept: in this namespace.
    #[must_use]
    pub fn safe(&self, namespace: &str) -> Safe {
        Safe::new(self.client.clone(), namespace)
    }

    /// Starts the election, and what is done by whoever wins it. Where waypoints are deployed, answers how those are to
    /// be.
    pub fn start(
        self,
        tasks: &mut Tasks,
        (told, waypoints): (Told, watch::Receiver<Waypoints>),
        metrics: &Metrics,
    ) -> Option<watch::Receiver<Arc<Overlays>>> {
        let Self { client, desk, candidate, lead, member, share, revision, hooks, template } = self;
        // Each revision deploys its own gateways, so each has a leader for that.
        let deploys = revision.as_ref().map_or(&lead, |(_, lead)| lead).subscribe();
        let overlays = template.map(|template| {
            let (told, overlays) = watch::channel(Arc::default());
            let maps = Maps::new(client.clone(), candidate.namespace.clone(), waypoints.clone(), told);
            tasks.spawn("overlays", |stop| maps.run(stop));
            let deployer = Deployer::new(client.clone(), deploys, waypoints, template);
            tasks.spawn("deploy", |stop| deployer.run(stop));
            overlays
        });
        if let Some(roots) = told.serving {
            let writes = revision.as_ref().map_or(&lead, |(_, lead)| lead).subscribe();
            let hooks = Hooks::new(client.clone(), roots, writes, hooks, metrics.clone());
            tasks.spawn("webhooks", |stop| hooks.run(stop));
        }
        let roots = told.roots.map(|text| (bundle::ROOTS, text));
        for map in roots.into_iter().chain(told.lists.map(|text| (bundle::LISTS, text))) {
            let bundle = Bundle::new(client.clone(), map, lead.subscribe(), MANAGER);
            tasks.spawn("bundle", |stop| bundle.run(stop));
        }
        if let Some(roots) = told.anchors {
            let anchors = Anchors::new(client.clone(), roots, lead.subscribe());
            tasks.spawn("trust bundle", |stop| anchors.run(stop));
        }
        let (written, shown, mut members) = (metrics.clone(), metrics.clone(), share.subscribe());
        let desk = desk.counted(move || written.status_written());
        tasks.spawn("writes", |stop| desk.run(stop));
        tasks.spawn("writers shown", |stop| async move {
            loop {
                shown.writers(members.borrow_and_update().members());
                // Cancel-safe. Membership ends with the program.
                tokio::select! {
                    () = stop.stopped() => return,
                    Ok(()) = members.changed() => {}
                    else => return,
                }
            }
        });
        let attends = client.clone();
        tasks.spawn("membership", |stop| member.attend(attends, share, stop));
        if let Some((candidate, lead)) = revision {
            let client = client.clone();
            tasks.spawn("revision's election", |stop| candidate.stand(client, lead, stop));
        }
        tasks.spawn("election", |stop| candidate.stand(client, lead, stop));
        overlays
    }
}
