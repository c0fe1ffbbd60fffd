//! One pass over the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;

use super::quota::Counted;
use super::{Depth, Eviction, MAX_PROMISES, Plan, PlannedLaunch, PlannedShare, Wait, order};
use crate::bits::Bits;
use crate::cluster::{Cluster, Policy};
use crate::expression::Expression;
use crate::gantt::{Gantt, Minute, minute_after, minute_of, minutes, rounded};
use crate::ids::{JobId, NodeNumber, UnixMillis};
use crate::job::Job;
use crate::node::Node;
use crate::park::Park;
use crate::request::Request;
use crate::resources::Group;

/// What decides where a request fits, but for its walltime.
type Shape<'c> = (&'c [Group], Option<&'c Expression>);

struct Pass<'c> {
    cluster: &'c Cluster,
    now: UnixMillis,
    minute: Minute,
    /// A launch may take so long until the walltime begins to count.
    launch: Duration,
    park: Park<'c>,
    alive: Bits,
    /// Can be launched on at once.
    free: Bits,
    /// Free, but for somebody who is on the way out.
    leaving: Bits,
    /// Who works for whom without having been promised anything.
    best_effort: BTreeMap<usize, JobId>,
    gantt: Gantt,
    universes: BTreeMap<Shape<'c>, Universe>,
    counted: Counted<'c>,
    evicted: BTreeSet<JobId>,
    plan: Plan,
}

/// What a shape can have at all.
struct Universe {
    groups: Vec<Bits>,
    /// It fits when nothing else runs.
    fits: bool,
    /// How many resources it needs at least.
    least: usize,
    /// No job of the shape that lasts so long, or longer, starts earlier: what is free only becomes less in a
    /// pass.
    earliest: BTreeMap<Minute, Minute>,
}

impl Universe {
    /// No job of the shape that lasts so long starts earlier.
    fn earliest(&self, length: Minute) -> Minute {
        self.earliest.range(..=length).map(|(_, start)| *start).max().unwrap_or_default()
    }
}

pub(super) fn run(cluster: &Cluster, now: UnixMillis, policy: &Policy, depth: Depth) -> Plan {
    if depth == Depth::Launches && !cluster.jobs().any(|job| job.state == JobState::Waiting) {
        return Plan::default();
    }
    let mut pass = Pass::new(cluster, now, policy, false);
    pass.keep_reservations();
    let mut behind = 0;
    for job in order::waiting(cluster, now) {
        if depth == Depth::Launches && (pass.is_exhausted() || behind >= MAX_PROMISES) {
            break;
        }
        if job.request.reservation.is_some() && job.state == JobState::Waiting {
            continue;
        }
        if let Some(wait) = pass.not_ready(job) {
            pass.plan.waits.insert(job.id, wait);
            continue;
        }
        let wait = match job.request.types.besteffort {
            true => pass.place_best_effort(job),
            false => pass.place(job, behind),
        };
        if let Some(wait) = wait {
            behind += usize::from(matches!(wait, Wait::Planned { .. } | Wait::Leaving));
            pass.plan.waits.insert(job.id, wait);
        }
    }
    pass.plan
}

/// Finds room for an advance reservation: the alternative and the resources, or none.
pub(crate) fn reserve(
    cluster: &Cluster,
    now: UnixMillis,
    policy: &Policy,
    request: &Request,
    start: UnixMillis,
) -> Option<(usize, Vec<PlannedShare>)> {
    let mut pass = Pass::new(cluster, now, policy, true);
    pass.keep_reservations();
    let from = minute_of(start);
    for (index, alternative) in request.resources.alternatives.iter().enumerate() {
        let groups = universes(
            &mut pass.park,
            &pass.alive,
            &alternative.groups,
            request.properties.as_ref(),
        );
        let length = minute_after(start + Duration::from_secs(alternative.walltime_s)) - from;
        let found = pass.gantt.earliest(from, length, 1, |_, free| {
            pass.park.choose(&alternative.groups, &groups, free, &|_| false)
        });
        if let Some((_, chosen)) = found.filter(|(at, _)| *at == from) {
            return Some((index, pass.park.shares(&chosen)));
        }
    }
    None
}

/// Whether the request fits on these nodes when nothing else runs.
pub(crate) fn fits(nodes: &mut dyn Iterator<Item = &Node>, request: &Request) -> bool {
    let nodes: Vec<&Node> = nodes.collect();
    let mut park = Park::new(nodes.into_iter());
    let all = park.all();
    request.resources.alternatives.iter().any(|alternative| {
        let groups = universes(&mut park, &all, &alternative.groups, request.properties.as_ref());
        park.choose(&alternative.groups, &groups, &all, &|_| false).is_some()
    })
}

