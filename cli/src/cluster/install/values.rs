//! What charts are told: what the user says, over what was said before, over what the cluster shows of itself.
//! Owns that order. Whether values are any good is for the charts' schemas.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::charts::Charts;

/// Platforms that the charts know; `none` where what was found is wrong.
const PLATFORMS: [&str; 7] = ["gke", "k3d", "k3s", "microk8s", "minikube", "none", "openshift"];

/// What the user says.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Values {
    /// A value, by chart: for example istiod-lite.replicaCount=2, or global.hub=registry.example/ambit.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<String>,
    /// A file of values; later ones go before earlier ones.
    #[arg(short = 'f', long = "values", value_name = "FILE", value_parser = file)]
    files: Vec<PathBuf>,
    /// As for upstream's charts; `ambient` is what there is.
    #[arg(long, value_parser = ["ambient"])]
    profile: Option<String>,
    /// Where the runtime has its folders; else found out.
    #[arg(long, value_parser = PLATFORMS)]
    platform: Option<String>,
}

fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("a value is KEY=VALUE, for example ztunnel.logLevel=debug".to_owned()),
    }
}

fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("{error}; name a YAML file of values")),
    }
}

/// What is known beside it.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    /// As the cluster shows it.
    pub(super) platform: Option<&'static str>,
    pub(super) revision: &'a str,
    /// Node daemons, proxies and definitions are another release's: this one is a further control plane.
    pub(super) is_further: bool,
    /// What was said when it was last installed or upgraded, as YAML.
    pub(super) before: Option<String>,
}

impl Values {
    /// For Helm, the least important first.
    pub(super) fn words(&self, charts: &Charts, known: &Known<'_>) -> io::Result<Vec<OsString>> {
        let mut words: Vec<OsString> = Vec::new();
        words.extend(["--values".into(), charts.keep("found.json", &found(known).to_string())?.into()]);
        if let Some(before) = &known.before {
            words.extend(["--values".into(), charts.keep("before.yaml", before)?.into()]);
        }
        for file in &self.files {
            words.extend(["--values".into(), file.into()]);
        }
        let mut set = |value: String| words.extend(["--set".into(), value.into()]);
        if !known.revision.is_empty() {
            for part in ["istiod-lite", "ztunnel"] {
                set(format!("{part}.revision={}", known.revision));
            }
        }
        if let Some(profile) = &self.profile {
            for part in ["istiod-lite", "cni", "ztunnel"] {
                set(format!("{part}.profile={profile}"));
            }
        }
        if let Some(platform) = &self.platform {
            set(format!("global.platform={}", if platform == "none" { "" } else { platform.as_str() }));
        }
        self.set.iter().for_each(|value| set(value.clone()));
        Ok(words)
    }

    /// The platform that was named.
    pub(super) fn platform(&self) -> Option<&str> {
        self.platform.as_deref()
    }
}

fn found(known: &Known<'_>) -> Value {
    let mut values = json!({"global": {"platform": known.platform.unwrap_or_default()}});
    if known.is_further {
        for part in ["base", "cni", "ztunnel"] {
            if let Some(values) = values.as_object_mut() {
                values.insert(part.into(), json!({"enabled": false}));
            }
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_says_comes_after_what_was_said_before_and_after_what_was_found() {
        let charts = Charts::unpack().unwrap();
        let values = Values {
            set: vec!["ztunnel.logLevel=debug".into()],
            files: vec!["/my/values.yaml".into()],
            platform: Some("none".into()),
            ..Values::default()
        };
        let known = Known { platform: Some("k3s"), before: Some("cni: {}".into()), ..Known::default() };
        let words = values.words(&charts, &known).unwrap();
        let words: Vec<String> = words.iter().map(|it| it.to_string_lossy().into_owned()).collect();
        let places =
            ["found.json", "before.yaml", "/my/values.yaml", "global.platform=", "ztunnel.logLevel=debug"];
        let at: Vec<usize> =
            places.iter().map(|end| words.iter().position(|it| it.ends_with(end)).unwrap()).collect();
        assert!(at.is_sorted(), "{words:?}");
        let found = std::fs::read_to_string(charts.path().join("found.json")).unwrap();
        assert_eq!(found, r#"{"global":{"platform":"k3s"}}"#);
    }

    #[test]
    fn a_further_control_plane_brings_nothing_that_nodes_share() {
        let known = Known { revision: "blue", is_further: true, ..Known::default() };
        let found = found(&known);
        for part in ["base", "cni", "ztunnel"] {
            assert_eq!(found[part]["enabled"], false, "{part}");
        }
        let charts = Charts::unpack().unwrap();
        let words = Values::default().words(&charts, &known).unwrap();
        assert!(words.contains(&"istiod-lite.revision=blue".into()), "{words:?}");
    }

    #[test]
    fn what_is_no_value_is_refused_with_an_example() {
        assert!(assignment("a.b=").is_ok());
        for wrong in ["a.b", "=x", ""] {
            assert!(assignment(wrong).unwrap_err().contains("for example"), "{wrong}");
        }
        assert!(file("/nonexistent.yaml").unwrap_err().contains("name a YAML file"));
    }
}
