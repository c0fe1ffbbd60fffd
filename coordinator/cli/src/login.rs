//! The stored login: `~/.config/clouds-at-home/oar.json`, or the file that `OAR_CONFIG` names.
//!
//! `OAR_TOKEN` goes before it: a whole login string, or another token for the same coordinator. `OAR_API` is
//! another address of that coordinator, which proves itself by the login's root all the same.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use coordinator_client::{Client, Login};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The largest file that is read, bytes: a real one has about 300.
const MAX_FILE: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// The login string, which carries its own version.
    login: String,
}

/// Who the user is.
pub(crate) fn load() -> Result<Login, Failure> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let token = set("OAR_TOKEN");
    let mut login = match token.as_deref().map(str::parse::<Login>) {
        Some(Ok(login)) => login,
        Some(Err(_)) | None => stored()?,
    };
    if let Some(token) = token.filter(|token| token.parse::<Login>().is_err()) {
        login.token = token;
    }
    if let Some(url) = set("OAR_API") {
        login.url = url.trim_end_matches('/').to_owned();
    }
    Ok(login)
}

fn stored() -> Result<Login, Failure> {
    let path = path()?;
    let text = match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::NoLogin),
        read => read.map_err(Failure::file(&path))?,
    };
    let damaged = || Failure::DamagedLogin { path: path.display().to_string() };
    let stored: Stored = serde_json::from_str(&text).map_err(|_| damaged())?;
    stored.login.parse().map_err(|_| damaged())
}

/// A client for the user.
pub(crate) fn client() -> Result<Client, Failure> {
    Ok(Client::for_login(&load()?)?)
}

/// Stores the login (mode 0600) in place of an earlier one, and answers where.
pub(crate) fn store(login: &Login) -> Result<PathBuf, Failure> {
    let path = path()?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, &Stored { login: login.to_string() })?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(Failure::file(&path))?;
    Ok(path)
}

fn path() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("OAR_CONFIG").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let homeless = || {
        let source = io::Error::other("there is no home directory; set OAR_CONFIG");
        Failure::File { path: "the login file".to_owned(), source }
    };
    let base = directories::BaseDirs::new().ok_or_else(homeless)?;
    Ok(base.config_dir().join("clouds-at-home/oar.json"))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(std::fs::File::open(path)?, MAX_FILE), &mut text)?;
    Ok(text)
}
