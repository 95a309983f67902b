//! Durations as Istio's objects write them. Those of the Gateway API have a grammar of their own, in `route`.

use std::time::Duration;

/// A unit, in billionths of a second. One that begins like another comes first.
const UNITS: [(&str, u128); 6] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
];

/// A billion hours: what is longer is a mistake.
const LONGEST: u128 = 3_600_000_000_000 * 1_000_000_000;

/// Reads a duration: `5s`, `0.5s`, `1h30m`, `100ms`.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut nanos) = (text, 0_u128);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at_checked(end)?;
        let (name, size) = UNITS.into_iter().find(|(name, _)| unit.starts_with(name))?;
        nanos = nanos.checked_add(times(number, size)?).filter(|it| *it < LONGEST)?;
        rest = unit.strip_prefix(name)?;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let below = u32::try_from(nanos % 1_000_000_000).ok()?;
    (!text.is_empty()).then(|| Duration::new(seconds, below))
}

/// So many of a unit. Of a fraction nine digits count, which is a billionth of each.
fn times(number: &str, size: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.contains('.') {
        return None;
    }
    let read = |digits: &str| if digits.is_empty() { Some(0_u128) } else { digits.parse().ok() };
    let kept = part.get(..part.len().min(9))?;
    let scale = 10_u128.checked_pow(u32::try_from(kept.len()).ok()?)?;
    let whole = read(whole)?.checked_mul(size)?;
    whole.checked_add(read(kept)?.checked_mul(size)? / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_parts_and_fractions() {
        for (text, wanted) in [
            ("5s", Some(5_000_000_000)),
            ("0.5s", Some(500_000_000)),
            (".5s", Some(500_000_000)),
            ("5.s", Some(5_000_000_000)),
            ("1.25s", Some(1_250_000_000)),
            ("0.0000000019s", Some(1)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("100ms", Some(100_000_000)),
            ("7us3ns", Some(7_003)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("1.1234567890.5s", None),
            ("-1s", None),
            ("1d", None),
            ("9999999999h", None),
            ("999999999h999999999h", None),
            ("99999999999999999999999999999999999999999999s", None),
        ] {
            assert_eq!(span(text).map(|it| it.as_nanos()), wanted, "{text}");
        }
    }
}
