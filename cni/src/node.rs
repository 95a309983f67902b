//! The daemon's running parts. Each file owns one; `run` joins them.

mod cgroup;
mod desk;
mod ending;
pub(crate) mod enrol;
mod events;
mod find;
mod keeper;
pub(crate) mod link;
mod notes;
mod origin;
mod pods_group;
mod probes;
mod retire;
mod run;
pub(crate) mod sandbox;
pub mod selector;
mod standing;
mod subject;
mod tell;
mod view;
mod want;

pub use cgroup::{CgroupError, Container, container_of, pods_root};
pub use events::is_question;
pub use link::face;
pub use origin::OriginError;
pub use run::{RunError, run};
pub use want::{Criteria, Want, Why, want};
