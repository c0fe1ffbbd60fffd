//! Puts the shipped scenarios, with all files that they need, into the library: a program that is
//! installed somewhere knows them all.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where they are, from this crate.
const FOLDER: &str = "../scenarios";

/// What cargo calls the folder of this crate.
const HERE: &str = "CARGO_MANIFEST_DIR";

fn main() -> io::Result<()> {
    // Asked now and not when this was compiled: a tree that was moved, or copied with what was built in
    // it, has its files elsewhere.
    let here = env::var_os(HERE).ok_or_else(|| io::Error::other("this is not cargo"))?;
    let root = Path::new(&here).join(FOLDER).canonicalize()?;
    writeln!(io::stdout(), "cargo::rerun-if-changed={FOLDER}\ncargo::rerun-if-env-changed={HERE}")?;
    let mut files = Vec::new();
    list(&root, &mut files)?;
    files.sort();
    let mut text = "[\n".to_owned();
    for file in files {
        let name = file.strip_prefix(&root).map_err(io::Error::other)?;
        let _ = writeln!(text, "({name:?}, include_bytes!({file:?}).as_slice()),");
    }
    text.push(']');
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("this is not cargo"))?;
    fs::write(Path::new(&out).join("shipped.rs"), text)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
