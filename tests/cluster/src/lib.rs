//! A real Kubernetes on this machine, for tests: nodes with kubelets and containers in namespaces, an API server,
//! names, services, webhooks. Nothing is downloaded but Go modules and Debian packages.
//!
//! Owns bringing it up, breaking it and taking it down. What is installed into it is a test's; `mesh` has what stories of our own mesh share.
//!
//! ```no_run
//! let lab = ambit_cluster_lab::Lab::up("story")?;
//! lab.apply("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")?;
//! lab.reboot("n1")?;
//! lab.down()?;
//! # Ok::<(), anyhow::Error>(())
//! ```

mod binaries;
pub mod boards;
mod capture;
mod cgroup;
mod command;
mod conformance;
mod definitions;
mod enter;
mod guard;
mod http;
mod images;
mod kubectl;
mod lab;
mod layout;
pub mod mesh;
mod net;
mod node;
mod numbers;
mod pki;
mod plane;
mod process;
mod spec;
mod traffic;
mod up;
mod wait;

pub use binaries::{Upstream, helm, upstream};
pub use capture::{Capture, Frames};
pub use command::{Arguments, run};
pub use definitions::Channel;
pub use http::get;
pub use images::{APP, PAUSE};
pub use lab::{Lab, STATE};
pub use layout::{LAN, Layout, PLANE, Slot};
pub use node::Node;
pub use plane::Component;
pub use process::Process;
pub use spec::{Spec, Wish};
pub use traffic::{Load, Running};
pub use wait::pause;
