//! A job as it is asked for.

use coordinator_api::job::{OneOrMany, SubmitJob};
use coordinator_core::Request;

use super::Job;

impl Job {
    /// What is submitted, but for the stage-in.
    pub fn submission(&self) -> SubmitJob {
        let per_node = self.cores.map(|cores| format!("/core={cores}")).unwrap_or_default();
        let walltime = self.walltime.as_secs().max(1);
        let (hours, minutes, seconds) = (walltime / 3600, walltime / 60 % 60, walltime % 60);
        let nodes = self.nodes;
        let resource = format!("nodes={nodes}{per_node},walltime={hours}:{minutes}:{seconds}");
        SubmitJob {
            command: self.command.clone(),
            name: Some(self.name.clone()),
            resource: OneOrMany(vec![resource]),
            types: OneOrMany(self.types.clone()),
            array: self.array,
            ..SubmitJob::default()
        }
    }

    /// Why the coordinator would refuse it, if it would.
    pub(crate) fn refusal(&self) -> Option<String> {
        Request::admit(&self.submission()).err().map(|refusal| refusal.to_string())
    }
}
