//! `ambit ztunnel-config log`: levels of node proxies' logs, shown or set. Owns how people write them.

use std::error::Error;

use clap::Args;
use http::Method;

use super::fetch::{Whose, choose};
use crate::cluster::Which;

/// What `ambit ztunnel-config log` is told.
#[derive(Debug, Clone, Args)]
pub(super) struct LogArgs {
    #[command(flatten)]
    whose: Whose,
    /// `[TARGET:]LEVEL,…`: trace, debug, info, warning, error, critical or off.
    #[arg(long, value_parser = directives)]
    level: Option<String>,
    /// Back to what it was at the start, first.
    #[arg(short, long)]
    reset: bool,
}

/// Each proxy's own answer.
pub(super) async fn run(which: &Which, args: &LogArgs) -> Result<String, Box<dyn Error>> {
    if args.whose.file.is_some() {
        return Err("a file has no log; name a pod or a node instead of --file".into());
    }
    let client = which.client().await?;
    let (chosen, _) = choose(&client, which, &args.whose, true).await?;
    let mut text = String::new();
    for part in chosen {
        let port = part.port(args.whose.proxy_admin_port);
        let answer = client.ask_port(port, Method::POST, &path(args.level.as_deref(), args.reset)).await?;
        let said = answer.body.trim();
        if answer.status != 200 {
            return Err(format!("{} refuses: {said}", part.name).into());
        }
        text.push_str(&format!("{}.{}: {said}\n", part.name, part.namespace));
    }
    Ok(text)
}

fn path(level: Option<&str>, reset: bool) -> String {
    let level = level.map(|level| format!("level={level}"));
    let query: Vec<String> = level.into_iter().chain(reset.then(|| "reset".to_owned())).collect();
    if query.is_empty() { "/logging".into() } else { format!("/logging?{}", query.join("&")) }
}

/// As the proxies read it: `TARGET=LEVEL,…`, with their names of levels.
fn directives(text: &str) -> Result<String, String> {
    let one = |part: &str| {
        let (target, level) =
            part.rsplit_once(':').map_or((None, part), |(target, level)| (Some(target), level));
        let level = match level.trim().to_ascii_lowercase().as_str() {
            level @ ("trace" | "debug" | "info" | "error" | "off") => level.to_owned(),
            "warn" | "warning" => "warn".into(),
            // There is none above an error.
            "critical" => "error".into(),
            other => {
                return Err(format!(
                    "{other:?} is no level; one of trace, debug, info, warning, error, critical, off"
                ));
            }
        };
        let plain = |target: &str| target.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        match target {
            None => Ok(level),
            Some(target) if !target.is_empty() && plain(target) => Ok(format!("{target}={level}")),
            Some(target) => {
                Err(format!("{target:?} is no target; write it as in the log: access, or module::path"))
            }
        }
    };
    Ok(text.split(',').map(one).collect::<Result<Vec<_>, _>>()?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_as_istioctl_takes_them_and_sent_as_ztunnel_reads_them() {
        for (given, sent) in [
            ("debug", "debug"),
            ("warning", "warn"),
            ("access:off,ztunnel::inbound:trace", "access=off,ztunnel::inbound=trace"),
            ("info,access:critical", "info,access=error"),
        ] {
            assert_eq!(directives(given).as_deref(), Ok(sent), "{given}");
        }
        for wrong in ["loud", "a b:info", ":info", "x&y:info", ""] {
            assert!(directives(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_asked_for_only_shows_the_level() {
        assert_eq!(path(None, false), "/logging");
        assert_eq!(path(Some("access=off"), true), "/logging?level=access=off&reset");
    }
}
