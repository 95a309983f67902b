//! The Gateway API's definitions of resources, from its Go module. Owns finding and installing them; a cluster does not
//! have them by itself, and most stories do without.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::binaries;
use crate::lab::Lab;

/// What of the API is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// What is stable.
    Standard,
    /// That, and fields and kinds that may still change.
    Experimental,
}

/// Definitions that the API server has taken are served a moment later.
const SERVED: Duration = Duration::from_secs(60);

impl Channel {
    fn folder(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Experimental => "experimental",
        }
    }
}

impl Lab {
    /// Installs the Gateway API's definitions, and waits until they are served.
    pub fn install_gateway_api(&self, channel: Channel) -> Result<()> {
        let mut words: Vec<String> =
            ["apply", "--server-side", "--force-conflicts"].map(str::to_owned).into();
        let files = files(channel)?;
        words.extend(files.iter().flat_map(|file| ["-f".to_owned(), file.display().to_string()]));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.kubectl(&words)?;
        let names = "jsonpath={range .items[?(@.spec.group=='gateway.networking.k8s.io')]}{.metadata.name}=\
                     {.status.conditions[?(@.type=='Established')].status} {end}";
        self.wait("the Gateway API to be served", SERVED, || {
            let said = self.kubectl(&["get", "customresourcedefinitions", "-o", names])?;
            let all = said.split_whitespace();
            ensure!(all.clone().count() > 0 && all.clone().all(|it| it.ends_with("=True")), "{said}");
            Ok(())
        })
    }
}

/// Of a channel, without the list of files for a tool that is not used here.
fn files(channel: Channel) -> Result<Vec<PathBuf>> {
    let folder = binaries::gateway_api()?.join("config/crd").join(channel.folder());
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|it| is_of_api(it)).collect();
    files.sort();
    ensure!(!files.is_empty(), "there is nothing in {}", folder.display());
    Ok(files)
}

fn is_of_api(file: &Path) -> bool {
    file.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("gateway.networking."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_channels_have_routes_and_gateways_and_nothing_that_is_not_an_object() {
        for channel in [Channel::Standard, Channel::Experimental] {
            let files = files(channel).unwrap();
            let has = |what: &str| files.iter().any(|file| file.ends_with(what));
            assert!(has("gateway.networking.k8s.io_httproutes.yaml"), "{files:?}");
            assert!(has("gateway.networking.k8s.io_gateways.yaml"), "{files:?}");
            assert!(!has("kustomization.yaml"), "{files:?}");
        }
    }
}
