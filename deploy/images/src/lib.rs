//! Container images without a builder and without a registry: a program, its few shared libraries, one tar.
//! Owns what is in the images of our programs and how an image is written; builds no program (`cargo xtask images`).
//!
//! Written twice from the same files, an image is the same to the last byte: entries are sorted, nothing has a
//! time, an owner or a name from the machine that wrote it.

mod image;
mod ours;
mod program;
mod tar;

pub use image::{Image, ImageError, Written};
pub use ours::{Component, component};
pub use program::ProgramError;
