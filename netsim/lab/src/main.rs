//! The laboratory: the whole system in network namespaces on one machine.

fn main() {}
