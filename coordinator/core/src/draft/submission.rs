//! What users and new nodes ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;

use super::Draft;
use crate::array::Array;
use crate::event::EventKind;
use crate::ids::{JobId, NodeNumber, UnixMillis};
use crate::job::{ArrayPlace, Job, Verdict};
use crate::node::Node;
use crate::request::Request;

/// Why a job is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitRefusal {
    /// More nodes than have ever enrolled with so many cores.
    #[error(
        "There are not enough resources for your request: {wanted} nodes asked for, {exist} enrolled \
         that have {cores} cores or more"
    )]
    NotEnough {
        /// How many nodes the job wants.
        wanted: u16,
        /// How many cores each must have.
        cores: u16,
        /// How many there are.
        exist: usize,
    },
}

/// Why a job is not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRefusal {
    /// Another user's, or nobody's: OAR does not tell which.
    #[error("Cannot frag {0} ; You are not the right user.")]
    NotYours(JobId),
    /// It is ending or has ended.
    #[error("Cannot frag {0} ; This job was already killed.")]
    AlreadyKilled(JobId),
}

/// What became of the order to delete one job of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The job.
    pub job: JobId,
    /// Why it is not deleted, if it is not.
    pub refusal: Option<DeleteRefusal>,
}

impl Draft<'_> {
    /// A volunteer's machine joins.
    pub fn enrol(&mut self, cores: u16) -> NodeNumber {
        let cores = cores.max(1);
        let counters = &mut self.cluster.counters;
        let number = NodeNumber(counters.node);
        let first_resource = counters.resource;
        counters.node += 1;
        counters.resource += u64::from(cores);
        let node = Node {
            number,
            cores,
            first_resource,
            state: ResourceState::Alive,
            last_job: UnixMillis::default(),
            shares: Vec::new(),
            leftovers: Vec::new(),
            silent_since: None,
            last_seen: self.now,
        };
        self.cluster.nodes.insert(number, Arc::new(node));
        self.nodes.insert(number);
        number
    }

    /// A user submits the jobs of an array, or a single one; the answer is their numbers.
    pub fn submit_array(
        &mut self,
        owner: &str,
        request: &Request,
        array: &Array,
    ) -> Result<Vec<JobId>, SubmitRefusal> {
        let mut ids: Vec<JobId> = Vec::with_capacity(array.len());
        for index in 0..array.len() {
            let command = array.command(&request.command, index);
            let id = self.submit(owner, Request { command, ..request.clone() })?;
            ids.push(id);
            let first = *ids.first().unwrap_or(&id);
            if let Some(job) = self.job_mut(id).filter(|_| *array != Array::One) {
                let index = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
                job.array = Some(ArrayPlace { id: first, index });
            }
        }
        Ok(ids)
    }

    /// A user submits a job.
    pub fn submit(&mut self, owner: &str, request: Request) -> Result<JobId, SubmitRefusal> {
        let (wanted, cores) = (request.resources.nodes, request.resources.cores.unwrap_or(1));
        let exist = self.cluster.enrolled(cores);
        if usize::from(wanted) > exist {
            return Err(SubmitRefusal::NotEnough { wanted, cores, exist });
        }
        let id = JobId(self.cluster.counters.job);
        self.cluster.counters.job += 1;
        let job = Job {
            id,
            owner: owner.to_owned(),
            request,
            state: JobState::Waiting,
            submitted: self.now,
            started: None,
            running_since: None,
            stopped: None,
            exit_code: None,
            generation: 0,
            failed_launches: 0,
            requeues: 0,
            array: None,
            avoid: BTreeSet::new(),
            verdict: None,
            launch: None,
            events: Vec::new(),
        };
        self.cluster.jobs.insert(id, Arc::new(job));
        self.jobs.insert(id);
        Ok(id)
    }

    /// A user deletes the jobs of an array that have not ended; the answer is what became of each.
    pub fn delete_array(
        &mut self,
        user: &str,
        array: JobId,
    ) -> Result<Vec<Deletion>, DeleteRefusal> {
        let jobs = self.cluster.jobs().filter(|job| job.array_id() == array);
        let ids: Vec<JobId> = jobs.map(|job| job.id).collect();
        let deletion = |job| Deletion { job, refusal: self.delete(user, job).err() };
        let outcomes: Vec<Deletion> = ids.into_iter().map(deletion).collect();
        if outcomes.iter().any(|deletion| deletion.refusal.is_none()) {
            return Ok(outcomes);
        }
        let refusal = outcomes.into_iter().find_map(|deletion| deletion.refusal);
        Err(refusal.unwrap_or(DeleteRefusal::NotYours(array)))
    }

    /// A user deletes a job. A job that has ended is for the caller to look up.
    pub fn delete(&mut self, user: &str, id: JobId) -> Result<(), DeleteRefusal> {
        let job = self.cluster.job(id).filter(|job| job.owner == user);
        let job = job.ok_or(DeleteRefusal::NotYours(id))?;
        if job.verdict.is_some() {
            return Err(DeleteRefusal::AlreadyKilled(id));
        }
        let waiting = job.launch.is_none();
        let text = format!("User {user} requested to frag the job {id}");
        self.log(id, EventKind::FragJobRequest, text);
        if waiting {
            self.end_job(id, Verdict::Killed);
        } else {
            self.decide(id, Verdict::Killed);
            self.settle(id);
        }
        Ok(())
    }
}
