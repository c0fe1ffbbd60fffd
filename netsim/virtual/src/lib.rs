//! A scenario in virtual time: the overlay's core on the simulated network. No IO.
