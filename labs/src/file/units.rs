//! Units of links: times, parts and rates as they stand in a file.

use std::time::Duration;

pub(super) const TIME_HELP: &str = "write a whole number and its unit: \"500us\", \"5ms\", \"1s\"";
pub(super) const PART_HELP: &str = "write a part of a hundred: \"1%\", \"0.5%\"";
pub(super) const RATE_HELP: &str =
    "write bits a second: \"64kbit\", \"100mbit\", \"1gbit\"; \"none\" for no limit";

/// `500us`, `5ms`, `1s`; none at all is `0ms`.
pub(super) fn time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

/// `1%` is 0.01; 0 to 100.
pub(super) fn part(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?;
    let plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let percent: f64 = number.parse().ok().filter(|_| plain)?;
    (percent <= 100.0).then_some(percent / 100.0)
}

/// `100mbit` is 10^8 bits a second; `none` is no limit.
pub(super) fn rate(text: &str) -> Option<Option<u64>> {
    if text == "none" {
        return Some(None);
    }
    let (number, unit) = split(text)?;
    let unit = match unit {
        "kbit" => 1_000,
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return None,
    };
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    number.checked_mul(unit).map(Some)
}

fn split(text: &str) -> Option<(&str, &str)> {
    Some(text.split_at(text.find(|c: char| !c.is_ascii_digit())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_nothing_else_is() {
        assert_eq!(time("500us"), Some(Duration::from_micros(500)));
        assert_eq!(time("0ms"), Some(Duration::ZERO));
        assert_eq!(part("0.5%"), Some(0.005));
        assert_eq!(part("100%"), Some(1.0));
        assert_eq!(rate("100mbit"), Some(Some(100_000_000)));
        assert_eq!(rate("none"), Some(None));
        for wrong in ["", "5", "ms", "1.5ms", "5m", "-1ms"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        for wrong in ["", "1", "%", "101%", "-1%", "nan%", "1e1%", ".5%"] {
            assert_eq!(part(wrong), None, "{wrong}");
        }
        for wrong in ["", "0mbit", "1", "1mb", "99999999999999gbit"] {
            assert_eq!(rate(wrong), None, "{wrong}");
        }
    }
}
