//! Lines of access logs, as the mesh's configuration has them: for all of the mesh (`accessLogFile`, `accessLogEncoding`,
//! `accessLogFormat`), and for those who name an extension provider (`envoyFileAccessLog`). Owns how they are written, which
//! form of lines they mean, and what is wrong with one.

use std::collections::BTreeMap;

use ambit_model::name::Label;
use ambit_model::operator::{LineFormat, LineKind, Template};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::fault::Wrong;

/// Members of one line.
const MEMBERS: usize = 128;

/// What is said for all of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessLog {
    /// Where lines go: an empty one is nowhere.
    pub access_log_file: Option<String>,
    /// `TEXT` or `JSON`.
    pub access_log_encoding: Option<String>,
    /// A text with operators, or an object of such texts.
    pub access_log_format: String,
}

/// Lines are written where the waypoint writes what it has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileLog {
    /// The file.
    pub path: String,
    /// How they are written; none: as for all of the mesh.
    pub log_format: Option<LogFormat>,
    /// Whether what is not known is left out.
    pub omit_empty_values: bool,
}

/// How lines are written: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFormat {
    /// A text with operators.
    pub text: Option<String>,
    /// Members of an object, each of such a text.
    pub labels: Option<BTreeMap<String, Value>>,
}

impl AccessLog {
    /// Whether it is said that there are no lines.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.access_log_file.as_deref() == Some("")
    }

    /// The form that is asked for; none: the waypoint's own.
    ///
    /// # Errors
    /// When it does not read.
    pub fn format(&self) -> Result<Option<LineFormat>, Wrong> {
        let field = "data.mesh: accessLogFormat";
        let format = self.access_log_format.as_str();
        let format = match (self.access_log_encoding.as_deref(), format) {
            (None, "") => return Ok(None),
            (Some("JSON"), "") => LineFormat::usual_json().ok(),
            (Some("TEXT"), "") => LineFormat::usual_text().ok(),
            (None | Some("TEXT"), text) => {
                Some(LineFormat { of: LineKind::Text(template(field, text)?), omit_empty: false })
            }
            (Some("JSON"), text) => {
                let wrong = |_| {
                    let remedy = "write an object, as {\"method\": \"%REQ(:METHOD)%\"}";
                    Wrong::field(field, text, "not an object of JSON", remedy)
                };
                let all: Map<String, Value> = serde_json::from_str(text).map_err(wrong)?;
                Some(LineFormat { of: LineKind::Json(members(field, &all)?), omit_empty: false })
            }
            (Some(other), _) => {
                let field = "data.mesh: accessLogEncoding";
                return Err(Wrong::field(field, other, "not an encoding", "write TEXT or JSON"));
            }
        };
        Ok(format)
    }
}

impl FileLog {
    /// The form that is asked for; none: that of all of the mesh.
    ///
    /// # Errors
    /// When it does not read.
    pub fn format(&self, field: &str) -> Result<Option<LineFormat>, Wrong> {
        let Some(LogFormat { text, labels }) = &self.log_format else { return Ok(None) };
        let of = match (text, labels) {
            (Some(text), None) => LineKind::Text(template(&format!("{field}.logFormat.text"), text)?),
            (None, Some(labels)) => LineKind::Json(members(&format!("{field}.logFormat.labels"), labels)?),
            (Some(_), Some(_)) | (None, None) => {
                let remedy = "give one of text and labels";
                return Err(Wrong::field(format!("{field}.logFormat"), "", "not one form", remedy));
            }
        };
        Ok(Some(LineFormat { of, omit_empty: self.omit_empty_values }))
    }
}

fn template(field: &str, text: &str) -> Result<Template, Wrong> {
    text.parse().map_err(|error: ambit_model::operator::TemplateError| {
        Wrong::field(field, text, format!("at byte {}: {}", error.at, error.problem), error.remedy)
    })
}

