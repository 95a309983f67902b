//! Why a command failed, as the CNI specification numbers it, and the error object.

use serde_json::json;

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The configuration's version is not spoken.
    Version(String),
    /// The runtime did not set what it must.
    Environment(String),
    /// Standard input is no JSON.
    Undecodable(String),
    /// The configuration lacks something, or has something impossible.
    Configuration(String),
    /// The daemon cannot be asked, or has no answer yet: the runtime should try again.
    TryAgain(String),
    /// The plugin cannot serve now.
    Unavailable(String),
    /// The daemon said no.
    Refused(String),
    /// What the daemon checked is not as it should be.
    NotAsItShouldBe(String),
}

impl Failure {
    /// The number in the error object; from 100 on they are ours.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Environment(_) => 4,
            Self::Undecodable(_) => 6,
            Self::Configuration(_) => 7,
            Self::TryAgain(_) => 11,
            Self::Unavailable(_) => 50,
            Self::Refused(_) => 100,
            Self::NotAsItShouldBe(_) => 101,
        }
    }

    /// The error object.
    #[must_use]
    pub fn object(&self, version: &str) -> String {
        let (msg, details) = match self {
            Self::Version(details) => ("the configuration's version is not supported", details),
            Self::Environment(details) => ("the environment is incomplete or wrong", details),
            Self::Undecodable(details) => ("the configuration is no JSON", details),
            Self::Configuration(details) => ("the network configuration is not usable", details),
            Self::TryAgain(details) => ("the pod cannot join the mesh yet", details),
            Self::Unavailable(details) => ("the mesh's node daemon is not available", details),
            Self::Refused(details) => ("the mesh's node daemon refused", details),
            Self::NotAsItShouldBe(details) => ("the pod's redirection is not as it should be", details),
        };
        json!({ "cniVersion": version, "code": self.code(), "msg": msg, "details": details }).to_string()
    }
}
