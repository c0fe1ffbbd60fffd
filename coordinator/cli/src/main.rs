//! oarsub, oarstat, oardel, oarnodes: one binary, many names.

fn main() {}
