//! Linux calls, and the only crate where unsafe code may live.
//! Owns namespaces, socket options, descriptors over a socket, raw netlink bytes, pages of memory and where
//! the heap gets them.
//! Knows nothing of the mesh.
#![expect(
    unsafe_code,
    reason = "this crate is where the few calls without a safe wrapper are made, each explained"
)]

pub mod cgroup;
pub mod heap;
pub mod limits;
pub mod netlink;
pub mod netns;
pub mod notify;
pub mod pages;
pub mod pass;
pub mod socket;