fn universes<'c>(
    park: &mut Park<'c>,
    alive: &Bits,
    groups: &'c [Group],
    properties: Option<&'c Expression>,
) -> Vec<Bits> {
    let mut common = alive.clone();
    if let Some(properties) = properties {
        common.intersect(park.accepted(properties));
    }
    let group = |group: &'c Group| match &group.filter {
        Some(filter) => common.intersection(park.accepted(filter)),
        None => common.clone(),
    };
    groups.iter().map(group).collect()
}

impl<'c> Pass<'c> {
    /// `exact`: who asks for one certain time must not be refused for a rounded end.
    fn new(cluster: &'c Cluster, now: UnixMillis, policy: &'c Policy, exact: bool) -> Self {
        let usable = |node: &&Node| node.state == ResourceState::Alive && !node.is_draining();
        let park = Park::new(cluster.nodes().map(|node| &**node).filter(usable));
        let alive = park.all();
        let minute = minute_of(now);
        let (mut free, mut leaving) = (alive.clone(), Bits::empty(park.len()));
        let mut best_effort = BTreeMap::new();
        let mut busy: BTreeMap<Minute, Bits> = BTreeMap::new();
        let mut counted = Counted::new(&policy.quotas);
        for (node, first) in park.nodes() {
            if !node.leftovers.is_empty() {
                (first..first + usize::from(node.cores)).for_each(|it| leaving.insert(it));
            }
            for share in &node.shares {
                let job = cluster.job(share.job);
                let cores = share.cores.iter().map(|core| first + usize::from(*core));
                match job.filter(|job| job.verdict.is_none()) {
                    None => cores.for_each(|it| {
                        free.remove(it);
                        leaving.insert(it);
                    }),
                    Some(job) if job.request.types.besteffort => cores.for_each(|it| {
                        free.remove(it);
                        best_effort.insert(it, job.id);
                    }),
                    Some(job) => {
                        let until = minute_after(job.expected_end(now)).max(minute + 1);
                        let until = if exact { until } else { rounded(until, minute) };
                        let busy = busy.entry(until).or_insert_with(|| Bits::empty(park.len()));
                        cores.for_each(|it| {
                            free.remove(it);
                            busy.insert(it);
                        });
                    }
                }
            }
        }
        free.subtract(&leaving);
        if !counted.is_unlimited() {
            for job in cluster.jobs().filter(|job| job.live_launch().is_some()) {
                let parts = job.launch.iter().flat_map(|launch| &launch.parts);
                let resources = parts.map(|part| part.cores.len() as u64).sum();
                counted.add(job, resources, job.walltime_s());
            }
        }
        let mut gantt = Gantt::new(minute, alive.clone());
        for (until, resources) in busy {
            gantt.take(&resources, minute, until);
        }
        Self {
            cluster,
            now,
            minute,
            launch: policy.launch_deadline,
            park,
            alive,
            free,
            leaving,
            best_effort,
            gantt,
            universes: BTreeMap::new(),
            counted,
            evicted: BTreeSet::new(),
            plan: Plan::default(),
        }
    }

    /// Nothing more can be launched, and nobody can be made to leave.
    fn is_exhausted(&self) -> bool {
        self.free.is_empty() && self.best_effort.is_empty()
    }

    /// Reservations have their resources; those whose time has come start.
    fn keep_reservations(&mut self) {
        let waiting = self.cluster.jobs().filter(|job| job.state == JobState::Waiting);
        let reserved: Vec<&Job> =
            waiting.map(|job| &**job).filter(|job| job.reserved.is_some()).collect();
        for job in &reserved {
            let (Some(reserved), Some(start)) = (&job.reserved, job.request.reservation) else {
                continue;
            };
            let mut bits = Bits::empty(self.park.len());
            for share in reserved {
                self.park
                    .numbers(share.node, &share.cores)
                    .into_iter()
                    .for_each(|it| bits.insert(it));
            }
            let end = start + Duration::from_secs(job.walltime_s());
            self.gantt.take(&bits, minute_of(start), minute_after(end).max(self.minute + 1));
        }
        for job in reserved {
            let (Some(reserved), Some(start)) = (&job.reserved, job.request.reservation) else {
                continue;
            };
            let wait = if start > self.now {
                Some(Wait::NotBefore(start))
            } else {
                self.start_reservation(job, reserved)
            };
            if let Some(wait) = wait {
                self.plan.waits.insert(job.id, wait);
            }
        }
    }

