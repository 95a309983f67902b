//! What tests need and programs do not: namespaces that clear themselves up, servers that echo, a certificate
//! authority, a control plane and a token issuer that live as long as a test. A dev-dependency of programs, never of libraries.

mod authority;
mod echo;
// One file for both: the crate that talks to the API may not depend on this one.
#[path = "../../../crates/cluster/src/api/tests/fake/mod.rs"]
pub mod fake_api;
mod keys_server;
mod link;
mod namespace;
mod patience;
mod plane;
mod signatory;
mod tokens;
pub mod vectors;

pub use authority::{Authority, Leaf};
pub use echo::Echo;
pub use keys_server::{KeysServer, Publishes};
pub use link::until_up;
pub use namespace::Namespace;
pub use patience::{eventually, pause};
pub use plane::Plane;
pub use signatory::Signatory;
pub use tokens::Tokens;
