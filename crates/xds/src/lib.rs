//! Delta subscription, both ends, as state machines and a pump over gRPC.
