//! What of a pair's numbered datagrams has arrived, and how long its data waited.

use std::time::{Duration, Instant};

/// What is called data again: nothing of what was sent for so long is missing.
const WHOLE: Duration = Duration::from_secs(1);

/// The numbered datagrams of an ordered pair: when each was sent, and when it arrived.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Vec<(Instant, Option<Instant>)>);

/// What an event did to a pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outage {
    /// From the event until the first datagram arrived after which none is missing for a second.
    pub(super) waited: Duration,
    /// How many were sent from that one on.
    pub(super) sent_later: usize,
    /// How many of them are missing.
    pub(super) lost_later: usize,
}

impl Heard {
    /// One is sent; its number.
    pub(super) fn sent(&mut self, now: Instant) -> u32 {
        self.0.push((now, None));
        u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX)
    }

    /// One has arrived. Its first copy counts.
    pub(super) fn arrived(&mut self, number: u32, now: Instant) {
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some((_, arrived)) = self.0.get_mut(place) {
            arrived.get_or_insert(now);
        }
    }

    /// How many were sent from the first that has arrived until `end`, and how many of them are missing.
    pub(super) fn lost(&self, end: Instant) -> (usize, usize) {
        let first = self.0.iter().position(|(_, arrived)| arrived.is_some());
        let sent = self.0.iter().skip(first.unwrap_or(0)).filter(|(sent, _)| *sent < end);
        (sent.clone().count(), sent.filter(|(_, arrived)| arrived.is_none()).count())
    }

    /// How long the last one took, if it has arrived.
    pub(super) fn last_took(&self) -> Option<Duration> {
        let (sent, arrived) = self.0.last()?;
        Some(arrived.as_ref()?.duration_since(*sent))
    }

    /// What an event has done; none where data did not come again. What was sent after `end` may be on its way.
    pub(super) fn outage(&self, event: Instant, end: Instant) -> Option<Outage> {
        let after: Vec<_> =
            self.0.iter().filter(|(sent, _)| (event..end).contains(sent)).copied().collect();
        let is_whole = |from: &Instant| {
            let mut next = after.iter().filter(|(sent, _)| (*from..*from + WHOLE).contains(sent));
            *from + WHOLE <= end && next.all(|(_, arrived)| arrived.is_some())
        };
        let place = after.iter().position(|(sent, _)| is_whole(sent))?;
        let (_, first) = after[place];
        let (sent_later, lost_later) = Self(after[place..].to_vec()).lost(end);
        Some(Outage { waited: first?.duration_since(event), sent_later, lost_later })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_millis(20);
    const WAY: Duration = Duration::from_millis(30);

    /// Three seconds of datagrams, of which those with these numbers are missing.
    fn heard(start: Instant, is_lost: impl Fn(u32) -> bool) -> Heard {
        let mut heard = Heard::default();
        for number in 0..150 {
            let now = start + BEAT * number;
            assert_eq!(heard.sent(now), number);
            if !is_lost(number) {
                heard.arrived(number, now + WAY);
            }
        }
        heard
    }

    #[test]
    fn data_waits_until_the_first_datagram_after_which_none_is_missing_for_a_second() {
        let start = Instant::now();
        let (event, end) = (start + BEAT * 10, start + BEAT * 150);
        let waited = |is_lost: &dyn Fn(u32) -> bool| heard(start, is_lost).outage(event, end);
        let none = waited(&|_| false).unwrap();
        assert_eq!(none, Outage { waited: WAY, sent_later: 140, lost_later: 0 });
        let gap = waited(&|number| (10..20).contains(&number)).unwrap();
        assert_eq!(gap, Outage { waited: BEAT * 10 + WAY, sent_later: 130, lost_later: 0 });
        let trickle = waited(&|number| (10..20).contains(&number) || number == 40).unwrap();
        assert_eq!(trickle.waited, BEAT * 31 + WAY, "one that comes through is no data again");
        let later = waited(&|number| (10..20).contains(&number) || number == 120).unwrap();
        assert_eq!(later, Outage { waited: BEAT * 10 + WAY, sent_later: 130, lost_later: 1 });
        assert_eq!(waited(&|number| number > 10), None);
    }

    #[test]
    fn what_is_told_twice_or_was_never_sent_changes_nothing() {
        let start = Instant::now();
        let mut heard = heard(start, |number| number == 5);
        heard.arrived(3, start + BEAT * 100);
        heard.arrived(1000, start + BEAT * 100);
        assert_eq!(heard.lost(start + BEAT * 10), (10, 1));
        assert_eq!(heard.last_took(), Some(WAY));
        assert_eq!(Heard::default().last_took(), None);
    }
}
