//! Tokens of requests (JWT): what they say, whether their issuer signed them, and whether they are of this time.
//! Pure: keys, time and rules are handed in. Where a token is found, and what becomes of its request, is the model's
//! and the waypoint's; nothing here fetches keys.

mod algorithm;
mod claims;
mod fault;
mod keys;
#[cfg(test)]
mod testing;
mod token;

pub use algorithm::Algorithm;
pub use fault::{Fault, Part};
pub use keys::{KeySet, KeySetError};
pub use token::{LONGEST, SKEW_S, Signed};
