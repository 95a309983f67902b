//! Linux calls; the only crate where unsafe code may live.
