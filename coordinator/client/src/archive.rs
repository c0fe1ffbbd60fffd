//! Which entries of a foreign tar archive may be unpacked or passed on.
//!
//! Results come from volunteers' machines and stage-in from scientists: both are foreign to whoever unpacks
//! them. [`EntryGate`] judges names alone and touches no file, so that the server can use it when it puts
//! results together and the client when it unpacks them.
//!
//! Why a symbolic link that passes cannot lead out of the folder: no entry goes through a link or replaces
//! anything, so a link lies in a real folder of known depth; its target climbs only at its beginning, from that
//! folder, at most up to the top; each further step is a name inside, and a link among them obeys the same rule.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Entries of one archive. Chosen: a job with more files than this should pack them itself.
const MAX_ENTRIES: usize = 1_000_000;

/// The longest path that is taken, bytes: Linux's PATH_MAX is 4096, and room is left for the folder.
const MAX_PATH: usize = 3072;

/// What kind of entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link with its target.
    Link(&'a Path),
    /// Anything else: hard links, devices, pipes.
    Other,
}

/// Why an entry may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryRefused {
    /// Absolute, with `..`, empty or too long.
    #[error("its path leads out of the folder")]
    Path,
    /// It was there before, or lies under a file or link.
    #[error("its place is taken by an earlier entry")]
    Taken,
    /// The link's target lies outside, or may.
    #[error("the link leads out of the folder")]
    LinkTarget,
    /// Not a file, a folder or a symbolic link.
    #[error("only files, folders and symbolic links are taken")]
    Kind,
    /// Too many.
    #[error("the archive has more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// Judges an archive's entries one after the other.
#[derive(Debug, Default)]
pub struct EntryGate {
    folders: BTreeSet<PathBuf>,
    /// Files and links.
    leaves: BTreeSet<PathBuf>,
}

impl EntryGate {
    /// Judges the next entry. The answer is its path, relative and without `.`; empty for the top itself.
    ///
    /// # Errors
    ///
    /// [`EntryRefused`]: leave the entry out.
    pub fn check(&mut self, path: &Path, kind: EntryKind<'_>) -> Result<PathBuf, EntryRefused> {
        let clean = relative(path)?;
        if self.folders.len() + self.leaves.len() >= MAX_ENTRIES {
            return Err(EntryRefused::TooMany);
        }
        if clean.ancestors().skip(1).any(|parent| self.leaves.contains(parent)) {
            return Err(EntryRefused::Taken);
        }
        match kind {
            EntryKind::Folder => {
                if self.leaves.contains(&clean) {
                    return Err(EntryRefused::Taken);
                }
                self.folders.insert(clean.clone());
            }
            EntryKind::File => self.take(&clean)?,
            EntryKind::Link(target) => {
                let depth = clean.components().count().saturating_sub(1);
                if !stays_inside(target, depth) {
                    return Err(EntryRefused::LinkTarget);
                }
                self.take(&clean)?;
            }
            EntryKind::Other => return Err(EntryRefused::Kind),
        }
        let parents = clean.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
        self.folders.extend(parents.map(Path::to_owned));
        Ok(clean)
    }

    fn take(&mut self, path: &Path) -> Result<(), EntryRefused> {
        if path.as_os_str().is_empty() {
            return Err(EntryRefused::Path);
        }
        if self.folders.contains(path) || !self.leaves.insert(path.to_owned()) {
            return Err(EntryRefused::Taken);
        }
        Ok(())
    }
}

fn relative(path: &Path) -> Result<PathBuf, EntryRefused> {
    if path.as_os_str().is_empty() || path.as_os_str().len() > MAX_PATH {
        return Err(EntryRefused::Path);
    }
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(EntryRefused::Path);
            }
        }
    }
    Ok(clean)
}

/// The target is relative, climbs only at its beginning, and at most `depth` folders.
fn stays_inside(target: &Path, depth: usize) -> bool {
    if target.as_os_str().is_empty() || target.as_os_str().len() > MAX_PATH {
        return false;
    }
    let (mut climbed, mut descends) = (0, false);
    for component in target.components() {
        match component {
            Component::Normal(_) => descends = true,
            Component::CurDir => {}
            Component::ParentDir if !descends && climbed < depth => climbed += 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        gate: &mut EntryGate,
        path: &str,
        kind: EntryKind<'_>,
    ) -> Result<String, EntryRefused> {
        gate.check(Path::new(path), kind).map(|path| path.display().to_string())
    }

    fn link(target: &str) -> EntryKind<'_> {
        EntryKind::Link(Path::new(target))
    }

    #[test]
    fn ordinary_entries_pass() {
        let mut gate = EntryGate::default();
        assert_eq!(check(&mut gate, "./", EntryKind::Folder), Ok(String::new()));
        assert_eq!(check(&mut gate, "./a/b", EntryKind::File), Ok("a/b".to_owned()));
        assert_eq!(check(&mut gate, "a", EntryKind::Folder), Ok("a".to_owned()));
        assert_eq!(check(&mut gate, "a/l", link("../a/b")), Ok("a/l".to_owned()));
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in ["/etc/passwd", "../x", "a/../../x", "", "a/.."] {
            let refused = check(&mut EntryGate::default(), path, EntryKind::File);
            assert_eq!(refused, Err(EntryRefused::Path), "{path}");
        }
    }

    #[test]
    fn links_that_lead_out_are_refused() {
        for target in ["/etc", "..", "../..", "b/../../..", "b/..", ""] {
            let refused = check(&mut EntryGate::default(), "l", link(target));
            assert_eq!(refused, Err(EntryRefused::LinkTarget), "{target}");
        }
        assert_eq!(
            check(&mut EntryGate::default(), "a/l", link("../../x")),
            Err(EntryRefused::LinkTarget)
        );
    }

    #[test]
    fn nothing_goes_through_a_link_or_replaces_anything() {
        let mut gate = EntryGate::default();
        check(&mut gate, "d/e/l", link("../..")).unwrap();
        check(&mut gate, "f", EntryKind::File).unwrap();
        let taken = Err(EntryRefused::Taken);
        assert_eq!(check(&mut gate, "d/e/l/x", EntryKind::File), taken);
        assert_eq!(check(&mut gate, "d/e/l/m", link("../../..")), taken);
        assert_eq!(check(&mut gate, "d/e/l", EntryKind::Folder), taken);
        assert_eq!(check(&mut gate, "d/e", link("x")), taken);
        assert_eq!(check(&mut gate, "f", EntryKind::File), taken);
        assert_eq!(check(&mut gate, "h", EntryKind::Other), Err(EntryRefused::Kind));
    }
}
