//! Durations as people write them: `90s`, `5m`, `1h30m`. Whole numbers, each with its unit, the larger unit
//! first.

use std::time::Duration;

use thiserror::Error;

/// The units and their length in milliseconds, the largest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a string is no duration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// It is none at all.
    #[error("must be a duration like `90s`, `5m` or `1h30m`")]
    Form,
    /// A number stands alone.
    #[error("needs a unit: `ms`, `s`, `m`, `h` or `d`")]
    NoUnit,
    /// A unit is there twice, or after a smaller one.
    #[error("must have each unit once, the larger one first")]
    Order,
    /// More milliseconds than 64 bits hold.
    #[error("is too long a time")]
    TooLong,
}

/// A duration from its text; `0` alone needs no unit.
///
/// # Errors
/// The text is none; the error is the rest of a sentence that begins with it.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut millis = 0u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after, |c| c.is_ascii_digit());
        if number.is_empty() {
            return Err(DurationError::Form);
        }
        if unit.is_empty() {
            return Err(DurationError::NoUnit);
        }
        if !UNITS.iter().any(|&(name, _)| name == unit) {
            return Err(DurationError::Form);
        }
        let (_, length) = units.find(|&&(name, _)| name == unit).ok_or(DurationError::Order)?;
        // All digits, so the only way to fail is to be too large.
        let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
        let part = number.checked_mul(*length).ok_or(DurationError::TooLong)?;
        millis = millis.checked_add(part).ok_or(DurationError::TooLong)?;
        rest = after;
    }
    if text.is_empty() { Err(DurationError::Form) } else { Ok(Duration::from_millis(millis)) }
}

/// The text that [`parse`] reads as this duration; what is less than a millisecond is lost.
#[cfg(test)]
pub(super) fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, length) in UNITS {
        if rest >= length {
            text += &format!("{}{unit}", rest / length);
            rest %= length;
        }
    }
    if text.is_empty() { "0".to_owned() } else { text }
}

/// What was probably meant by a string that is no duration: `5 min` → `5m`, `300` → `300s`.
pub(super) fn meant(text: &str) -> Option<String> {
    let mut rest: &str = &text.to_ascii_lowercase().replace([' ', '_'], "");
    let mut repaired = String::new();
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after, |c| c.is_ascii_digit());
        let unit = match unit {
            "" | "s" | "sec" | "secs" | "second" | "seconds" => "s",
            "m" | "min" | "mins" | "minute" | "minutes" => "m",
            "h" | "hr" | "hrs" | "hour" | "hours" => "h",
            "d" | "day" | "days" => "d",
            "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => "ms",
            _ => return None,
        };
        repaired += number;
        repaired += unit;
        rest = after;
    }
    parse(&repaired).ok().map(|_| repaired)
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_add_up() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d1h1m1s1ms", 90_061_001),
            ("100m", 6_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        use DurationError::{Form, NoUnit, Order, TooLong};
        for (text, error) in [
            ("", Form),
            ("m", Form),
            ("-5m", Form),
            ("1.5h", Form),
            ("5 m", Form),
            ("5min", Form),
            ("5M", Form),
            (" 5m", Form),
            ("٥m", Form),
            ("5", NoUnit),
            ("1h30", NoUnit),
            ("30m1h", Order),
            ("1m1m", Order),
            ("99999999999999999999s", TooLong),
            ("18446744073709551615d", TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_was_meant_is_a_duration() {
        for (text, repaired) in [("300", "300s"), ("5 min", "5m"), ("1H30Min", "1h30m"), ("2 hours", "2h")] {
            assert_eq!(meant(text).as_deref(), Some(repaired));
        }
        for text in ["", "soon", "5 parsecs", "1.5h"] {
            assert_eq!(meant(text).filter(|text| !text.is_empty()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_formatted_duration_reads_back(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}|[0-9dhms ]{0,12}") {
            let _ = parse(&text);
            if let Some(repaired) = meant(&text) {
                prop_assert!(parse(&repaired).is_ok());
            }
        }
    }
}
