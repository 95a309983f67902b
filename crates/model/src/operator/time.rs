//! Times as operators write them: the forms of `strftime`, in UTC. Owns the calendar.

use std::fmt::Write;
use std::time::SystemTime;

/// Days from the first of March of the year 0, from which years end with their leap day, to the first of January of 1970.
const DAYS_BEFORE: i64 = 719_468;
/// Days of 400 years.
const ERA: i64 = 146_097;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEK: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TimeForm(Box<[Piece]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Year,
    ShortYear,
    Month,
    MonthName,
    Day,
    DayName,
    Hour,
    Minute,
    Second,
    /// Since 1970.
    Seconds,
    /// So many digits of the fraction.
    Fraction(usize),
}

impl TimeForm {
    /// Reads one; none is written as RFC 3339 has it, to milliseconds. Nothing: it holds what is not known here.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = if text.is_empty() { "%Y-%m-%dT%H:%M:%E3SZ" } else { text };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            rest = piece(after, &mut pieces)?;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Some(Self(pieces.into()))
    }

    pub(super) fn of(&self, time: SystemTime) -> String {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = date(days);
        let mut text = String::new();
        for piece in &self.0 {
            // Writing into a text does not fail.
            let _ = match piece {
                Piece::Text(it) => text.write_str(it),
                Piece::Year => write!(text, "{year:04}"),
                Piece::ShortYear => write!(text, "{:02}", year.rem_euclid(100)),
                Piece::Month => write!(text, "{month:02}"),
                Piece::MonthName => text.write_str(named(&MONTHS, month - 1)),
                Piece::Day => write!(text, "{day:02}"),
                Piece::DayName => text.write_str(named(&WEEK, (days + 4).rem_euclid(7))),
                Piece::Hour => write!(text, "{:02}", of_day / 3_600),
                Piece::Minute => write!(text, "{:02}", of_day / 60 % 60),
                Piece::Second => write!(text, "{:02}", of_day % 60),
                Piece::Seconds => write!(text, "{seconds}"),
                Piece::Fraction(digits) => {
                    let all = format!("{:09}", since.subsec_nanos());
                    text.write_str(all.get(..*digits).unwrap_or(&all))
                }
            };
        }
        text
    }
}

/// One form behind its `%`, and what follows it.
fn piece<'a>(text: &'a str, to: &mut Vec<Piece>) -> Option<&'a str> {
    let mut chars = text.chars();
    let first = chars.next()?;
    let plain = |it: &str| Piece::Text(it.into());
    let all = match first {
        '%' => vec![plain("%")],
        'Y' => vec![Piece::Year],
        'y' => vec![Piece::ShortYear],
        'm' => vec![Piece::Month],
        'b' => vec![Piece::MonthName],
        'd' => vec![Piece::Day],
        'a' => vec![Piece::DayName],
        'H' => vec![Piece::Hour],
        'M' => vec![Piece::Minute],
        'S' => vec![Piece::Second],
        's' => vec![Piece::Seconds],
        'f' => vec![Piece::Fraction(9)],
        'z' => vec![plain("+0000")],
        'Z' => vec![plain("UTC")],
        'F' => vec![Piece::Year, plain("-"), Piece::Month, plain("-"), Piece::Day],
        'T' => vec![Piece::Hour, plain(":"), Piece::Minute, plain(":"), Piece::Second],
        '1'..='9' if chars.next() == Some('f') => vec![Piece::Fraction(digits(first))],
        'E' => {
            let (count, unit) = (chars.next()?, chars.next()?);
            if !('1'..='9').contains(&count) || unit != 'S' {
                return None;
            }
            vec![Piece::Second, plain("."), Piece::Fraction(digits(count))]
        }
        _ => return None,
    };
    to.extend(all);
    Some(chars.as_str())
}

fn digits(c: char) -> usize {
    c.to_digit(10).and_then(|it| usize::try_from(it).ok()).unwrap_or_default()
}

fn named(names: &[&'static str], at: i64) -> &'static str {
    usize::try_from(at).ok().and_then(|at| names.get(at).copied()).unwrap_or_default()
}

/// Year, month and day of a day since 1970, in the Gregorian calendar.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + DAYS_BEFORE;
    let (era, of_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
    // Without its leap days an era is 400 years of 365 days: a day every 4 years, but for every 100, and the last one.
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days, over and over.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_written_in_the_form_that_is_asked_for() {
        for (form, seconds, nanos, wanted) in [
            ("", 0, 0, "1970-01-01T00:00:00.000Z"),
            ("", 951_782_399, 999_999_999, "2000-02-28T23:59:59.999Z"),
            ("", 951_782_400, 1_000_000, "2000-02-29T00:00:00.001Z"),
            ("", 1_709_251_199, 0, "2024-02-29T23:59:59.000Z"),
            ("", 4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
            ("%d/%b/%Y:%T %z", 1_795_352_257, 0, "22/Nov/2026:12:57:37 +0000"),
            ("%a %F %y %Z", 1_795_352_257, 0, "Sun 2026-11-22 26 UTC"),
            ("%s.%3f", 5, 123_456_789, "5.123"),
            ("%f|%E6S|100%%", 5, 123_456_789, "123456789|05.123456|100%"),
        ] {
            let form = TimeForm::read(form).unwrap();
            assert_eq!(form.of(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)), wanted);
        }
        for unknown in ["%Q", "%", "%E", "%E0S", "%0f", "%3x"] {
            assert_eq!(TimeForm::read(unknown), None, "{unknown}");
        }
    }
}
