//! A waypoint as a real process between real tunnels: who may ask for what, what of HTTP passes and how, what is
//! refused, and what is said of it.

#[cfg(test)]
mod asked;
#[cfg(test)]
mod authorizer;
#[cfg(test)]
mod backend;
#[cfg(test)]
mod client;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod duplex;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod grpc_web;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod interim;
#[cfg(test)]
mod judged;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod of_routes;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod processed;
#[cfg(test)]
mod processor;
#[cfg(test)]
mod rebalance;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod resilience;
#[cfg(test)]
mod routed;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod told;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod virtual_services;