    /// On its own resources; where some are lost, on others that are free now.
    fn start_reservation(&mut self, job: &'c Job, reserved: &[PlannedShare]) -> Option<Wait> {
        let wanted: usize = reserved.iter().map(|share| share.cores.len()).sum();
        let own: Vec<usize> =
            reserved.iter().flat_map(|share| self.park.numbers(share.node, &share.cores)).collect();
        if own.len() == wanted {
            return self.start(job, job.alternative, &own);
        }
        let shape = self.shape(job, job.alternative)?;
        let universe = self.universe(shape).groups.clone();
        let mut free = self.gantt.now().intersection(&self.free);
        own.iter().filter(|&&it| self.free.contains(it)).for_each(|&it| free.insert(it));
        match self.park.choose(shape.0, &universe, &free, &|_| false) {
            Some(chosen) => self.start(job, job.alternative, &chosen),
            None => Some(self.too_few(job)),
        }
    }

    /// Why a job is not even tried.
    fn not_ready(&self, job: &Job) -> Option<Wait> {
        if job.state == JobState::Hold {
            return Some(Wait::Held);
        }
        let unfinished =
            |id: &&JobId| self.cluster.job(**id).is_some_and(|job| !job.state.is_final());
        if let Some(id) = job.request.dependencies.iter().find(unfinished) {
            return Some(Wait::Dependency(*id));
        }
        job.request.types.postpone.filter(|date| *date > self.now).map(Wait::NotBefore)
    }

