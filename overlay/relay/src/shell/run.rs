//! Neighbouring segments of one buffer that go to the same destination at the same time.

use std::time::Instant;

use quinn_udp::EcnCodepoint;

use super::outbox::Burst;
use crate::state::Route;

/// A burst, and when it leaves; none: at once.
pub(super) type Timed<'a> = (Burst<'a>, Option<Instant>);

/// See the module.
pub(super) struct Run<'a> {
    buffer: &'a [u8],
    stride: usize,
    ecn: Option<EcnCodepoint>,
    open: Option<Open>,
}

/// First segment, one past the last, where they go and when; none: at once.
#[derive(Clone, Copy)]
struct Open {
    first: usize,
    end: usize,
    to: Route,
    until: Option<Instant>,
}

impl<'a> Run<'a> {
    pub(super) fn new(buffer: &'a [u8], stride: usize, ecn: Option<EcnCodepoint>) -> Self {
        Self { buffer, stride, ecn, open: None }
    }

    /// Adds so many segments from that one on; gives the run before them back if they belong to another one.
    pub(super) fn add(
        &mut self,
        first: usize,
        count: usize,
        to: Route,
        until: Option<Instant>,
    ) -> Option<Timed<'a>> {
        if let Some(open) = &mut self.open
            && (open.end, open.to, open.until) == (first, to, until)
        {
            open.end += count;
            return None;
        }
        let before = self.finish();
        self.open = Some(Open { first, end: first + count, to, until });
        before
    }

    /// Gives the last run back.
    pub(super) fn finish(&mut self) -> Option<Timed<'a>> {
        let Open { first, end, to: route, until } = self.open.take()?;
        let end = (end * self.stride).min(self.buffer.len());
        let bytes = &self.buffer[first * self.stride..end];
        let segment = self.stride.min(bytes.len());
        Some((Burst { route, ecn: self.ecn, segment, bytes }, until))
    }
}
