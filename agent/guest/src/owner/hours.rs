//! The hours of the day in which jobs may run, by this machine's clock and its owner's time zone.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// How often the clock is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// From one minute of the day to before another; over midnight when the first is the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    from: u16,
    to: u16,
}

/// Not two times of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write two different times of the day, as in 22:00-07:00")]
pub struct BadHours;

impl Hours {
    /// Whether that minute of the day is one of them.
    pub fn hold(&self, minute: u16) -> bool {
        let (after, before) = (minute >= self.from, minute < self.to);
        if self.from < self.to { after && before } else { after || before }
    }
}

impl FromStr for Hours {
    type Err = BadHours;

    fn from_str(text: &str) -> Result<Self, BadHours> {
        let (from, to) = text.split_once('-').ok_or(BadHours)?;
        let hours = Self { from: minute(from)?, to: minute(to)? % DAY };
        if hours.from == hours.to || hours.from == DAY { Err(BadHours) } else { Ok(hours) }
    }
}

fn minute(text: &str) -> Result<u16, BadHours> {
    let (hour, minute) = text.trim().split_once(':').ok_or(BadHours)?;
    let number = |text: &str| match text.len() {
        1 | 2 if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<u16>().ok(),
        _ => None,
    };
    let (hour, minute) = number(hour).zip(number(minute)).ok_or(BadHours)?;
    match (hour, minute) {
        (0..=23, 0..=59) | (24, 0) => Ok(hour * 60 + minute),
        _ => Err(BadHours),
    }
}

impl TryFrom<String> for Hours {
    type Error = BadHours;

    fn try_from(text: String) -> Result<Self, BadHours> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// The day, and its minute.
pub(super) fn now() -> (Date, u16) {
    let now = jiff::Zoned::now();
    let of = |number: i8| u16::from(number.unsigned_abs());
    (now.date(), of(now.hour()) * 60 + of(now.minute()))
}
