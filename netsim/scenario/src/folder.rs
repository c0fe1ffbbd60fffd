//! Where the files are that a scenario names: beside it, or in this program for those that are shipped.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The files of `netsim/scenarios`, by their paths there.
static SHIPPED: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

/// Where the files are that a scenario names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Folder {
    /// In this folder.
    At(PathBuf),
    /// In this program.
    Shipped,
}

impl Folder {
    /// A file's bytes, at most so many.
    ///
    /// # Errors
    ///
    /// What the system says; `FileTooLarge` where there are more.
    pub fn read(&self, name: &Path, most: u64) -> io::Result<Cow<'static, [u8]>> {
        match self {
            Self::At(folder) => {
                let mut bytes = Vec::new();
                File::open(folder.join(name))?.take(most + 1).read_to_end(&mut bytes)?;
                if bytes.len() as u64 > most {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                Ok(bytes.into())
            }
            Self::Shipped => {
                shipped(name).map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }

    /// Whether there is such a file.
    pub fn has(&self, name: &Path) -> bool {
        match self {
            Self::At(folder) => folder.join(name).is_file(),
            Self::Shipped => shipped(name).is_some(),
        }
    }

    /// Copies a file to `to`, with its permissions where it has any.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn copy(&self, name: &Path, to: &Path) -> io::Result<()> {
        match self {
            Self::At(folder) => std::fs::copy(folder.join(name), to).map(drop),
            Self::Shipped => std::fs::write(to, self.read(name, u64::MAX)?),
        }
    }
}

/// The names of the scenarios that are shipped, sorted: their files without `.toml`.
pub fn names() -> impl Iterator<Item = &'static str> {
    let top = SHIPPED.iter().filter(|(path, _)| !path.contains('/'));
    top.filter_map(|(path, _)| path.strip_suffix(".toml"))
}

/// The text of a shipped scenario.
pub(crate) fn scenario(name: &str) -> Option<&'static str> {
    std::str::from_utf8(shipped(Path::new(&format!("{name}.toml")))?).ok()
}

fn shipped(name: &Path) -> Option<&'static [u8]> {
    let parts: Option<Vec<&str>> = name
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| part.as_os_str().to_str())
        .collect();
    let path = parts?.join("/");
    SHIPPED.iter().find(|(shipped, _)| *shipped == path).map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_shipped_too_and_nothing_else_is() {
        assert!(Folder::Shipped.has(Path::new("./povray-campaign/orbit.pov")));
        assert!(!Folder::Shipped.has(Path::new("../Cargo.toml")));
        assert!(!Folder::Shipped.has(Path::new("/etc/hosts")));
        let missing = Folder::Shipped.read(Path::new("povray-campaign"), 1 << 20).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn large_files_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), [0; 10]).unwrap();
        let folder = Folder::At(folder.path().to_owned());
        assert_eq!(folder.read(Path::new("a"), 10).unwrap().len(), 10);
        let error = folder.read(Path::new("a"), 9).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn every_name_has_a_text() {
        assert!(names().count() > 10);
        assert!(names().all(|name| scenario(name).is_some()));
    }
}
