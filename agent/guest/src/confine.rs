//! What a job may ask of the kernel, and how much of the machine it may use.
//!
//! | wall | made by | where the kernel lacks it |
//! |---|---|---|
//! | namespaces, read-only allow-list of files | bubblewrap, see [`crate::shim::sandbox`] | no job runs |
//! | system calls | [`syscalls`], loaded by bubblewrap | no job runs |
//! | files once more, by Landlock | [`files`], in the sandbox's first program | the read-only mounts alone |
//! | memory, processors, processes | [`cage`]: cgroup v2, else v1 | [`limits`]: resource limits |
//! | disk | [`disk`]: the shim looks, and ends the job | |
//!
//! `agent doctor` says which of them this machine has.

pub mod cage;
pub mod disk;
pub mod files;
pub mod limits;
pub mod syscalls;
