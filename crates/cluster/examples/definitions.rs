//! Writes the resource definitions into a folder, or with `--check` says which files there are not what the types say.
//! Run by `cargo xtask crds` and `cargo xtask tidy`.

use std::path::PathBuf;
use std::process::ExitCode;

use ambit_cluster::kinds::definition;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.iter().position(|it| it == "--check").map(|at| arguments.remove(at)).is_some();
    let folder = PathBuf::from(arguments.pop().ok_or("name the folder")?);
    let mut behind = 0;
    for definition in definition::all() {
        let (path, text) = (folder.join(format!("{}.yaml", definition.plural)), definition.file()?);
        if std::fs::read_to_string(&path).is_ok_and(|have| have == text) {
            continue;
        }
        if check {
            println!("{}", path.display());
            behind += 1;
        } else {
            std::fs::write(path, text)?;
        }
    }
    Ok(if behind == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
