//! Why a local configuration or a dump is refused: the field, the value, the remedy.

use ambit_model::name::NameError;

/// Why a text is not a world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// More than is read.
    #[error("the configuration has {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not of the right form; the parser says where and what it expected.
    #[error("configuration: {detail}")]
    Shape {
        /// The parser's words.
        detail: String,
    },
    /// A value that does not hold.
    #[error("{field}: {fault}")]
    Field {
        /// Its path, for example `workloads[2].namespace`.
        field: String,
        /// What is wrong with it.
        fault: FieldFault,
    },
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldFault {
    /// Not a name of its kind.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not an IP address.
    #[error("{value:?} is not an IP address; write for example 10.0.0.1 or fd00::1")]
    Ip {
        /// As given.
        value: String,
    },
    /// Not an address on a network.
    #[error("{value:?} is not of the form <network>/<ip>; the default network is written /10.96.0.1")]
    NetworkAddress {
        /// As given.
        value: String,
    },
    /// Not a range.
    #[error("{value:?} is not a range; write for example 10.0.0.0/8")]
    Range {
        /// As given.
        value: String,
    },
    /// Not a reference to a gateway.
    #[error("{value:?} is neither <network>/<ip> nor <namespace>/<hostname>")]
    Gateway {
        /// As given.
        value: String,
    },
    /// Not a kind of workload.
    #[error("{value:?} is not a workload type; write deployment, cronjob, pod or job")]
    Kind {
        /// As given.
        value: String,
    },
    /// Nothing to know it by.
    #[error("it has neither a uid nor a name; give one of them")]
    Nameless,
    /// The same key twice.
    #[error("{value:?} is there twice; leave one of them")]
    Twice {
        /// The key.
        value: String,
    },
}
