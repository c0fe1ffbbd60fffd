//! What users and new nodes ask for.

use std::collections::{BTreeMap, BTreeSet};

use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;

use super::Draft;
use super::order::one_at_least;
use crate::actor::Actor;
use crate::array::Array;
use crate::event::EventKind;
use crate::expression::Expression;
use crate::ids::{JobId, NodeNumber, UnixMillis};
use crate::job::{ArrayPlace, Job, Verdict};
use crate::node::Node;
use crate::park;
use crate::plan::{fits, reserve};
use crate::request::Request;

/// Why a job is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitRefusal {
    /// More than has ever enrolled.
    #[error(
        "There are not enough resources for your request: {wanted} asked for; {resources} resources on {nodes} \
         nodes are enrolled, and the request does not fit on them"
    )]
    NotEnough {
        /// What the job wants, as OAR writes it.
        wanted: String,
        /// How many resources there are.
        resources: usize,
        /// How many nodes.
        nodes: usize,
    },
    /// No node has such a property.
    #[error("there is no property {0}: see `oarnodes` for those that there are")]
    NoProperty(String),
    /// A job to wait for that was never submitted.
    #[error("there is no job {0} to wait for")]
    NoDependency(JobId),
    /// The past, or no room.
    #[error("Reservation not valid --> KO ({0})")]
    Reservation(String),
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

/// Why a job is not submitted once more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResubmitRefusal {
    /// It waits or runs.
    #[error("The job must be in Error or Terminated state.")]
    NotEnded,
    /// Its time is over.
    #[error("Interactive jobs and advance reservations cannot be resubmitted.")]
    Reservation,
    /// It is not taken any more.
    #[error(transparent)]
    Submit(#[from] SubmitRefusal),
}

impl Draft<'_> {
    /// A volunteer's machine joins.
    pub fn enrol(&mut self, cores: u16, memory_mib: u64) -> NodeNumber {
        let cores = cores.max(1);
        let counters = &mut self.cluster.counters;
        let number = NodeNumber(counters.node);
        let first_resource = counters.resource;
        counters.node += 1;
        counters.resource += u64::from(cores);
        let node = Node {
            number,
            cores,
            memory_mib,
            properties: BTreeMap::new(),
            taken_away: None,
            first_resource,
            state: ResourceState::Alive,
            last_job: UnixMillis::default(),
            shares: Vec::new(),
            leftovers: Vec::new(),
            silent_since: None,
            last_seen: self.now,
        };
        self.insert_node(node);
        self.schedule = true;
        number
    }

    /// A user submits the jobs of an array, or a single one; the answer is their numbers.
    pub fn submit_array(
        &mut self,
        owner: &str,
        request: &Request,
        array: &Array,
    ) -> Result<Vec<JobId>, SubmitRefusal> {
        self.check(request)?;
        let mut ids: Vec<JobId> = Vec::with_capacity(array.len());
        for index in 0..array.len() {
            let command = array.command(&request.command, index);
            let id = self.add(owner, Request { command, ..request.clone() })?;
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
        self.check(&request)?;
        self.add(owner, request)
    }

    /// A user submits a job that has ended once more.
    pub fn resubmit(&mut self, old: &Job) -> Result<JobId, ResubmitRefusal> {
        if !old.state.is_final() {
            return Err(ResubmitRefusal::NotEnded);
        }
        if old.request.reservation.is_some() {
            return Err(ResubmitRefusal::Reservation);
        }
        let id = self.submit(&old.owner, old.request.clone())?;
        if let Some(job) = self.job_mut(id) {
            job.resubmit_of = Some(old.id);
        }
        Ok(id)
    }

    /// What can be said of a request without a plan.
    fn check(&self, request: &Request) -> Result<(), SubmitRefusal> {
        let conditions = request.properties.iter().flat_map(Expression::properties);
        let mut properties = request.resources.properties().chain(conditions);
        if let Some(unknown) = properties.find(|property| !park::is_known(&self.cluster, property))
        {
            return Err(SubmitRefusal::NoProperty(unknown.to_owned()));
        }
        let unknown = |id: &&JobId| !(1..self.cluster.counters.job).contains(&id.0);
        if let Some(id) = request.dependencies.iter().find(unknown) {
            return Err(SubmitRefusal::NoDependency(*id));
        }
        if !fits(&mut self.cluster.enrolled(), request) {
            let resources = self.cluster.enrolled().map(|node| usize::from(node.cores)).sum();
            let (wanted, nodes) =
                (request.resources.first().to_string(), self.cluster.enrolled().count());
            return Err(SubmitRefusal::NotEnough { wanted, resources, nodes });
        }
        Ok(())
    }

    fn add(&mut self, owner: &str, request: Request) -> Result<JobId, SubmitRefusal> {
        let reserved = match request.reservation {
            None => None,
            Some(start) if start < self.now => {
                return Err(SubmitRefusal::Reservation("the start is in the past".to_owned()));
            }
            Some(start) => {
                let found = reserve(&self.cluster, self.now, self.policy, &request, start);
                let why = "not enough resources are free at that time";
                Some(found.ok_or_else(|| SubmitRefusal::Reservation(why.to_owned()))?)
            }
        };
        let (alternative, reserved) = match reserved {
            Some((alternative, shares)) => (alternative, Some(shares)),
            None => (0, None),
        };
        self.schedule = true;
        let state = if request.hold { JobState::Hold } else { JobState::Waiting };
        let id = JobId(self.cluster.counters.job);
        self.cluster.counters.job += 1;
        let job = Job {
            id,
            owner: owner.to_owned(),
            request,
            state,
            submitted: self.now,
            started: None,
            running_since: None,
            stopped: None,
            exit_code: None,
            generation: 0,
            failed_launches: 0,
            requeues: 0,
            alternative,
            reserved,
            resubmit_of: None,
            array: None,
            avoid: BTreeSet::new(),
            verdict: None,
            launch: None,
            events: Vec::new(),
        };
        self.insert_job(job);
        Ok(id)
    }

    /// A user deletes the jobs of an array that have not ended; the answer is what became of each.
    pub fn delete_array(
        &mut self,
        actor: &Actor,
        array: JobId,
    ) -> Result<Vec<(JobId, Option<DeleteRefusal>)>, DeleteRefusal> {
        let jobs = self.jobs_of_array(array);
        let each = |id| (id, self.delete(actor, id).err());
        let outcomes = jobs.into_iter().map(each).collect();
        one_at_least(outcomes, DeleteRefusal::NotYours(array))
    }

    /// A user deletes a job. A job that has ended is for the caller to look up.
    pub fn delete(&mut self, actor: &Actor, id: JobId) -> Result<(), DeleteRefusal> {
        let job = self.cluster.job(id).filter(|job| actor.may(&job.owner));
        let job = job.ok_or(DeleteRefusal::NotYours(id))?;
        if job.verdict.is_some() {
            return Err(DeleteRefusal::AlreadyKilled(id));
        }
        let waiting = job.launch.is_none();
        let text = format!("User {} requested to frag the job {id}", actor.name);
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
