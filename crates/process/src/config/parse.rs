//! Texts to values, for configuration keys. Owns the accepted forms and the words that name them.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Any text.
///
/// # Errors
/// Never; the signature is that of every parser.
pub fn text(given: &str) -> Result<String, String> {
    Ok(given.to_owned())
}

/// A path.
///
/// # Errors
/// When it is empty.
pub fn path(given: &str) -> Result<PathBuf, String> {
    if given.is_empty() { Err("give a path".into()) } else { Ok(given.into()) }
}

/// Exactly `true` or `false`.
///
/// # Errors
/// Anything else.
pub fn flag(given: &str) -> Result<bool, String> {
    given.parse().map_err(|_| "write true or false".into())
}

/// A whole number that fits its type.
///
/// # Errors
/// Anything else.
pub fn number<T: FromStr>(given: &str) -> Result<T, String> {
    given.parse().map_err(|_| "write a whole number in range".into())
}

/// Parts between commas, trimmed, empty ones left out.
///
/// # Errors
/// Never; the signature is that of every parser.
pub fn list(given: &str) -> Result<Vec<String>, String> {
    Ok(given.split(',').map(str::trim).filter(|part| !part.is_empty()).map(String::from).collect())
}

/// `1h30m`, `5s`, `250ms`; a bare number is seconds.
///
/// # Errors
/// Anything else.
pub fn duration(given: &str) -> Result<Duration, String> {
    let refuse = || "write a duration such as 30, 5s, 250ms or 1h30m".to_owned();
    if let Ok(seconds) = given.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = given;
    while !rest.is_empty() {
        let (digits, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let amount: u64 = digits.parse().map_err(|_| refuse())?;
        let part = match unit {
            "ms" => Duration::from_millis(amount),
            "s" => Duration::from_secs(amount),
            "m" => Duration::from_secs(amount.checked_mul(60).ok_or_else(refuse)?),
            "h" => Duration::from_secs(amount.checked_mul(3600).ok_or_else(refuse)?),
            _ => return Err(refuse()),
        };
        total = total.checked_add(part).ok_or_else(refuse)?;
        rest = tail;
    }
    if given.is_empty() { Err(refuse()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units_and_bare_seconds() {
        for (given, millis) in [("5", 5000), ("250ms", 250), ("1h30m", 5_400_000), ("1m1s", 61_000), ("0", 0)]
        {
            assert_eq!(duration(given), Ok(Duration::from_millis(millis)), "{given}");
        }
    }

    #[test]
    fn other_texts_are_no_duration() {
        for given in ["", "s", "5x", "-1", "1.5s", "99999999999999999999", "99999999999999999h", "5 s"] {
            assert!(duration(given).is_err(), "{given}");
        }
    }
}
