//! What the cluster holds: objects as they are, from the Kubernetes API, or from a directory of manifests and the
//! overlay beside it where the mesh writes. Owns reading, validating and watching. Leaves their meaning to the programs.

pub mod api;
pub mod fault;
pub mod files;
pub mod kinds;
pub mod object;
pub mod overlay;
pub mod source;
pub mod writer;

pub use fault::Fault;
pub use object::{Body, Kind, Object, ObjectRef};
pub use overlay::Overlay;
pub use source::Source;
pub use writer::Writer;
