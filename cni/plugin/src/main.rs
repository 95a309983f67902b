//! Entry point: surroundings in, answer out.

use std::io::{Read, Write, stderr, stdin, stdout};
use std::process::ExitCode;

use ambit_cni_plugin::{Answer, Surroundings, run};

/// A configuration with a large previous result is some kilobytes.
const INPUT: u64 = 4 << 20;

fn main() -> ExitCode {
    let mut input = Vec::new();
    // What could not be read does not decode either, and is answered as such.
    let _ = stdin().take(INPUT).read_to_end(&mut input);
    let Answer { output, note, good } = run(&Surroundings::of_process(), &input);
    // Nobody is left to be told of a closed pipe.
    let _ = stderr().write_all(note.as_bytes());
    let _ = stdout().write_all(output.as_bytes());
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
