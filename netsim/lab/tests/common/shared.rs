//! A world that the tests of a file share.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use netsim::world::World;
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;

use super::worlds::fresh_dir;

/// The world of this file's tests; made by the first, used by one at a time.
pub(crate) struct Shared(Mutex<Option<World>>);

impl Shared {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Gives the world to `test`, and makes it first when there is none. A test that fails leaves
    /// none, so that the next one starts afresh.
    pub(crate) fn with(
        &self,
        settings: &Coordinator,
        volunteers: &[(Preset, u16)],
        test: impl FnOnce(&mut World),
    ) {
        let mut guard: MutexGuard<'_, _> = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut world = guard.take().unwrap_or_else(|| {
            rustls::crypto::ring::default_provider().install_default().ok();
            World::start(&fresh_dir(), settings, volunteers).unwrap_or_else(|e| panic!("{e:#}"))
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| test(&mut world)));
        if let Err(panic) = outcome {
            eprintln!("{}", world.state());
            resume_unwind(panic);
        }
        *guard = Some(world);
    }
}
