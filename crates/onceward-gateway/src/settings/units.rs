//! Durations (`30s`, `1h 30m`) and byte sizes (`1MiB`) as people write them.

use std::time::Duration;

/// Longer spans are typing errors, and would overflow a date sooner or later.
const DURATION_MAX: Duration = Duration::from_secs(36_500 * 24 * 3600);

const DURATION_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const BYTE_UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
];

/// A duration of whole milliseconds: numbers with one of `ms s m h d` each, added up, or a bare `0`. Any other
/// bare number is refused, since nobody can tell seconds from milliseconds.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut sum_ms = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let unit_len = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(unit_len);
        let (_, unit_ms) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        sum_ms = sum_ms.checked_add(number.checked_mul(*unit_ms)?)?;
        rest = if after.is_empty() { after } else { after.trim_start_matches(' ') };
    }
    let sum = Duration::from_millis(sum_ms);
    (!text.is_empty() && !text.ends_with(' ') && sum <= DURATION_MAX).then_some(sum)
}

/// The shortest usual way to write a duration; below a millisecond is cut off.
pub(crate) fn show_duration(it: Duration) -> String {
    let (secs, ms) = (it.as_secs(), it.subsec_millis());
    match secs {
        0 if ms == 0 => "0".into(),
        _ if ms != 0 => format!("{}ms", it.as_millis()),
        // `24h` and `60s` are how people write these, so the larger unit starts at two of it.
        _ if secs.is_multiple_of(86_400) && secs > 86_400 => format!("{}d", secs / 86_400),
        _ if secs.is_multiple_of(3600) => format!("{}h", secs / 3600),
        _ if secs.is_multiple_of(60) && secs > 60 => format!("{}m", secs / 60),
        _ => format!("{secs}s"),
    }
}

/// A number of bytes: bare, or with a unit in any case. `1M` is refused: it means two things.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, after) = leading_number(text)?;
    let unit = after.trim_start_matches(' ').to_ascii_lowercase();
    if after.is_empty() {
        return Some(number);
    }
    let (_, unit_bytes) = BYTE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*unit_bytes)
}

/// A byte size in the largest binary unit that divides it.
pub(crate) fn show_bytes(it: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.iter().find(|(_, shift)| it != 0 && it.trailing_zeros() >= *shift);
    whole.map_or_else(|| format!("{it}B"), |(name, shift)| format!("{}{name}", it >> shift))
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = text.split_at(len);
    Some((digits.parse().ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units() {
        let ms = |text| duration(text).map(|it| u64::try_from(it.as_millis()).unwrap());
        for (text, expected) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("10m", Some(600_000)),
            ("24h", Some(86_400_000)),
            ("7d", Some(604_800_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("36500d", Some(3_153_600_000_000)),
        ] {
            assert_eq!(ms(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_could_mean_something_else_is_no_duration() {
        for text in ["", " ", "30", "s", "-1s", "1.5h", "10M", "1w", "30 s", "30s ", " 30s", "36501d", "１s"]
        {
            assert_eq!(duration(text), None, "{text:?}");
        }
        assert_eq!(duration("99999999999999999999s"), None);
        assert_eq!(duration("18446744073709551615d"), None);
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for text in ["0", "1ms", "1500ms", "1s", "60s", "75s", "2m", "10m", "1h", "24h", "25h", "2d", "7d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_byte_size_is_a_number_with_a_clear_unit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("12B", Some(12)),
            ("64KiB", Some(64 << 10)),
            ("1MiB", Some(1 << 20)),
            ("1 mib", Some(1 << 20)),
            ("2GiB", Some(2 << 30)),
            ("1MB", Some(1_000_000)),
            ("1M", None),
            ("", None),
            ("MiB", None),
            ("-1B", None),
            ("1.5MiB", None),
            ("18446744073709551615KiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_shown_byte_size_reads_back() {
        for text in ["0B", "1B", "1000B", "1KiB", "1025KiB", "1MiB", "3GiB"] {
            assert_eq!(show_bytes(bytes(text).unwrap()), text);
        }
    }
}
