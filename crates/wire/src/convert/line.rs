//! How lines of access logs are written. Owns its message, which is of our own schema: a text that cannot be read is refused
//! whole, and the former version stays in force.

use ambit_model::operator::{LineFormat, LineKind, Template};

use super::{ConvertError, check_count};
use crate::limits;
use crate::pb::waypoint as pb;

pub(super) fn format_from_pb(raw: pb::LineFormat) -> Result<LineFormat, ConvertError> {
    let pb::LineFormat { text, members, omit_empty } = raw;
    check_count("log.members", limits::LINE_MEMBERS, members.len())?;
    let of = if text.is_empty() {
        let member = |pb::LineMember { name, text }| Ok((name.into(), template(text)?));
        LineKind::Json(members.into_iter().map(member).collect::<Result<_, ConvertError>>()?)
    } else {
        LineKind::Text(template(text)?)
    };
    Ok(LineFormat { of, omit_empty })
}

fn template(text: String) -> Result<Template, ConvertError> {
    let wanted = "a text with operators, as %PROTOCOL%, and %% for a percent sign";
    text.parse().map_err(|_| ConvertError::Value { field: "log.text", value: text, wanted })
}

pub(super) fn format_to_pb(format: &LineFormat) -> pb::LineFormat {
    let LineFormat { of, omit_empty } = format;
    let (text, members) = match of {
        LineKind::Text(template) => (template.to_string(), Vec::new()),
        LineKind::Json(members) => (
            String::new(),
            members
                .iter()
                .map(|(name, text)| pb::LineMember { name: name.to_string(), text: text.to_string() })
                .collect(),
        ),
    };
    pb::LineFormat { text, members, omit_empty: *omit_empty }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_lines_are_written_reads_back_as_it_was_and_what_is_no_text_with_operators_is_refused() {
        for format in [LineFormat::usual_text().unwrap(), LineFormat::usual_json().unwrap()] {
            assert_eq!(format_from_pb(format_to_pb(&format)).unwrap(), format);
        }
        let raw = pb::LineFormat { text: "50% off".into(), ..pb::LineFormat::default() };
        let error = format_from_pb(raw).unwrap_err();
        assert!(matches!(error, ConvertError::Value { field: "log.text", .. }), "{error}");
        let member = pb::LineMember { name: "a".into(), text: "b".into() };
        let raw =
            pb::LineFormat { members: vec![member; limits::LINE_MEMBERS + 1], ..pb::LineFormat::default() };
        assert!(matches!(format_from_pb(raw), Err(ConvertError::TooMany { field: "log.members", .. })));
    }
}
