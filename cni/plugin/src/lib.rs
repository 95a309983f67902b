//! The CNI plugin: read, ask the node daemon, wait, answer.
