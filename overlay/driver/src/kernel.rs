//! Which kernel this is.

use std::ffi::CStr;
use std::mem;

use nix::libc;

/// The kernel's release, as `uname -r` gives it.
pub(crate) fn release() -> Option<String> {
    // SAFETY: zeros are a valid value of the structure, which consists of arrays of characters.
    let mut names: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: the pointer is that of a living structure.
    if unsafe { libc::uname(&mut names) } != 0 {
        return None;
    }
    let bytes = names.release.map(|byte| byte as u8);
    let release = CStr::from_bytes_until_nul(&bytes).ok()?;
    Some(release.to_string_lossy().into_owned())
}
