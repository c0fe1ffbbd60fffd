//! The two directions of a link.

use crate::link::{LinkProfile, Pipe};

/// The two directions of a link at work.
#[derive(Debug)]
pub(super) struct Duplex {
    pub(super) up: Pipe,
    pub(super) down: Pipe,
}

impl Duplex {
    pub(super) fn new(profile: LinkProfile) -> Self {
        Self { up: Pipe::new(profile.up), down: Pipe::new(profile.down) }
    }

    pub(super) fn set_profile(&mut self, profile: LinkProfile) {
        self.up.set_profile(profile.up);
        self.down.set_profile(profile.down);
    }

    pub(super) fn set_down(&mut self, is_down: bool) {
        self.up.set_down(is_down);
        self.down.set_down(is_down);
    }
}