    fn shape(&self, job: &'c Job, alternative: usize) -> Option<Shape<'c>> {
        let alternative = job.request.resources.alternatives.get(alternative)?;
        Some((&alternative.groups, job.request.properties.as_ref()))
    }

    fn universe(&mut self, shape: Shape<'c>) -> &mut Universe {
        if !self.universes.contains_key(&shape) {
            let groups = universes(&mut self.park, &self.alive, shape.0, shape.1);
            let chosen = self.park.choose(shape.0, &groups, &self.alive, &|_| false);
            let least = self.park.least(shape.0, &groups);
            let fits = chosen.is_some();
            let universe = Universe { groups, fits, least, earliest: BTreeMap::new() };
            self.universes.insert(shape, universe);
        }
        self.universes.entry(shape).or_insert_with(|| Universe {
            groups: Vec::new(),
            fits: false,
            least: 0,
            earliest: BTreeMap::new(),
        })
    }

    /// The alternative that starts first; of equals the first one.
    fn place(&mut self, job: &'c Job, behind: usize) -> Option<Wait> {
        let mut best: Option<(Minute, usize, Vec<usize>)> = None;
        for index in 0..job.request.resources.alternatives.len() {
            if best.as_ref().is_some_and(|(start, ..)| *start == self.minute) {
                break;
            }
            let Some(shape) = self.shape(job, index) else { continue };
            let walltime_s = job.request.resources.alternatives[index].walltime_s;
            let Some((start, chosen)) = self.earliest(job, shape, walltime_s) else { continue };
            if best.as_ref().is_none_or(|(best, ..)| start < *best) {
                best = Some((start, index, chosen));
            }
        }
        let Some((start, index, chosen)) = best else { return Some(self.too_few(job)) };
        if start == self.minute {
            return self.start(job, index, &chosen);
        }
        self.take(job, index, &chosen, start);
        Some(Wait::Planned { start: UnixMillis(start * 60_000), behind })
    }

    fn earliest(
        &mut self,
        job: &Job,
        shape: Shape<'c>,
        walltime_s: u64,
    ) -> Option<(Minute, Vec<usize>)> {
        let (minute, length) = (self.minute, self.length(walltime_s));
        let universe = self.universe(shape);
        if !universe.fits {
            return None;
        }
        let (from, least) = (universe.earliest(length).max(minute), universe.least);
        let groups = std::mem::take(&mut universe.groups);
        let (park, free, leaving) = (&self.park, &self.free, &self.leaving);
        let avoid = |node: NodeNumber| job.avoid.contains(&node);
        let found = self.gantt.earliest(from, length, least, |start, common| {
            let choose = |from: &Bits| park.choose(shape.0, &groups, from, &avoid);
            if start > minute {
                return choose(common);
            }
            // Without waiting for anybody if possible, then without making anybody leave.
            let mut quiet = common.intersection(free);
            choose(&quiet).or_else(|| {
                quiet.unite(&common.intersection(leaving));
                choose(&quiet).or_else(|| choose(common))
            })
        });
        let universe = self.universe(shape);
        universe.groups = groups;
        match &found {
            Some((start, _)) => drop(universe.earliest.insert(length, *start)),
            None => universe.fits = false,
        }
        found
    }

    /// Launches now, or makes room and waits for it.
    fn start(&mut self, job: &'c Job, index: usize, chosen: &[usize]) -> Option<Wait> {
        let alternative = job.request.resources.alternatives.get(index)?;
        let resources = chosen.len() as u64;
        if let Some(quota) = self.counted.refusal(job, resources, alternative.walltime_s) {
            return Some(Wait::Quota(quota.to_string()));
        }
        let ready = chosen.iter().all(|&it| self.free.contains(it));
        self.take(job, index, chosen, self.minute);
        if !ready {
            let holders: BTreeSet<JobId> =
                chosen.iter().filter_map(|it| self.best_effort.get(it).copied()).collect();
            for holder in holders {
                if self.evicted.insert(holder) {
                    self.plan.evictions.push(Eviction { job: holder, for_job: job.id });
                }
            }
            return Some(Wait::Leaving);
        }
        self.counted.add(job, resources, alternative.walltime_s);
        let shares = self.park.shares(chosen);
        self.plan.launches.push(PlannedLaunch { job: job.id, alternative: index, shares });
        None
    }

    /// How long a job of that walltime has its resources, wherever in a minute it begins.
    fn length(&self, walltime_s: u64) -> Minute {
        minutes(walltime_s.saturating_add(self.launch.as_secs())) + 1
    }

    fn take(&mut self, job: &Job, index: usize, chosen: &[usize], start: Minute) {
        let mut bits = Bits::empty(self.park.len());
        chosen.iter().for_each(|&it| bits.insert(it));
        let walltime_s =
            job.request.resources.alternatives.get(index).map_or(0, |it| it.walltime_s);
        let mut end = start + self.length(walltime_s);
        if start == self.minute {
            // To the minute that a pass sees when the job has been launched: a plan that promised others a
            // later one would be another plan at once.
            end = minute_after(self.now + self.launch + Duration::from_secs(walltime_s));
            self.free.subtract(&bits);
        }
        self.gantt.take(&bits, start, rounded(end, self.minute));
    }

    /// What nobody else takes now; the future is not promised to anybody.
    fn place_best_effort(&mut self, job: &'c Job) -> Option<Wait> {
        let left = self.gantt.now().intersection(&self.free);
        let avoid = |node: NodeNumber| job.avoid.contains(&node);
        let mut fits = false;
        for (index, alternative) in job.request.resources.alternatives.iter().enumerate() {
            let Some(shape) = self.shape(job, index) else { continue };
            let universe = self.universe(shape);
            if !universe.fits {
                continue;
            }
            fits = true;
            let groups = universe.groups.clone();
            let Some(chosen) = self.park.choose(shape.0, &groups, &left, &avoid) else {
                continue;
            };
            let resources = chosen.len() as u64;
            if let Some(quota) = self.counted.refusal(job, resources, alternative.walltime_s) {
                return Some(Wait::Quota(quota.to_string()));
            }
            self.counted.add(job, resources, alternative.walltime_s);
            chosen.iter().for_each(|&it| self.free.remove(it));
            let shares = self.park.shares(&chosen);
            self.plan.launches.push(PlannedLaunch { job: job.id, alternative: index, shares });
            return None;
        }
        Some(if fits { Wait::NothingLeft } else { self.too_few(job) })
    }

    /// How many resources of its kind there are.
    fn too_few(&mut self, job: &'c Job) -> Wait {
        let count = |wanted: &dyn Fn(ResourceState) -> bool| {
            let nodes = self.cluster.nodes().map(|node| &**node);
            let mut park = Park::new(nodes.filter(|node| wanted(node.state)));
            let all = park.all();
            let alternatives = job.request.resources.alternatives.iter();
            let most = alternatives.map(|alternative| {
                let groups = universes(
                    &mut park,
                    &all,
                    &alternative.groups,
                    job.request.properties.as_ref(),
                );
                let mut any = Bits::empty(park.len());
                groups.iter().for_each(|group| any.unite(group));
                any.count()
            });
            most.max().unwrap_or(0)
        };
        let alive = count(&|state| state == ResourceState::Alive);
        let silent =
            count(&|state| matches!(state, ResourceState::Suspected | ResourceState::Absent));
        Wait::TooFew { alive, silent }
    }
}
