//! Counts the solutions of the N queens problem on many machines that talk to each other.

fn main() {}
