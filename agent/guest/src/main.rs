//! The agent: pulls jobs, runs them shut in, joins their meshes.

fn main() {}
