//! What users and operators order: hold, resume, the state and the properties of nodes.

use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;

use super::Draft;
use crate::actor::Actor;
use crate::event::EventKind;
use crate::ids::{JobId, NodeNumber};

/// The most properties of a node, and the longest name and value. Chosen: more than operators keep.
const MAX_PROPERTIES: usize = 100;
const MAX_PROPERTY: usize = 200;

/// Columns of OAR's table of resources that no condition looks at, and that are not the operator's to write.
const COLUMNS: [&str; 15] = [
    "api_timestamp",
    "available_upto",
    "expiry_date",
    "finaud_decision",
    "last_available_upto",
    "last_job_date",
    "links",
    "next_finaud_decision",
    "next_state",
    "scheduler_priority",
    "state",
    "state_num",
    "status",
    "suspended_jobs",
    "jobs",
];

/// Why a job is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldRefusal {
    /// Another user's, or nobody's.
    #[error("/!\\ Cannot hold {0} : you are not the right user.")]
    NotYours(JobId),
    /// It does not wait.
    #[error("/!\\ Cannot hold {0} : the job is not in the right state (try '-r' option).")]
    NotWaiting(JobId),
}

/// Why a job is not resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeRefusal {
    /// Another user's, or nobody's.
    #[error("/!\\ Cannot resume {0} : you are not the right user.")]
    NotYours(JobId),
    /// It is not held.
    #[error("/!\\ Cannot resume {0} : the job is not in the Hold or Suspended state.")]
    NotHeld(JobId),
}

/// Why a node is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetNodeRefusal {
    /// There is no such node.
    #[error("there is no node {0}")]
    NoNode(NodeNumber),
    /// OAR does not let it be set by hand.
    #[error("a node can be made Alive, Absent or Dead, nothing else")]
    State,
    /// A name that no property can have.
    #[error(
        "cannot use {0:?} as a property: up to 200 letters, digits and underscores, in lower case"
    )]
    Name(String),
    /// The server's own.
    #[error("{0} is the server's own property: it cannot be set")]
    System(String),
    /// Too long a value, or too many.
    #[error("a node has at most 100 properties, of at most 200 characters")]
    TooMuch,
}

