//! What an owner can say.

use std::fmt;

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::hours::Hours;
use super::traffic::{NetworkGrant, in_words};

/// What holds for all jobs together. Nothing: as much as was offered at the start, or all there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Cores.
    pub cores: Option<u16>,
    /// Memory, MiB.
    pub memory_mib: Option<u64>,
    /// Disk, MiB.
    pub disk_mib: Option<u64>,
    /// Of jobs' networks and archives, both ways, bytes per second.
    pub network_rate: Option<u64>,
    /// The same, bytes from midnight to midnight.
    pub network_per_day: Option<u64>,
    /// When jobs may run.
    pub hours: Option<Hours>,
    /// No new jobs.
    pub draining: bool,
    /// No new jobs, and those that are here stand still.
    pub paused: bool,
}

/// A new value, or none; 0 takes a limit away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// [`Wishes::cores`].
    pub cores: Option<u16>,
    /// [`Wishes::memory_mib`].
    pub memory_mib: Option<u64>,
    /// [`Wishes::disk_mib`].
    pub disk_mib: Option<u64>,
    /// [`Wishes::network_rate`].
    pub network_rate: Option<u64>,
    /// [`Wishes::network_per_day`].
    pub network_per_day: Option<u64>,
    /// [`Wishes::hours`].
    pub hours: Option<Hours>,
    /// Any hour again.
    pub all_hours: bool,
    /// [`Wishes::draining`].
    pub draining: Option<bool>,
    /// [`Wishes::paused`].
    pub paused: Option<bool>,
}

impl Change {
    /// The wishes after it.
    pub fn applied(&self, before: Wishes) -> Wishes {
        fn new<T: Copy + PartialEq + Default>(said: Option<T>, before: Option<T>) -> Option<T> {
            said.or(before).filter(|value| *value != T::default())
        }
        Wishes {
            cores: new(self.cores, before.cores),
            memory_mib: new(self.memory_mib, before.memory_mib),
            disk_mib: new(self.disk_mib, before.disk_mib),
            network_rate: new(self.network_rate, before.network_rate),
            network_per_day: new(self.network_per_day, before.network_per_day),
            hours: self.hours.or(before.hours).filter(|_| !self.all_hours),
            draining: self.draining.unwrap_or(before.draining),
            paused: self.paused.unwrap_or(before.paused),
        }
    }
}

impl Wishes {
    /// Whether jobs may run in that minute of the day.
    pub fn is_time(&self, minute: u16) -> bool {
        self.hours.is_none_or(|hours| hours.hold(minute))
    }

    /// What the network gets, where this was offered at the start.
    pub fn network(&self, offered: NetworkGrant) -> NetworkGrant {
        let given = |wish: Option<u64>| wish.and_then(NonZeroU64::new);
        NetworkGrant {
            bytes_per_second: given(self.network_rate).or(offered.bytes_per_second),
            bytes_per_day: given(self.network_per_day).or(offered.bytes_per_day),
        }
    }
}

impl fmt::Display for Wishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line =
            |f: &mut fmt::Formatter<'_>, name: &str, value: Option<String>, without: &str| {
                writeln!(f, "{name:18}{}", value.as_deref().unwrap_or(without))
            };
        let offered = "as offered at the start";
        let mib = |mib: Option<u64>| mib.map(|mib| format!("{mib} MiB"));
        line(f, "cores", self.cores.map(|cores| cores.to_string()), offered)?;
        line(f, "memory", mib(self.memory_mib), offered)?;
        line(f, "disk", mib(self.disk_mib), "half of what is free")?;
        let rate = self.network_rate.map(|rate| format!("{}/s", in_words(rate)));
        line(f, "network", rate, offered)?;
        line(f, "network per day", self.network_per_day.map(in_words), offered)?;
        line(f, "hours", self.hours.map(|hours| hours.to_string()), "all day")?;
        if self.draining {
            writeln!(f, "no new jobs: `agent continue` ends this")?;
        }
        if self.paused {
            writeln!(f, "jobs are paused: `agent continue` ends this")?;
        }
        Ok(())
    }
}
