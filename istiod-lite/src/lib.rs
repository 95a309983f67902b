//! The control plane: reads the cluster, translates it to the mesh's nouns, serves them, and issues certificates.

pub mod catalog;
pub mod dump;
pub mod index;
pub mod mesh;
pub mod translate;
