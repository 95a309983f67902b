//! Schemas and bytes: protobuf messages to and from the model, no sockets.

pub mod check;
pub mod convert;
pub mod dns;
pub mod health;
pub mod limits;
pub mod local;
pub mod node_link;
pub mod pb;
pub mod process;
pub mod quota;
pub mod spans;
