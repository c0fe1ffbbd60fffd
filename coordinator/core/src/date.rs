//! Dates as OAR writes them: `2026-01-31 12:00:00`, in UTC.

use crate::ids::UnixMillis;

/// Reads a date, or a number of seconds since the Unix epoch.
pub(crate) fn parse(text: &str) -> Option<UnixMillis> {
    let text = text.trim();
    let number = |digits: &str, length: usize| -> Option<u64> {
        let fits = (1..=length).contains(&digits.len());
        if fits && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    if let Some(seconds) = number(text, 12) {
        return Some(UnixMillis(seconds * 1_000));
    }
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "0:0:0"));
    let mut date = date.split('-');
    let (year, month, day) = (date.next()?, date.next()?, date.next()?);
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let mut time = time.trim().trim_end_matches('Z').split(':');
    let (hour, minute) = (number(time.next()?, 2)?, number(time.next()?, 2)?);
    let second = time.next().map_or(Some(0), |second| number(second, 2))?;
    let right =
        date.next().is_none() && time.next().is_none() && hour < 24 && minute < 60 && second < 60;
    if !right || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    if !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    let days = years + months + day - 1;
    Some(UnixMillis((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        for (text, seconds) in [
            ("1970-01-01 00:00:00", 0),
            ("2026-01-01 00:00:00", 1_767_225_600),
            ("2024-02-29T12:30:05Z", 1_709_209_805),
            ("2000-03-01", 951_868_800),
            ("1767225600", 1_767_225_600),
            (" 2026-01-01 0:1 ", 1_767_225_660),
        ] {
            assert_eq!(parse(text), Some(UnixMillis(seconds * 1_000)), "{text}");
        }
        for text in [
            "",
            "soon",
            "2026-13-01",
            "2026-02-29",
            "2100-02-29",
            "2026-01-00",
            "2026-01-01 24:00:00",
            "2026-01-01 1:60",
            "2026-01-01 1:1:1:1",
            "2026-1",
            "10000-01-01",
            "2026-01-01-01",
            "-1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
