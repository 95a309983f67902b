//! What the control plane says of itself, as Prometheus reads it: beside what is measured from outside it shows whether
//! the metrics can be believed of a large mesh. Owns the asking and the reading.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// All metrics of one moment, by name and labels as they are written.
#[derive(Debug, Default)]
pub struct Said(BTreeMap<String, f64>);

impl Said {
    /// Asks.
    ///
    /// # Errors
    /// When nobody answers there, or not with metrics.
    pub async fn ask(at: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(at).await?;
        // After an answer to this version of HTTP the connection is closed.
        stream.write_all(format!("GET /metrics HTTP/1.0\r\nhost: {at}\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, text) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        Ok(Self::read(text))
    }

    fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let each = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(each.collect())
    }

    /// A metric over all its labels.
    #[must_use]
    pub fn sum(&self, metric: &str) -> f64 {
        self.of(metric).map(|(_, value)| value).sum()
    }

    /// Within how many seconds a part (of 1) of what a histogram was told since `before` was over, which is the bound
    /// of a bucket; none if nothing was told, or the part is in no bucket with a bound.
    #[must_use]
    pub fn within(&self, before: &Self, histogram: &str, part: f64) -> Option<f64> {
        let since = |said: &Self, name: &str| said.0.get(name).copied().unwrap_or_default();
        let bucket = format!("{histogram}_bucket");
        let all = self.sum(&format!("{histogram}_count")) - before.sum(&format!("{histogram}_count"));
        let mut bounds: Vec<(f64, f64)> = self
            .of(&bucket)
            .filter_map(|(name, value)| {
                let bound = name.split("le=\"").nth(1)?.split('"').next()?.parse().ok()?;
                Some((bound, value - since(before, name)))
            })
            .collect();
        bounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let enough = bounds.into_iter().find(|(_, count)| all > 0.0 && *count >= all * part);
        enough.map(|(bound, _)| bound).filter(|bound| bound.is_finite())
    }

    fn of<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let own = move |name: &str| {
            name.strip_prefix(metric).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.0.iter().filter(move |(name, _)| own(name)).map(|(name, value)| (name.as_str(), *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_over_labels_and_a_part_is_within_the_bound_of_what_came_since() {
        let before = Said::read("lag_bucket{le=\"0.1\"} 5\nlag_bucket{le=\"1.0\"} 5\nlag_count 5\n");
        let text = "# TYPE lag histogram\npushes{type=\"a\"} 2\npushes{type=\"b\"} 3\npushes_other 9\n\
                    lag_sum 1\nlag_count 105\nlag_bucket{le=\"0.1\"} 103\nlag_bucket{le=\"1.0\"} 104\nlag_bucket{le=\"+Inf\"} 105\n";
        let said = Said::read(text);
        assert!((said.sum("pushes") - 5.0).abs() < f64::EPSILON);
        let within = |part| said.within(&before, "lag", part);
        assert_eq!([within(0.98), within(0.99), within(1.0)], [Some(0.1), Some(1.0), None]);
        assert_eq!(said.within(&said, "lag", 0.5), None, "nothing came since");
    }
}
