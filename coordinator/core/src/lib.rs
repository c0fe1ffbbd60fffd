//! Job and node state machines, the scheduler. No IO.
