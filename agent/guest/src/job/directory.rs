//! The folder of a launch: what a restarted agent needs to go on.
//!
//! | file | exists from | written by |
//! |---|---|---|
//! | `job.json` | the job was fetched and acknowledged | agent |
//! | `baseline.json` | `work/` is complete, nothing has run | agent |
//! | `launch.json` | the shim may be started | agent |
//! | `shim.sock` | the shim answers (as long as it lives) | shim |
//! | `started` | the command may have been started | shim |
//! | `exit.json` | the command has ended | shim |
//! | `final.json` | the stage-out is packed, the report is decided | agent |

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use coordinator_api::job::Job;
use serde::Serialize;

use super::ending::FinalReport;
use crate::confine::cage::Cage;
use crate::reconcile::LaunchId;
use crate::shim::protocol::{ExitReport, LaunchSpec, Role};
use crate::shim::server::{EXIT, LAUNCH, STARTED};
use crate::stage::baseline::Baseline;
use crate::stage::remove::remove_tree;
use crate::state_dir::{read_json, write_private};

/// The beginning of the names of folders that are being removed.
const OVER: &str = "over-";

/// The folder of one launch: `JOB.GENERATION` in the state directory's `jobs`.
#[derive(Clone, Debug)]
pub struct JobDirectory {
    id: LaunchId,
    root: PathBuf,
}

impl JobDirectory {
    /// The folder of a launch, made if need be (0700). `jobs` is absolute.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn create(jobs: &Path, id: LaunchId) -> io::Result<Self> {
        let directory = Self::at(jobs, id);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory.root)?;
        Ok(directory)
    }

    /// The folder of a launch, whether it is there or not.
    pub fn at(jobs: &Path, id: LaunchId) -> Self {
        Self { id, root: jobs.join(id.to_string()) }
    }

    /// The launches that have a folder.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn all(jobs: &Path) -> io::Result<Vec<LaunchId>> {
        let listing = match fs::read_dir(jobs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        let mut found = Vec::new();
        for item in listing {
            let name = item?.file_name();
            let id =
                name.to_str().and_then(|name| name.split_once('.')).and_then(|(job, launch)| {
                    Some(LaunchId { job: job.parse().ok()?, generation: launch.parse().ok()? })
                });
            found.extend(id.filter(|id| name.to_str() == Some(&id.to_string())));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The launch.
    pub fn id(&self) -> LaunchId {
        self.id
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The job's working directory.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The archive to unpack.
    pub fn stagein(&self) -> PathBuf {
        self.root.join("stagein.tgz")
    }

    /// The archive to send.
    pub fn stageout(&self) -> PathBuf {
        self.root.join("stageout.tgz")
    }

    /// The job, once it was acknowledged.
    ///
    /// # Errors
    /// When the disk fails, or its file is damaged; so for every method here.
    pub fn job(&self) -> io::Result<Option<Job>> {
        read_json(&self.root.join("job.json"))
    }

    /// Remembers the acknowledged job.
    pub fn set_job(&self, job: &Job) -> io::Result<()> {
        self.write("job.json", job)
    }

    /// What `work/` held before the command.
    pub fn baseline(&self) -> io::Result<Option<Baseline>> {
        read_json(&self.root.join("baseline.json"))
    }

    /// Remembers what `work/` holds.
    pub fn set_baseline(&self, baseline: &Baseline) -> io::Result<()> {
        self.write("baseline.json", baseline)
    }

    /// A shim was, or may have been, started.
    pub fn has_launch(&self) -> bool {
        self.root.join(LAUNCH).exists()
    }

    /// What the shim was started for, if it is known.
    pub fn role(&self) -> Option<Role> {
        let launch: Option<LaunchSpec> = read_json(&self.root.join(LAUNCH)).ok().flatten();
        launch.map(|launch| launch.role)
    }

    /// The groups that hold its processes.
    pub fn cage(&self) -> Cage {
        let launch: Option<LaunchSpec> = read_json(&self.root.join(LAUNCH)).ok().flatten();
        launch.map(|launch| launch.cage).unwrap_or_default()
    }

    /// The command, or the node's sessions, were, or may have been, started.
    pub fn has_started(&self) -> bool {
        self.root.join(STARTED).exists()
    }

    /// How the command ended.
    pub fn exit(&self) -> io::Result<Option<ExitReport>> {
        read_json(&self.root.join(EXIT))
    }

    /// The report that has to reach the coordinator.
    pub fn final_report(&self) -> io::Result<Option<FinalReport>> {
        read_json(&self.root.join("final.json"))
    }

    /// Decides the report.
    pub fn set_final_report(&self, report: &FinalReport) -> io::Result<()> {
        self.write("final.json", report)
    }

    /// Writes one of the files above.
    pub(super) fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        write_private(&self.root.join(name), &serde_json::to_vec(value)?)
    }

    /// Makes `work/` anew and empty.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn fresh_work(&self) -> io::Result<PathBuf> {
        let work = self.work();
        remove_tree(&work)?;
        DirBuilder::new().mode(0o755).create(&work)?;
        Ok(work)
    }

    /// Removes everything. From the first moment on the launch is not among [`Self::all`] any more: half a
    /// folder would be taken for a launch that has to be ended.
    ///
    /// # Errors
    /// When the disk fails; [`Self::remove_leftovers`] tries again.
    pub fn remove(&self) -> io::Result<()> {
        // A shim that was killed has left them.
        if let Err(error) = self.cage().remove() {
            tracing::warn!(job = %self.id, %error, "a control group of the job is left");
        }
        let over = self.root.with_file_name(format!("{OVER}{}", self.id));
        match fs::rename(&self.root, &over) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
        remove_tree(&over)
    }

    /// Removes the folders whose removal did not come to its end.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove_leftovers(jobs: &Path) -> io::Result<()> {
        let listing = match fs::read_dir(jobs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listing => listing?,
        };
        for item in listing {
            let item = item?;
            if item.file_name().to_str().is_some_and(|name| name.starts_with(OVER)) {
                remove_tree(&item.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_being_removed_is_no_launch() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = folder.path();
        let id = LaunchId { job: 7, generation: 1 };
        let launch = JobDirectory::create(jobs, id).unwrap();
        launch.fresh_work().unwrap();
        assert_eq!(JobDirectory::all(jobs).unwrap(), [id]);
        // As it is when the agent is killed in the middle of it.
        fs::rename(launch.path(), jobs.join("over-7.1")).unwrap();
        assert_eq!(JobDirectory::all(jobs).unwrap(), []);
        JobDirectory::remove_leftovers(jobs).unwrap();
        assert_eq!(fs::read_dir(jobs).unwrap().count(), 0);
        launch.remove().unwrap();
    }
}
