//! Which job is submitted when, how far each is, and which is submitted again. No clock of its own.
//!
//! ```text
//!   waiting ──(time, or the end of another group; room for its group)──> due ──> submitted
//!      ^                                                                        │
//!      └─────────── failed, idempotent, tries left ────────────────── ended <───┘
//! ```
//! Jobs of one group are a campaign: as a scientist's script does, no more of it is in flight than
//! keeps every core busy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_api::job::JobState as OarState;
use netsim_report::JobKey;
use netsim_scenario::file::JobState;
use netsim_scenario::resolved::{Job, Start};

/// How often a job is submitted at most. Chosen: what fails so often fails by itself, not by churn.
pub(crate) const MAX_TRIES: u32 = 8;

/// A group of jobs has got so far, for the first time.
pub(crate) type Milestone = (String, JobState);

/// The jobs of a run.
#[derive(Debug)]
pub(crate) struct Workload {
    jobs: Vec<Entry>,
    /// The most jobs of a group in flight.
    at_once: usize,
    /// What groups have been seen to reach, so that it is told once.
    told: BTreeSet<Milestone>,
    by_key: BTreeMap<JobKey, usize>,
}

#[derive(Debug)]
struct Entry {
    group: String,
    start: Start,
    may_be_repeated: bool,
    not_before: Duration,
    tries: u32,
    progress: Progress,
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    /// Its numbers (several for an array) with their states.
    InFlight(BTreeMap<JobKey, OarState>),
    Ended,
}

