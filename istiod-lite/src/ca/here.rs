//! Whether certificates are signed here, or by somebody else: then we sign nothing, tell nobody whom to believe, and
//! show a certificate that is given (`control-plane.md` 6.5, 6.7). Owns that choice, and what follows from it.

use std::path::PathBuf;

use ambit_model::name::TrustDomain;
use ambit_process::clock;
use ambit_process::tasks::Tasks;
use ambit_tls::configs::control_plane::Speaks;
use tracing::info;

use super::keeper::{Keeper, KeeperError};
use super::text::{Followed, Text};
use crate::config::Run;
use crate::metrics::Metrics;
use crate::origin::Inside;
use crate::serve::{Serving, ServingError};

/// What signs here, and what is followed that somebody else signs.
pub struct Here {
    keeper: Option<Keeper>,
    /// Roots of a serving certificate that is given.
    followed: Option<Followed>,
    trust_bundle: bool,
}

/// What others are told.
pub struct Told {
    /// The roots that prove our serving certificate.
    pub serving: Option<Text>,
    /// The roots that everybody is to believe; none: somebody else tells them.
    pub roots: Option<Text>,
    /// The roots, for the whole cluster.
    pub anchors: Option<Text>,
    /// Revocation lists.
    pub lists: Option<Text>,
}

impl Here {
    /// Opens what the configuration names.
    ///
    /// # Errors
    /// When there is no signing material that can be used.
    pub async fn open(
        config: &Run,
        domain: TrustDomain,
        inside: Option<&Inside>,
        metrics: &Metrics,
    ) -> Result<Self, KeeperError> {
        let given = &config.given;
        let followed = given.serving().map(|_| Followed::open(&given.roots));
        let trust_bundle = given.trust_bundle;
        if !given.signs {
            info!(target: "ca", "certificates are signed by somebody else");
            return Ok(Self { keeper: None, followed, trust_bundle });
        }
        let (place, now) = (config.signing(domain), clock::now_system());
        let keeper = match inside {
            Some(inside) => {
                let safe = inside.safe(config.namespace());
                Box::pin(Keeper::kept(place, safe, metrics.clone(), now)).await?
            }
            None => Keeper::open(place, metrics.clone(), now)?,
        };
        Ok(Self { keeper: Some(keeper), followed, trust_bundle })
    }

    /// What signs.
    #[must_use]
    pub fn keeper(&self) -> Option<&Keeper> {
        self.keeper.as_ref()
    }

    /// The certificate that listeners show.
    ///
    /// # Errors
    /// When it is given and cannot be used, or cannot be made.
    pub fn serving(&self, config: &Run, speaks: Speaks) -> Result<Serving, ServingError> {
        let now = clock::now_system();
        match (config.given.serving(), &self.keeper) {
            (None, Some(keeper)) => Serving::new(keeper.newest(), config.names(), speaks, now),
            (Some(files), _) => Serving::given(files, speaks, now),
            (None, None) => Err(ServingError::Io {
                path: PathBuf::from(&config.given.certificate),
                source: std::io::ErrorKind::NotFound.into(),
            }),
        }
    }

    /// What others are told.
    #[must_use]
    pub fn told(&self) -> Told {
        let roots = self.keeper.as_ref().map(Keeper::roots);
        Told {
            serving: self.followed.as_ref().map(Followed::text).or_else(|| roots.clone()),
            anchors: roots.clone().filter(|_| self.trust_bundle),
            lists: self.keeper.as_ref().and_then(Keeper::lists),
            roots,
        }
    }

    /// Keeps all of it up to date.
    pub fn start(self, tasks: &mut Tasks) {
        let Self { keeper, followed, .. } = self;
        if let Some(keeper) = keeper {
            tasks.spawn("signing material", |stop| keeper.run(stop));
        }
        if let Some(followed) = followed {
            tasks.spawn("given roots", |stop| followed.run(stop));
        }
    }
}
