//! Every right that a chart asks for has its reason directly above it: whoever installs it reads why. Owns that rule; that
//! none is for everything is seen in what the charts make.

use std::path::Path;

use anyhow::{Context, Result};

/// Complaints about rules of the charts.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let charts = root.join("deploy/helm");
    let mut complaints = Vec::new();
    for chart in std::fs::read_dir(&charts).with_context(|| format!("reading {}", charts.display()))? {
        let path = chart?.path().join("templates/rbac.yaml");
        if let Ok(text) = std::fs::read_to_string(&path) {
            let shown = path.strip_prefix(root).unwrap_or(&path).display();
            complaints.extend(unexplained(&text).map(|line| {
                format!("{shown}:{line}: no reason for this right; write one as a comment directly above it")
            }));
        }
    }
    Ok(complaints)
}

/// The numbers of lines that begin a right without a comment above.
fn unexplained(text: &str) -> impl Iterator<Item = usize> {
    let lines = text.lines().map(str::trim);
    let pairs = std::iter::once("").chain(lines.clone()).zip(lines).zip(1..);
    let bare = |((above, line), _): &((&str, &str), usize)| {
        line.starts_with("- apiGroups") && !above.starts_with('#')
    };
    pairs.filter(bare).map(|(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_without_a_reason_above_it_is_found() {
        let found = |text: &str| unexplained(text).collect::<Vec<_>>();
        let right = "  - apiGroups: [apps]\n    resources: [deployments]\n";
        assert_eq!(found(&format!("rules:\n  # Deployments are made.\n{right}")), [0; 0]);
        assert_eq!(found(&format!("rules:\n{right}")), [2]);
        assert_eq!(found(&format!("rules:\n  # Deployments are made.\n{right}{right}")), [5]);
        assert_eq!(found(right), [1]);
    }
}
