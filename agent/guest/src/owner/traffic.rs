//! What the owner grants the network: bytes per second, and bytes a day, of all jobs' networks and archives together.
//!
//! The bytes are counted, and held to the grant, by one [`RateLimit`], from which the overlay and the archives take. Here
//! is the day's account: it is kept on the disk, so that another start of the agent grants nothing anew.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use coordinator_client::transfer::Pace;
use jiff::civil::Date;
use overlay_driver::{RateLimit, Volume};
use serde::{Deserialize, Serialize};

use crate::state_dir::{read_json, write_private};

/// The file of the day's account.
const FILE: &str = "traffic.json";

/// What passes when the day's volume is used up, bytes per second: 64 kbit/s, to which mobile networks slow down, too.
/// Connections live on, jobs can end, and a whole day of it is 0.7 GB.
const TRICKLE: NonZeroU64 = NonZeroU64::new(8_000).expect("not zero");

/// The account is written when so large a part of the day's volume has been added: what a killed agent forgets.
const WRITTEN_PARTS: u64 = 200;

/// Or so many bytes, where there is no such volume.
const WRITTEN_BYTES: u64 = 100_000_000;

/// What an owner grants. None: as much as the line carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkGrant {
    /// Both ways together.
    pub bytes_per_second: Option<NonZeroU64>,
    /// From midnight to midnight by this machine's clock.
    pub bytes_per_day: Option<NonZeroU64>,
}

/// The grant, and what of it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkUse {
    /// [`NetworkGrant::bytes_per_second`].
    pub bytes_per_second: Option<NonZeroU64>,
    /// [`NetworkGrant::bytes_per_day`].
    pub bytes_per_day: Option<NonZeroU64>,
    /// Since midnight.
    pub bytes_today: u64,
    /// The day's volume is used up: only a trickle passes until midnight, and no jobs are taken.
    pub used_up: bool,
}

/// The bytes of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    date: String,
    bytes: u64,
}

impl Day {
    /// Adds what went since it was last looked at; it counts for the later day. Whether another day has begun: also one
    /// that was before, when the clock was set.
    fn add(&mut self, today: Date, bytes: u64) -> bool {
        let today = today.to_string();
        let is_another = self.date != today;
        if is_another {
            *self = Self { date: today, bytes: 0 };
        }
        self.bytes = self.bytes.saturating_add(bytes);
        is_another
    }
}

struct Account {
    day: Day,
    /// [`RateLimit::taken`] when it was last looked at.
    taken: u64,
    granted: NetworkGrant,
    /// What is on the disk.
    written: Day,
}

/// See the [module](self).
pub(super) struct Traffic {
    file: PathBuf,
    limit: Arc<RateLimit>,
    account: Mutex<Account>,
}

impl Traffic {
    /// What was counted before, in this state directory; nothing is granted yet.
    pub(super) fn load(state: &Path, today: Date) -> Self {
        let file = state.join(FILE);
        let day = read_json::<Day>(&file).unwrap_or_else(|error| {
            tracing::warn!(%error, file = %file.display(), "today's traffic is counted from now on");
            None
        });
        let day = day.unwrap_or_else(|| Day { date: today.to_string(), bytes: 0 });
        let account =
            Account { written: day.clone(), day, taken: 0, granted: NetworkGrant::default() };
        Self { file, limit: Arc::default(), account: Mutex::new(account) }
    }

    /// From which all that moves jobs' bytes takes.
    pub(super) fn limit(&self) -> Arc<RateLimit> {
        Arc::clone(&self.limit)
    }

    /// The day's volume is used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.limit.is_used_up()
    }

    /// Counts, and grants that from now on.
    ///
    /// # Errors
    /// When the disk does not take the account; it is tried again when it is next looked at.
    pub(super) fn look(&self, today: Date, grant: NetworkGrant) -> io::Result<()> {
        let mut account = self.account();
        let taken = self.limit.taken();
        let new = taken - account.taken;
        account.taken = taken;
        let is_another = account.day.add(today, new);
        let before = std::mem::replace(&mut account.granted, grant);
        if before.bytes_per_second != grant.bytes_per_second {
            self.limit.set(grant.bytes_per_second);
        }
        if is_another || before.bytes_per_day != grant.bytes_per_day {
            self.limit.set_volume(grant.bytes_per_day.map(|all| Volume {
                bytes: all.get().saturating_sub(account.day.bytes),
                trickle: TRICKLE,
            }));
        }
        let worth = grant.bytes_per_day.map_or(WRITTEN_BYTES, |all| all.get() / WRITTEN_PARTS);
        let unwritten = account.day.bytes.saturating_sub(account.written.bytes);
        if account.day.date != account.written.date || unwritten > worth {
            self.write(&mut account)?;
        }
        Ok(())
    }

    /// Counts for the last time.
    ///
    /// # Errors
    /// When the disk does not take the account.
    pub(super) fn close(&self, today: Date) -> io::Result<()> {
        let granted = self.account().granted;
        self.look(today, granted)?;
        let mut account = self.account();
        if account.day == account.written { Ok(()) } else { self.write(&mut account) }
    }

    /// How it stands at this moment.
    pub(super) fn used(&self) -> NetworkUse {
        let account = self.account();
        let NetworkGrant { bytes_per_second, bytes_per_day } = account.granted;
        let bytes_today = account.day.bytes + (self.limit.taken() - account.taken);
        NetworkUse { bytes_per_second, bytes_per_day, bytes_today, used_up: self.is_used_up() }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // Whatever panicked has left numbers.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, account: &mut Account) -> io::Result<()> {
        write_private(&self.file, &serde_json::to_vec(&account.day)?)?;
        account.written = account.day.clone();
        Ok(())
    }
}

