//! The waypoint's program: reads the configuration, runs, and says in one line why not.

use std::process::ExitCode;

use ambit_process::config::Env;
use ambit_proxy::fault::chain;
use ambit_waypoint::config::Config;
use ambit_waypoint::run::run;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None | Some("proxy") => {}
        Some("version") => {
            println!("ambit-waypoint {} (tls-aws-lc)", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("help" | "--help") => {
            println!("ambit-waypoint [proxy|version|help]; settings come from the environment");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("ambit-waypoint: unknown command {other:?}; use proxy, version or help");
            return ExitCode::FAILURE;
        }
    }
    let outcome = Config::read(&Env).map_err(|faults| faults.to_string());
    match outcome.and_then(|config| run(config).map_err(|error| chain(&error))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ambit-waypoint: {why}");
            ExitCode::FAILURE
        }
    }
}
