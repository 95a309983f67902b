//! Where the cluster is read from, and where a pod's word is written: a folder of manifests and its overlay, or the
//! Kubernetes API. Owns the choice alone.

use ambit_cluster::api::{self, Client, OpenError, Wanted};
use ambit_cluster::files::{self, Keep, WatchError};
use ambit_cluster::{Kind, Overlay, Source};

use crate::config::Config;
use crate::node::notes::{Herald, Notes};

/// Why the cluster cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The manifests cannot be watched.
    #[error("cannot watch the cluster")]
    Watch(#[from] WatchError),
    /// There is no way to an API server.
    #[error("cannot read the cluster; give --source, --kubeconfig, or run it as a pod")]
    Api(#[from] OpenError),
}

/// The two ends, and the way to the API server where there is one.
pub(crate) struct Origin {
    pub(crate) source: Source,
    pub(crate) notes: Notes,
    pub(crate) client: Option<Client>,
    pub(crate) herald: Option<Herald>,
}

impl Origin {
    /// Opens what the configuration names. No server is asked yet.
    pub(crate) async fn open(config: &Config) -> Result<Self, OriginError> {
        let Some(source) = &config.source else {
            let client = match &config.kubernetes.kubeconfig {
                Some(path) => Box::pin(Client::from_kubeconfig(path)).await?,
                None => Client::in_cluster()?,
            };
            let wanted = [Wanted::pods_of(&config.node_name), Wanted::from(Kind::Namespace)];
            let (notes, herald) = Notes::api(client.clone(), &config.node_name);
            return Ok(Self {
                source: api::watch(&client, &wanted, Keep::Slim).into(),
                notes,
                client: Some(client),
                herald: Some(herald),
            });
        };
        let overlay = config.overlay(source);
        Ok(Self {
            source: files::watch(source, Some(&overlay), Keep::Slim)?.into(),
            notes: Notes::overlay(Overlay::new(overlay, "cni")),
            client: None,
            herald: None,
        })
    }
}
