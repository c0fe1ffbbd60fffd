//! What waits for a tunnel.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::Datagram;
use overlay_core::wire::tunnel::Target;

/// Datagrams that wait for the way out. Chosen: what a TCP connection of the job sends at once, so that
/// its bursts are not cut; 100 ms of 60 Mbit/s.
pub(crate) const QUEUE: usize = 512;

/// The way into a tunnel. Clones lead into the same one.
#[derive(Debug)]
pub struct Queue(Arc<Shared>);

/// What waits for a tunnel.
#[derive(Debug)]
pub struct Queued(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

/// What was given to a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// How many datagrams.
    pub datagrams: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Datagrams that had to go, as there was no room.
    pub overflowed: u64,
}

#[derive(Debug, Default)]
struct State {
    offered: Offered,
    waiting: VecDeque<Datagram>,
    entrances: usize,
    has_ended: bool,
}

/// An empty queue, and its end that a tunnel reads.
pub fn queue() -> (Queue, Queued) {
    let shared = Arc::<Shared>::default();
    shared.state().entrances = 1;
    (Queue(Arc::clone(&shared)), Queued(shared))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Queues a datagram; the oldest goes where there is no room. False: the tunnel has ended.
    pub fn push(&self, target: Target, datagram: impl Into<Bytes>) -> bool {
        self.extend([(target, datagram.into())])
    }

    /// Queues a copy of what came together: datagrams of `segment` bytes each, the last may be shorter.
    pub fn extend_from_slice(&self, target: Target, contents: &[u8], segment: usize) -> bool {
        let all = Bytes::copy_from_slice(contents);
        let starts = (0..all.len()).step_by(segment.max(1));
        let cut = |start: usize| all.slice(start..all.len().min(start + segment));
        self.extend(starts.map(|start| (target, cut(start))))
    }

    /// Queues datagrams in their order, which wakes the tunnel once.
    pub fn extend(&self, datagrams: impl IntoIterator<Item = Datagram>) -> bool {
        let mut state = self.0.state();
        if state.has_ended {
            return false;
        }
        for datagram in datagrams {
            state.offered.datagrams += 1;
            state.offered.bytes += datagram.1.len() as u64;
            if state.waiting.len() >= QUEUE {
                state.waiting.pop_front();
                state.offered.overflowed += 1;
            }
            state.waiting.push_back(datagram);
        }
        drop(state);
        self.0.changed.notify_one();
        true
    }

    /// What was given to it so far.
    pub fn counted(&self) -> Offered {
        self.0.state().offered
    }
}

impl Clone for Queue {
    fn clone(&self) -> Self {
        self.0.state().entrances += 1;
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.0.state().entrances -= 1;
        self.0.changed.notify_one();
    }
}

impl Queued {
    /// Everything that waits, at least one datagram; none when nobody can queue any more. What was left in
    /// `emptied` is dropped, and its memory used again.
    pub async fn next(&mut self, mut emptied: VecDeque<Datagram>) -> Option<VecDeque<Datagram>> {
        emptied.clear();
        loop {
            {
                let mut state = self.0.state();
                if !state.waiting.is_empty() {
                    return Some(mem::replace(&mut state.waiting, emptied));
                }
                if state.entrances == 0 {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }

    /// The next datagram if one waits.
    pub fn try_next(&mut self) -> Option<Datagram> {
        self.0.state().waiting.pop_front()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.state().has_ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(numbers: std::ops::Range<u16>) -> impl Iterator<Item = Datagram> {
        numbers.map(|number| (Target::Relay, number.to_be_bytes().to_vec().into()))
    }

    #[tokio::test]
    async fn the_oldest_goes_where_there_is_no_room() {
        let (queue, mut queued) = queue();
        let many = 3 * QUEUE as u16;
        assert!(queue.extend(numbered(0..many)));
        let waiting = queued.next(VecDeque::new()).await.unwrap();
        assert!(waiting.into_iter().eq(numbered(many - QUEUE as u16..many)));
        let (all, bytes) = (u64::from(many), 2 * u64::from(many));
        let expected = Offered { datagrams: all, bytes, overflowed: all - QUEUE as u64 };
        assert_eq!(queue.counted(), expected);
        assert_eq!(queued.try_next(), None);
    }

    #[tokio::test]
    async fn either_end_notices_that_the_other_is_gone() {
        let (entrance, mut queued) = queue();
        let other = entrance.clone();
        drop(entrance);
        assert!(other.push(Target::Control, vec![1]));
        drop(other);
        assert_eq!(queued.next(VecDeque::new()).await.map(|waiting| waiting.len()), Some(1));
        assert_eq!(queued.next(VecDeque::new()).await, None);
        let (entrance, queued) = queue();
        drop(queued);
        assert!(!entrance.push(Target::Control, vec![1]));
    }
}
