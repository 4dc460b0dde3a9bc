//! Sizes, times and bytes as people write and read them.

use jiff::Timestamp;
use std::borrow::Cow;
use std::time::Duration;

/// `1.5 MiB`, as a person reads it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let place = (count.ilog2() / 10 - 1) as usize;
    let size = count as f64 / (1_u64 << (10 * (place + 1))) as f64;
    let unit = UNITS.get(place).copied().unwrap_or_default();
    if size < 99.95 { format!("{size:.1} {unit}") } else { format!("{size:.0} {unit}") }
}

/// The number of bytes that `64MiB`, `64M`, `64m` or `67108864` means: 1024-based, as everywhere here.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("{text:?} is no size: expected a number of bytes, or such as 64MiB")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no size: expected such as 64MiB"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too large"))
}

/// A time in ms since the Unix epoch in RFC 3339, UTC.
pub(crate) fn timestamp(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| format!("{time:.3}"))
}

/// Ms since the Unix epoch, from a number of them or from RFC 3339 such as `2026-11-23T08:00:00Z`.
pub(crate) fn parse_timestamp(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    let expected = "expected ms since 1970, or such as 2026-11-23T08:00:00Z";
    let time: Timestamp = text.parse().map_err(|_| format!("{text:?} is no time: {expected}"))?;
    Ok(time.as_millisecond())
}

/// `350 ms`, `2.5 s`, `3 min 20 s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=59 => format!("{:.1} s", duration.as_secs_f64()),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Text from elsewhere without control characters, which could play with the terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmless(c) { safe.push(c) } else { safe.extend(c.escape_default()) }
    }
    Cow::Owned(safe)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// `name=value`, as settings are given.
pub(crate) fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no setting: expected NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print_as_people_write_them() {
        let printed = [0, 1023, 1024, 1536, 102_400, 64 << 20, 1 << 40, u64::MAX].map(bytes);
        assert_eq!(printed, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 KiB", "64.0 MiB", "1.0 TiB", "16.0 EiB"]);
        for (text, count) in [("0", 0), ("17", 17), ("64MiB", 64 << 20), ("2 g", 2 << 30), ("3kb", 3072)] {
            assert_eq!(parse_bytes(text), Ok(count), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5MiB", "1X", "99999999999T"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_read_and_print_in_utc() {
        assert_eq!(timestamp(1_763_884_800_123), "2025-11-23T08:00:00.123Z");
        assert_eq!(parse_timestamp("2025-11-23T08:00:00.123Z"), Ok(1_763_884_800_123));
        assert_eq!(parse_timestamp("2025-11-23T09:00:00.123+01:00"), Ok(1_763_884_800_123));
        assert_eq!(parse_timestamp("-5"), Ok(-5));
        assert!(parse_timestamp("yesterday").unwrap_err().contains("yesterday"));
        assert_eq!(timestamp(i64::MAX), format!("{} ms", i64::MAX));
        let durations = [350, 2500, 200_000, 7_260_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(durations, ["350 ms", "2.5 s", "3 min 20 s", "2 h 1 min"]);
    }

    #[test]
    fn what_could_play_with_a_terminal_is_escaped() {
        // covers reliability §4.4: terminal escape sequences in names
        assert_eq!(printable("tab\tand\nline, ü"), "tab\tand\nline, ü");
        assert_eq!(printable("\x1b[2Jgone\u{9b}"), "\\u{1b}[2Jgone\\u{9b}");
        assert_eq!(hex(&[0, 0xa5, 0xff]), "00a5ff");
    }

    #[test]
    fn settings_have_a_name_and_any_value() {
        assert_eq!(parse_setting("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(parse_setting("a="), Ok(("a".into(), String::new())));
        assert!(parse_setting("=b").is_err() && parse_setting("a").is_err());
    }
}
