//! Conversions against the specification's golden bytes, what upstream really sends, and arbitrary input.

mod arbitrary;
mod arbitrary_route;
mod authentications;
mod ext_procs;
mod golden;
mod providers;
mod rate_limits;
mod refused;
mod request_policies;
mod routes;
mod traffic;