/// Archives take from the same grant as the overlay.
pub(super) struct ArchivePace(pub(super) Arc<RateLimit>);

impl Pace for ArchivePace {
    fn take(&self, bytes: usize) {
        self.0.take(bytes);
    }

    fn wait(&self) -> Duration {
        self.0.wait()
    }
}

/// So many bytes, for people.
pub(super) fn in_words(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

impl fmt::Display for NetworkUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes_per_second, bytes_per_day, bytes_today, used_up } = self;
        match bytes_per_second {
            Some(rate) => write!(f, "at most {}/s", in_words(rate.get()))?,
            None => write!(f, "as fast as the line")?,
        }
        match bytes_per_day {
            Some(all) => {
                write!(f, ", {} of today's {}", in_words(*bytes_today), in_words(all.get()))?
            }
            None => write!(f, ", {} today", in_words(*bytes_today))?,
        }
        if *used_up {
            let trickle = in_words(TRICKLE.get());
            write!(
                f,
                "\n  today's volume is used up: until midnight {trickle}/s pass, and no new jobs are taken; \
                 `agent limits --network-per-day` grants more"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const MONDAY: Date = date(2026, 11, 23);
    const TUESDAY: Date = date(2026, 11, 24);

    fn a_day(bytes: u64) -> NetworkGrant {
        NetworkGrant { bytes_per_second: None, bytes_per_day: NonZeroU64::new(bytes) }
    }

    #[test]
    fn a_days_volume_ends_and_begins_anew_at_midnight() {
        let state = tempfile::tempdir().unwrap();
        let traffic = Traffic::load(state.path(), MONDAY);
        traffic.look(MONDAY, a_day(1000)).unwrap();
        traffic.limit().take(600);
        traffic.look(MONDAY, a_day(1000)).unwrap();
        assert!(!traffic.is_used_up());
        traffic.limit().take(400);
        assert!(traffic.is_used_up(), "at once, not when it is next looked at");
        assert_eq!(traffic.limit().bytes_per_second(), Some(TRICKLE));
        let words = traffic.used().to_string();
        assert!(words.contains("1.0 kB of today's 1.0 kB") && words.contains("used up"), "{words}");
        // More is granted, and taken back.
        traffic.look(MONDAY, a_day(2000)).unwrap();
        assert!(!traffic.is_used_up());
        traffic.look(MONDAY, a_day(1000)).unwrap();
        assert!(traffic.is_used_up());

        traffic.look(TUESDAY, a_day(1000)).unwrap();
        assert!(!traffic.is_used_up());
        assert_eq!(traffic.used().bytes_today, 0);
        // The clock is set back: it is another day, of which nothing is known.
        traffic.limit().take(999);
        traffic.look(MONDAY, a_day(1000)).unwrap();
        assert_eq!((traffic.used().bytes_today, traffic.is_used_up()), (999, false));
    }

    #[test]
    fn another_start_grants_nothing_anew() {
        let state = tempfile::tempdir().unwrap();
        let first = Traffic::load(state.path(), MONDAY);
        first.look(MONDAY, a_day(1000)).unwrap();
        first.limit().take(800);
        // As often as the owner's clock looks; then it is killed.
        first.look(MONDAY, a_day(1000)).unwrap();
        let second = Traffic::load(state.path(), MONDAY);
        second.look(MONDAY, a_day(1000)).unwrap();
        second.limit().take(1);
        assert_eq!((second.used().bytes_today, second.is_used_up()), (801, false));
        // What is not worth a write at once is written at the end.
        second.close(MONDAY).unwrap();
        let third = Traffic::load(state.path(), MONDAY);
        third.look(MONDAY, a_day(801)).unwrap();
        assert!(third.is_used_up());
        let tomorrow = Traffic::load(state.path(), TUESDAY);
        tomorrow.look(TUESDAY, a_day(801)).unwrap();
        assert_eq!((tomorrow.used().bytes_today, tomorrow.is_used_up()), (0, false));
    }

    #[test]
    fn a_damaged_account_keeps_nobody_from_working() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(FILE), "{").unwrap();
        let traffic = Traffic::load(state.path(), MONDAY);
        traffic.look(MONDAY, a_day(10)).unwrap();
        assert_eq!(traffic.used().bytes_today, 0);
    }

    #[test]
    fn archives_wait_for_the_same_grant() {
        let limit = Arc::new(RateLimit::new(NonZeroU64::new(1000)));
        let pace = ArchivePace(Arc::clone(&limit));
        assert_eq!(pace.wait(), Duration::ZERO);
        limit.take(60_000);
        assert!(pace.wait() > Duration::from_secs(50));
        pace.take(10);
        assert_eq!(limit.taken(), 60_010);
    }
}
