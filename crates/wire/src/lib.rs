//! Schemas and bytes: protobuf messages to and from the model, no sockets.