fn members<'a>(
    field: &str,
    all: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> Result<Vec<(Label, Template)>, Wrong> {
    let mut read = Vec::new();
    for (name, value) in all {
        let field = format!("{field}.{name}");
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(it) => it.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                let remedy = "write a text, as \"%PROTOCOL%\"";
                return Err(Wrong::field(field, &value.to_string(), "not a text", remedy));
            }
        };
        read.push((name.as_str().into(), template(&field, &text)?));
    }
    if read.len() > MEMBERS {
        let found = read.len().to_string();
        return Err(Wrong::field(field, &found, "more than 128 members", "write fewer"));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(yaml: &str) -> Result<Option<LineFormat>, Wrong> {
        yaml_serde::from_str::<AccessLog>(yaml).unwrap().format()
    }

    fn told(wrong: &Wrong) -> String {
        format!("{} {}: {}", wrong.field, wrong.value, wrong.problem)
    }

    #[test]
    fn lines_of_all_of_the_mesh_are_as_asked_for_and_our_own_without_a_word() {
        let text = |text: &str| LineFormat { of: LineKind::Text(text.parse().unwrap()), omit_empty: false };
        for (yaml, wanted) in [
            ("{}", None),
            ("{accessLogFile: /dev/stdout}", None),
            ("{accessLogFile: '', accessLogEncoding: JSON}", LineFormat::usual_json().ok()),
            ("{accessLogEncoding: TEXT}", LineFormat::usual_text().ok()),
            ("{accessLogFormat: '%PROTOCOL%'}", Some(text("%PROTOCOL%"))),
            ("{accessLogFormat: '%PROTOCOL%', accessLogEncoding: TEXT}", Some(text("%PROTOCOL%"))),
        ] {
            assert_eq!(log(yaml).unwrap(), wanted, "{yaml}");
        }
        let json = log("{accessLogEncoding: JSON, accessLogFormat: '{\"p\": \"%PROTOCOL%\", \"n\": 5}'}");
        let LineKind::Json(members) = json.unwrap().unwrap().of else { panic!("no object") };
        let shown: Vec<_> = members.iter().map(|(name, text)| format!("{name}={text}")).collect();
        assert_eq!(shown, ["n=5", "p=%PROTOCOL%"]);
        let off = |yaml: &str| yaml_serde::from_str::<AccessLog>(yaml).unwrap().is_off();
        assert!(off("{accessLogFile: ''}") && !off("{}") && !off("{accessLogFile: /dev/stdout}"));
    }

    #[test]
    fn what_is_no_form_of_lines_is_refused_by_its_field() {
        let many: String = (0..=MEMBERS).map(|at| format!("a{at}: b, ")).collect();
        for (yaml, wanted) in [
            ("{accessLogEncoding: XML}", "accessLogEncoding XML"),
            ("{accessLogFormat: '50% off'}", "at byte 3"),
            ("{accessLogEncoding: JSON, accessLogFormat: '[]'}", "not an object"),
            ("{accessLogEncoding: JSON, accessLogFormat: '{\"a\": {}}'}", "accessLogFormat.a {}: not a text"),
        ] {
            let wrong = told(&log(yaml).unwrap_err());
            assert!(wrong.contains(wanted), "{wanted} in {wrong}");
        }
        for (yaml, wanted) in [
            ("{logFormat: {}}", "p.logFormat"),
            ("{logFormat: {text: a, labels: {}}}", "p.logFormat"),
            ("{logFormat: {text: 'a%'}}", "p.logFormat.text"),
            ("{logFormat: {labels: {a: [b]}}}", "p.logFormat.labels.a"),
            (format!("{{logFormat: {{labels: {{{many}}}}}}}").as_str(), "more than 128"),
        ] {
            let file: FileLog = yaml_serde::from_str(yaml).unwrap();
            let wrong = told(&file.format("p").unwrap_err());
            assert!(wrong.contains(wanted), "{wanted} in {wrong}");
        }
        let file: FileLog =
            yaml_serde::from_str("{logFormat: {labels: {a: b}}, omitEmptyValues: true}").unwrap();
        assert!(file.format("p").unwrap().unwrap().omit_empty);
        assert_eq!(FileLog::default().format("p").unwrap(), None);
    }
}
