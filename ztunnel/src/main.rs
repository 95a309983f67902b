//! The node proxy's program: reads the configuration, runs, and says in one line why not.

use std::process::ExitCode;

use ambit_process::config::Env;
use ambit_sys::heap::Heap;
use ambit_ztunnel::config::Config;
use ambit_ztunnel::outcome::chain;
use ambit_ztunnel::run::run;

/// Of an idle tunnel's buffers only what is used is to be in memory.
#[global_allocator]
static HEAP: Heap = Heap;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None | Some("proxy") => {}
        Some("version") => {
            println!("ztunnel {} (tls-aws-lc)", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("help" | "--help") => {
            println!("ztunnel [proxy|version|help]; settings come from the environment");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("ztunnel: unknown command {other:?}; use proxy, version or help");
            return ExitCode::FAILURE;
        }
    }
    let outcome = Config::read(&Env).map_err(|faults| faults.to_string());
    match outcome.and_then(|config| run(config).map_err(|error| chain(&error))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ztunnel: {why}");
            ExitCode::FAILURE
        }
    }
}
