//! Packets for the tests.
