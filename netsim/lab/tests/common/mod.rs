//! What every file of lab tests needs: namespaces of its own, and one test at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use netsim::confine::{self, Keep};

/// Runs before `main`, while the process has a single thread: afterwards no user namespace can be
/// entered. The whole test program, and everything that it starts, ends with its namespaces.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = enter;

extern "C" fn enter() {
    // SAFETY: the dynamic loader calls this before any thread has been started.
    if let Err(error) = unsafe { confine::enter(&confine::default_run_dir(), Keep::OnFailure) } {
        eprintln!("the laboratory's tests cannot run here: {error}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            eprintln!("  because: {cause}");
            source = cause.source();
        }
        std::process::exit(1);
    }
}

/// One test at a time: they share one machine's processors, and often one world.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
