//! What users have asked for and used: OAR's accounting, and the fair share made from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::UnixMillis;

/// How long the past counts, days: OAR's window for its karma.
const WINDOW_DAYS: u64 = 30;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// One row: a user's work for a project on one day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UsageKey {
    /// Days since the Unix epoch.
    pub day: u64,
    /// The user.
    pub user: String,
    /// The project.
    pub project: String,
}

impl UsageKey {
    /// The day of a time.
    pub fn day_of(time: UnixMillis) -> u64 {
        time.0 / DAY_MS
    }

    /// The first day that counts for fair share.
    pub fn window_start(now: UnixMillis) -> u64 {
        Self::day_of(now).saturating_sub(WINDOW_DAYS)
    }
}

/// Resource-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Resources times walltime.
    pub asked: u64,
    /// Resources times the time that the job had them.
    pub used: u64,
}

/// The work of the last days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    rows: BTreeMap<UsageKey, Used>,
    users: BTreeMap<String, Used>,
    total: Used,
}

impl Usage {
    /// Puts the rows together that were stored.
    pub fn load(rows: impl IntoIterator<Item = (UsageKey, Used)>) -> Self {
        let mut usage = Self::default();
        for (key, used) in rows {
            usage.count(&key, used);
        }
        usage
    }

    /// Adds work; answers the row as it is now.
    pub(crate) fn add(
        &mut self,
        now: UnixMillis,
        user: &str,
        project: &str,
        work: Used,
    ) -> (UsageKey, Used) {
        let day = UsageKey::day_of(now);
        self.forget_before(UsageKey::window_start(now));
        let key = UsageKey { day, user: user.to_owned(), project: project.to_owned() };
        self.count(&key, work);
        let row = self.rows.get(&key).copied().unwrap_or_default();
        (key, row)
    }

    /// OAR's karma: the share of what was used, twice, and of what was asked for. Lower goes first.
    #[expect(clippy::cast_precision_loss, reason = "shares of large numbers need no last digit")]
    pub fn karma(&self, user: &str) -> f64 {
        let own = self.users.get(user).copied().unwrap_or_default();
        let share = |own: u64, all: u64| if all == 0 { 0.0 } else { own as f64 / all as f64 };
        2.0 * share(own.used, self.total.used) + share(own.asked, self.total.asked)
    }

    fn count(&mut self, key: &UsageKey, work: Used) {
        for sum in [
            self.rows.entry(key.clone()).or_default(),
            self.users.entry(key.user.clone()).or_default(),
            &mut self.total,
        ] {
            sum.asked = sum.asked.saturating_add(work.asked);
            sum.used = sum.used.saturating_add(work.used);
        }
    }

    fn forget_before(&mut self, day: u64) {
        while let Some(row) = self.rows.first_entry().filter(|row| row.key().day < day) {
            let (key, old) = row.remove_entry();
            let mut sums = vec![&mut self.total];
            sums.extend(self.users.get_mut(&key.user));
            for sum in sums {
                sum.asked = sum.asked.saturating_sub(old.asked);
                sum.used = sum.used.saturating_sub(old.used);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_used_more_has_more_karma_until_it_is_forgotten() {
        let mut usage = Usage::default();
        assert_eq!(usage.karma("alice"), 0.0);
        let work = |used| Used { asked: 2 * used, used };
        usage.add(UnixMillis(0), "alice", "default", work(300));
        let (key, row) = usage.add(UnixMillis(1), "alice", "default", work(300));
        assert_eq!((key.day, row.used), (0, 600));
        usage.add(UnixMillis(2), "bob", "default", work(200));
        assert_eq!(usage.karma("alice"), 2.25);
        assert_eq!(usage.karma("bob"), 0.75);
        usage.add(UnixMillis(31 * DAY_MS), "bob", "other", work(100));
        assert_eq!((usage.karma("alice"), usage.karma("bob")), (0.0, 3.0));
    }
}