impl Workload {
    /// The jobs of a run; of each group no more than `at_once` are in flight.
    pub(crate) fn new(jobs: &[Job], at_once: usize) -> Self {
        let entry = |job: &Job| Entry {
            group: job.group.clone(),
            start: job.start.clone(),
            may_be_repeated: job.types.iter().any(|kind| kind == "idempotent"),
            not_before: Duration::ZERO,
            tries: 0,
            progress: Progress::Waiting,
        };
        let jobs = jobs.iter().map(entry).collect();
        Self { jobs, at_once, told: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// The jobs that are to be submitted at `now`, by their places in the list. Each must be answered
    /// by [`submitted`](Self::submitted) or [`postponed`](Self::postponed) before this is asked again.
    pub(crate) fn due(&self, now: Duration) -> Vec<usize> {
        let mut room: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in self.jobs.iter().filter(|entry| entry.is_in_flight()) {
            *room.entry(&entry.group).or_default() += 1;
        }
        let mut due = Vec::new();
        for (place, entry) in self.jobs.iter().enumerate() {
            let taken = room.entry(&entry.group).or_default();
            if entry.progress == Progress::Waiting
                && self.may_start(entry, now)
                && *taken < self.at_once
            {
                *taken += 1;
                due.push(place);
            }
        }
        due
    }

    fn may_start(&self, entry: &Entry, now: Duration) -> bool {
        now >= entry.not_before
            && match &entry.start {
                Start::At(at) => now >= *at,
                Start::After(group) => self.has_ended(group),
            }
    }

    fn has_ended(&self, group: &str) -> bool {
        let mut of_group = self.jobs.iter().filter(|entry| entry.group == group);
        of_group.all(|entry| entry.progress == Progress::Ended)
    }

    /// A job was submitted and got these numbers. Returns what its group has reached.
    pub(crate) fn submitted(&mut self, place: usize, jobs: &[JobKey]) -> Vec<Milestone> {
        let entry = &mut self.jobs[place];
        entry.tries += 1;
        let states = jobs.iter().map(|job| (job.clone(), OarState::Waiting)).collect();
        entry.progress = Progress::InFlight(states);
        let group = entry.group.clone();
        self.by_key.extend(jobs.iter().map(|job| (job.clone(), place)));
        self.tell(&group, JobState::Submitted)
    }

    /// A job could not be submitted: it is due again at `until`.
    pub(crate) fn postponed(&mut self, place: usize, until: Duration) {
        self.jobs[place].not_before = until;
    }

    /// A job has changed its state. Returns what its group has reached.
    pub(crate) fn changed(&mut self, job: &JobKey, state: OarState, well: bool) -> Vec<Milestone> {
        let Some(&place) = self.by_key.get(job) else { return Vec::new() };
        let entry = &mut self.jobs[place];
        let Progress::InFlight(states) = &mut entry.progress else { return Vec::new() };
        states.insert(job.clone(), state);
        let group = entry.group.clone();
        if states.values().all(|state| state.is_final()) {
            let again = !well && entry.may_be_repeated && entry.tries < MAX_TRIES;
            let again = again && states.len() == 1;
            entry.progress = if again { Progress::Waiting } else { Progress::Ended };
        }
        let mut reached = Vec::new();
        for &stage in stages(state) {
            let is_whole = stage != JobState::Ended || self.has_ended(&group);
            if is_whole {
                reached.extend(self.tell(&group, stage));
            }
        }
        reached
    }

    fn tell(&mut self, group: &str, state: JobState) -> Vec<Milestone> {
        let milestone = (group.to_owned(), state);
        let is_new = self.told.insert(milestone.clone());
        is_new.then_some(milestone).into_iter().collect()
    }

    /// The jobs that are in flight.
    pub(crate) fn in_flight(&self) -> Vec<&JobKey> {
        let states = self.jobs.iter().filter_map(|entry| match &entry.progress {
            Progress::InFlight(states) => Some(states),
            Progress::Waiting | Progress::Ended => None,
        });
        states.flatten().filter(|(_, state)| !state.is_final()).map(|(job, _)| job).collect()
    }

    /// The place of a job in the list.
    pub(crate) fn place_of(&self, job: &JobKey) -> Option<usize> {
        self.by_key.get(job).copied()
    }

    /// Whether the job at that place is to be submitted, once more or for the first time.
    pub(crate) fn is_waiting(&self, place: usize) -> bool {
        self.jobs[place].progress == Progress::Waiting
    }

    /// How many have ended, and how many there are.
    pub(crate) fn progress(&self) -> (usize, usize) {
        let ended = self.jobs.iter().filter(|entry| entry.progress == Progress::Ended).count();
        (ended, self.jobs.len())
    }

    /// Whether all have ended.
    pub(crate) fn has_all_ended(&self) -> bool {
        self.jobs.iter().all(|entry| entry.progress == Progress::Ended)
    }

    /// When a job will be due next, as far as is known, if nothing else happens.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let waiting = self.jobs.iter().filter(|entry| entry.progress == Progress::Waiting);
        let at = waiting.filter_map(|entry| match &entry.start {
            Start::At(at) => Some(entry.not_before.max(*at)),
            Start::After(group) => self.has_ended(group).then_some(entry.not_before),
        });
        at.min()
    }
}

impl Entry {
    fn is_in_flight(&self) -> bool {
        matches!(self.progress, Progress::InFlight(_))
    }
}

/// How far a job is that is in this state: it may have been further between two looks.
fn stages(state: OarState) -> &'static [JobState] {
    match state {
        OarState::Waiting | OarState::Hold | OarState::ToError | OarState::ToAckReservation => {
            &[JobState::Submitted]
        }
        OarState::ToLaunch | OarState::Launching => &[JobState::Submitted, JobState::Launching],
        OarState::Running | OarState::Suspended | OarState::Resuming | OarState::Finishing => {
            &[JobState::Submitted, JobState::Launching, JobState::Running]
        }
        OarState::Terminated => {
            &[JobState::Submitted, JobState::Launching, JobState::Running, JobState::Ended]
        }
        OarState::Error => &[JobState::Submitted, JobState::Ended],
    }
}

