//! `ambit local logs`: the end of a log, and what is added to it.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::mesh::Mesh;
use super::report::{self, Component};
use super::show::find_pod;
use super::spec::{SUPERVISOR, supervisor};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What `ambit local logs` is told.
#[derive(Debug, Clone, Args)]
pub(super) struct LogsArgs {
    /// A program, a pod, or `supervisor`.
    #[arg(default_value = SUPERVISOR)]
    what: String,
    /// Only this container of the pod.
    #[arg(short, long)]
    container: Option<String>,
    /// Go on with what is added, until interrupted or until the mesh is down.
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines of what is there.
    #[arg(long)]
    tail: Option<usize>,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error("{pod} has no container {container}")]
    NoContainer { pod: String, container: String },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
}

pub(super) fn print(mesh: &Mesh, args: &LogsArgs) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let mut open = Vec::new();
    for path in paths(mesh, args)? {
        let read = |source| LogError::Read { path: path.clone(), source };
        let mut file = File::open(&path).map_err(read)?;
        skip(&mut file, args.tail).map_err(read)?;
        open.push(file);
    }
    loop {
        let mut more = 0;
        for file in &mut open {
            match io::copy(file, &mut out).and_then(|count| out.flush().map(|()| count)) {
                Ok(count) => more += count,
                // As at the end of `logs -f … | head`: nobody wants more.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(Box::new(error)),
            }
        }
        if !args.follow || (more == 0 && supervisor(mesh).is_none()) {
            return Ok(());
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

fn paths(mesh: &Mesh, args: &LogsArgs) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    if args.what == SUPERVISOR {
        return Ok(vec![mesh.log(SUPERVISOR)]);
    }
    let status = report::status(mesh)?;
    if let Ok(component) = args.what.parse::<Component>()
        && let Some(found) = status.components.iter().find(|c| c.component == component)
    {
        return Ok(vec![found.log.clone()]);
    }
    let pod = find_pod(&status, &args.what)?;
    let wanted = |name: &str| args.container.as_deref().is_none_or(|only| only == name);
    let logs: Vec<_> = pod.containers.into_iter().filter(|c| wanted(&c.name)).map(|c| c.log).collect();
    match &args.container {
        Some(container) if logs.is_empty() => {
            Err(Box::new(LogError::NoContainer { pod: args.what.clone(), container: container.clone() }))
        }
        _ => Ok(logs.into_iter().filter(|path| Path::exists(path)).collect()),
    }
}

/// Leaves the file where its last `tail` lines begin.
fn skip(file: &mut File, tail: Option<usize>) -> io::Result<()> {
    let Some(tail) = tail else { return Ok(()) };
    let lines = BufReader::new(&mut *file).split(b'\n').count();
    file.rewind()?;
    let mut reader = BufReader::new(&mut *file);
    let mut before = 0;
    for _ in 0..lines.saturating_sub(tail) {
        before += reader.skip_until(b'\n')?;
    }
    let before = u64::try_from(before).map_err(io::Error::other)?;
    file.seek(SeekFrom::Start(before)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_tail_is_the_last_lines_also_when_the_last_has_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for (text, tail, wanted) in [
            ("a\nb\nc\n", Some(2), "b\nc\n"),
            ("a\nb\nc", Some(1), "c"),
            ("a\n", Some(5), "a\n"),
            ("a\nb\n", Some(0), ""),
            ("a\nb\n", None, "a\nb\n"),
        ] {
            std::fs::write(&path, text).unwrap();
            let mut file = File::open(&path).unwrap();
            skip(&mut file, tail).unwrap();
            let mut rest = String::new();
            file.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, wanted, "{text:?} {tail:?}");
        }
    }
}
