//! The job's files once more, by Landlock: what the mounts already say, held by another part of the kernel, for
//! every program of the job and for good.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::environment::WORK_DIRECTORY;

/// What is asked for at most; an older kernel holds less of it.
const WANTED: ABI = ABI::V6;

/// Where a job may write. The rest of what it sees it may read and execute.
const WRITABLE: [&str; 5] = [WORK_DIRECTORY, "/tmp", "/var/tmp", "/dev", "/proc"];

/// Restricts this process and all that it starts. False where the kernel has no Landlock.
///
/// Signals and abstract sockets are kept inside as well, from ABI 6 on.
///
/// # Errors
/// When the kernel has it and does not take the rules.
pub fn restrict() -> Result<bool, RulesetError> {
    restrict_to(&WRITABLE.map(Path::new))
}

fn restrict_to(writable: &[&Path]) -> Result<bool, RulesetError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED))?
        .scope(Scope::from_all(WANTED))?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(WANTED)))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(WANTED)))?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
