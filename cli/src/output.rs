//! How a command prints what it found: for a person, or for a program.

use std::error::Error;

use clap::ValueEnum;
use serde::Serialize;

/// How to print it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For a person.
    #[default]
    #[value(aliases = ["short", "table"])]
    Text,
    Json,
    Yaml,
}

/// The text of `value`; `text` says it for a person.
pub(crate) fn render<T: Serialize>(
    value: &T,
    output: Output,
    text: impl FnOnce(&T) -> String,
) -> Result<String, Box<dyn Error>> {
    let mut said = match output {
        Output::Text => text(value),
        Output::Json => serde_json::to_string_pretty(value)?,
        Output::Yaml => yaml_serde::to_string(value)?,
    };
    if !said.is_empty() && !said.ends_with('\n') {
        said.push('\n');
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_for_programs_reads_back_as_what_it_was() {
        let value =
            serde_json::json!({ "pods": [{ "name": "web", "ready": true, "ips": ["10.0.0.1", "fd00::1"] }] });
        let json = render(&value, Output::Json, |_| String::new()).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        let yaml = render(&value, Output::Yaml, |_| String::new()).unwrap();
        assert_eq!(yaml_serde::from_str::<serde_json::Value>(&yaml).unwrap(), value);
        assert_eq!(render(&value, Output::Text, |_| "one line".to_owned()).unwrap(), "one line\n");
    }
}