impl Draft<'_> {
    /// A user holds a job that waits.
    pub fn hold(&mut self, actor: &Actor, id: JobId) -> Result<(), HoldRefusal> {
        let job = self.cluster.job(id).filter(|job| actor.may(&job.owner));
        match job.map(|job| job.state) {
            None => return Err(HoldRefusal::NotYours(id)),
            Some(JobState::Waiting) => {}
            Some(_) => return Err(HoldRefusal::NotWaiting(id)),
        }
        self.log(id, EventKind::HoldWaitingJob, format!("User {} holds the job", actor.name));
        if let Some(job) = self.job_mut(id) {
            job.state = JobState::Hold;
        }
        self.schedule = true;
        Ok(())
    }

    /// A user lets a held job go on.
    pub fn resume(&mut self, actor: &Actor, id: JobId) -> Result<(), ResumeRefusal> {
        let job = self.cluster.job(id).filter(|job| actor.may(&job.owner));
        match job.map(|job| job.state) {
            None => return Err(ResumeRefusal::NotYours(id)),
            Some(JobState::Hold) => {}
            Some(_) => return Err(ResumeRefusal::NotHeld(id)),
        }
        self.log(id, EventKind::ResumeJob, format!("User {} resumes the job", actor.name));
        if let Some(job) = self.job_mut(id) {
            job.state = JobState::Waiting;
        }
        self.schedule = true;
        Ok(())
    }

    /// Holds the jobs of an array that wait: the answer is what became of each.
    ///
    /// # Errors
    /// The first refusal, when none of them could be held.
    pub fn hold_array(
        &mut self,
        actor: &Actor,
        array: JobId,
    ) -> Result<Vec<(JobId, Option<HoldRefusal>)>, HoldRefusal> {
        let jobs = self.jobs_of_array(array);
        let each = |id| (id, self.hold(actor, id).err());
        let outcomes = jobs.into_iter().map(each).collect();
        one_at_least(outcomes, HoldRefusal::NotYours(array))
    }

    /// Lets the held jobs of an array go on: the answer is what became of each.
    ///
    /// # Errors
    /// The first refusal, when none of them could be resumed.
    pub fn resume_array(
        &mut self,
        actor: &Actor,
        array: JobId,
    ) -> Result<Vec<(JobId, Option<ResumeRefusal>)>, ResumeRefusal> {
        let jobs = self.jobs_of_array(array);
        let each = |id| (id, self.resume(actor, id).err());
        let outcomes = jobs.into_iter().map(each).collect();
        one_at_least(outcomes, ResumeRefusal::NotYours(array))
    }

    /// The jobs of an array that have not ended.
    pub(super) fn jobs_of_array(&self, array: JobId) -> Vec<JobId> {
        let jobs = self.cluster.jobs().filter(|job| job.array_id() == array);
        jobs.map(|job| job.id).collect()
    }

    /// The operator takes a node away (Absent, Dead) or lets it take part again (Alive, once it is heard).
    pub fn set_node_state(
        &mut self,
        number: NodeNumber,
        state: ResourceState,
    ) -> Result<(), SetNodeRefusal> {
        if self.cluster.node(number).is_none() {
            return Err(SetNodeRefusal::NoNode(number));
        }
        match state {
            ResourceState::Suspected => return Err(SetNodeRefusal::State),
            ResourceState::Alive => {
                if let Some(node) = self.node_mut(number).filter(|node| node.taken_away.is_some()) {
                    node.taken_away = None;
                    node.state = ResourceState::Suspected;
                    node.silent_since = Some(node.last_seen);
                }
            }
            state @ (ResourceState::Absent | ResourceState::Dead) => {
                self.lose(number);
                if let Some(node) = self.node_mut(number) {
                    node.taken_away = Some(state);
                    node.state = state;
                    node.silent_since = None;
                }
            }
        }
        Ok(())
    }

    /// The operator sets a property of a node; an empty value takes it away.
    pub fn set_node_property(
        &mut self,
        number: NodeNumber,
        name: &str,
        value: &str,
    ) -> Result<(), SetNodeRefusal> {
        let name = name.trim().to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || name.len() > MAX_PROPERTY || !name.chars().all(allowed) {
            return Err(SetNodeRefusal::Name(name.chars().take(MAX_PROPERTY).collect()));
        }
        let mut reserved = crate::park::BUILT_IN.iter().chain(&COLUMNS);
        if name != "drain" && reserved.any(|reserved| *reserved == name) {
            return Err(SetNodeRefusal::System(name));
        }
        let node = self.cluster.node(number).ok_or(SetNodeRefusal::NoNode(number))?;
        let full = node.properties.len() >= MAX_PROPERTIES && !node.properties.contains_key(&name);
        if full || value.chars().count() > MAX_PROPERTY {
            return Err(SetNodeRefusal::TooMuch);
        }
        if let Some(node) = self.node_mut(number) {
            match value {
                "" => drop(node.properties.remove(&name)),
                value => drop(node.properties.insert(name, value.to_owned())),
            }
        }
        Ok(())
    }
}

/// What became of each job of an array; the first refusal when nothing was done, and `none` when there is no
/// such job.
pub(super) fn one_at_least<R>(
    outcomes: Vec<(JobId, Option<R>)>,
    none: R,
) -> Result<Vec<(JobId, Option<R>)>, R> {
    if outcomes.iter().any(|(_, refusal)| refusal.is_none()) {
        return Ok(outcomes);
    }
    Err(outcomes.into_iter().find_map(|(_, refusal)| refusal).unwrap_or(none))
}