#[cfg(test)]
mod tests {
    use netsim_scenario::ScenarioFile;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn jobs(text: &str) -> Vec<Job> {
        let text = format!("[[volunteers]]\nbehind = \"home\"\n{text}");
        let file = ScenarioFile::parse(std::path::Path::new("test.toml"), text).unwrap();
        file.resolve(None).unwrap().jobs
    }

    fn end(workload: &mut Workload, id: u64) -> Vec<Milestone> {
        workload.changed(&id.into(), OarState::Terminated, true)
    }

    #[test]
    fn a_campaign_has_no_more_in_flight_than_there_is_room_for() {
        let jobs = jobs("[[job]]\nname = \"c\"\ncommand = \"true\"\ncount = 5");
        let mut workload = Workload::new(&jobs, 2);

        assert_eq!(workload.due(NOW), [0, 1]);
        assert_eq!(workload.submitted(0, &[10.into()]), [("c".to_owned(), JobState::Submitted)]);
        assert_eq!(workload.submitted(1, &[11.into()]), []);
        assert_eq!(workload.due(NOW), [0; 0]);

        let reached: Vec<JobState> = end(&mut workload, 11).into_iter().map(|m| m.1).collect();

        assert_eq!(reached, [JobState::Launching, JobState::Running], "the others have not ended");
        assert_eq!(workload.due(NOW), [2]);
        assert_eq!(workload.in_flight(), [&10.into()]);
    }

    #[test]
    fn what_comes_after_a_group_waits_for_all_of_it() {
        let jobs = jobs(
            "[[job]]\nname = \"a\"\ncommand = \"true\"\ncount = 2\n\
             [[job]]\nname = \"b\"\ncommand = \"true\"\nafter = \"a\"\narray = 2\n\
             [[job]]\nname = \"c\"\ncommand = \"true\"\nat = \"9s\"",
        );
        let mut workload = Workload::new(&jobs, 9);
        assert_eq!(workload.due(NOW), [0, 1]);
        workload.submitted(0, &[1.into()]);
        workload.submitted(1, &[2.into()]);
        end(&mut workload, 1);
        assert_eq!(workload.due(NOW), [0; 0]);

        assert_eq!(end(&mut workload, 2).last(), Some(&("a".to_owned(), JobState::Ended)));

        assert_eq!(workload.due(NOW), [2]);
        workload.submitted(2, &[3.into(), 4.into()]);
        end(&mut workload, 3);
        assert_eq!(workload.progress(), (2, 4), "an array has ended when all of it has");
        assert_eq!(end(&mut workload, 4).last(), Some(&("b".to_owned(), JobState::Ended)));
        assert_eq!(workload.next_due(), Some(Duration::from_secs(9)));
        assert!(!workload.has_all_ended());
        assert_eq!(workload.due(Duration::from_secs(9)), [3]);
    }

    #[test]
    fn what_is_idempotent_is_submitted_again_and_not_for_ever() {
        let jobs = jobs(
            "[[job]]\ncommand = \"true\"\ntypes = [\"idempotent\"]\n\
             [[job]]\ncommand = \"true\"",
        );
        let mut workload = Workload::new(&jobs, 9);
        workload.submitted(1, &[100.into()]);
        workload.changed(&100.into(), OarState::Error, false);
        assert!(!workload.is_waiting(1));

        for id in 1..=u64::from(MAX_TRIES) {
            assert_eq!(workload.due(NOW), [0]);
            workload.submitted(0, &[id.into()]);
            workload.changed(&id.into(), OarState::Error, false);
        }

        assert!(workload.has_all_ended());
    }

    #[test]
    fn what_could_not_be_submitted_is_due_later() {
        let jobs = jobs("[[job]]\ncommand = \"true\"");
        let mut workload = Workload::new(&jobs, 9);

        workload.postponed(0, Duration::from_secs(1));

        assert_eq!(workload.due(NOW), [0; 0]);
        assert_eq!(workload.next_due(), Some(Duration::from_secs(1)));
        assert_eq!(workload.due(Duration::from_secs(1)), [0]);
    }
}
