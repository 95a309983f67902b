//! The charts that this program was built with, and a folder of them for Helm. Owns the folder while it is needed.

use std::path::PathBuf;
use std::{fs, io};

use tempfile::TempDir;

include!(concat!(env!("OUT_DIR"), "/charts.rs"));

/// A folder with the charts, which goes when this is dropped.
#[derive(Debug)]
pub(super) struct Charts(TempDir);

impl Charts {
    /// Writes them to a folder that nobody else can read.
    pub(super) fn unpack() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ambit-charts-").tempdir()?;
        for (name, text) in FILES {
            let path = folder.path().join("charts").join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, text)?;
        }
        Ok(Self(folder))
    }

    /// The chart of all.
    pub(super) fn all(&self) -> PathBuf {
        self.0.path().join("charts/ambit")
    }

    /// Keeps values beside the charts.
    pub(super) fn keep(&self, name: &str, values: &str) -> io::Result<PathBuf> {
        let path = self.0.path().join(name);
        fs::write(&path, values)?;
        Ok(path)
    }

    /// Where it is.
    #[cfg(test)]
    pub(super) fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chart_of_all_is_whole_with_every_chart_in_it_and_goes_when_it_is_not_needed() {
        let charts = Charts::unpack().unwrap();
        let all = charts.all();
        for file in ["Chart.yaml", "values.schema.json", "charts/base/files/crds/serviceentries.yaml"] {
            assert!(all.join(file).is_file(), "{file}");
        }
        for part in ["base", "istiod-lite", "cni", "ztunnel"] {
            assert!(all.join("charts").join(part).join("Chart.yaml").is_file(), "{part}");
        }
        let folder = charts.path().to_owned();
        drop(charts);
        assert!(!folder.exists());
    }
}
