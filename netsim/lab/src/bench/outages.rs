//! How long a job's data waits when something happens to its network, in the laboratory.
//!
//! One world, one job of eight nodes with the pattern `star`, so that most pairs begin with their first
//! datagram. Numbered datagrams go every 20 ms both ways between the pairs that a question is about:
//!
//! - pairs that begin over the relay become direct: none may be missing;
//! - a relay that carries pairs is killed, a machine moves to another router, a router starts again and has
//!   forgotten its mappings: the time from there until data flows again;
//! - nobody says anything: what pairs still send is counted where it leaves their machines. Then each says one
//!   thing.
//!
//! The same questions are asked in virtual time by [`netsim_virtual::drills`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use coordinator_api::job::JobState;
use coordinator_api::mesh::{JobMesh, MeshPair};
use netsim_report::Recorder;
use netsim_report::statistics::quantile;
use netsim_scenario::ScenarioFile;
use netsim_sim::Event;

use super::figures::{Better, Figure};
use crate::conduct;
use crate::progress::Progress;
use crate::wait;
use crate::world::{JobNetwork, Submission, World};

mod heard;
mod silence;
mod talk;

use heard::{Heard, Outage};
use talk::{Ordered, Talk};

/// How long the programs may take for anything that nothing is in the way of.
const SOON: Duration = Duration::from_secs(60);
/// How long pairs talk before something happens, and before it counts that all of them go well.
const BEFORE: Duration = Duration::from_secs(3);
/// For how long they are listened to afterwards at most: what takes longer has not happened.
const AFTER: Duration = Duration::from_secs(12);
/// For how long at least: what is lost when pairs become direct again counts.
const AT_LEAST: Duration = Duration::from_secs(5);
/// Between two looks at whether all goes well again.
const LOOK: Duration = Duration::from_millis(250);
/// What is younger may be on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// From the start of a relay until all have measured it and bound their channels there.
const KNOWN_AGAIN: Duration = Duration::from_secs(12);
/// After so long without data the peers' keys are void, and a little more. Before, WireGuard may renew the keys of what
/// was sent or received once more (after 165 s at the latest), which is not the overlay's doing.
const FORGOTTEN: Duration = Duration::from_secs(190);
/// For how long the silence is listened to, and in the short form.
const SILENCE: Duration = Duration::from_secs(60);
const SHORT_SILENCE: Duration = Duration::from_secs(30);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often each event happens.
    pub rounds: u8,
    /// Whether the silence is listened to for half as long.
    pub short: bool,
    /// The run directory.
    pub dir: PathBuf,
}

/// Measures everything.
///
/// # Errors
/// When the laboratory cannot do what is asked of it.
pub fn run(plan: &Plan, progress: &mut Progress) -> anyhow::Result<Vec<Figure>> {
    let mut lab = Lab::start(&plan.dir, progress)?;
    let mut findings = Findings::default();
    progress.begin("pairs become direct while they talk");
    lab.begin_to_talk(&mut findings)?;
    for round in 0..plan.rounds {
        let place = ["cafe", "flat"][usize::from(round % 2)];
        progress.begin(format!("vol-1 moves to the {place}"));
        let roam = Event::Roam { host: "vol-1".to_owned(), behind: Some(place.to_owned()) };
        lab.happen("vol-1", &roam, &mut findings.roams, &mut findings.promoted)?;
        progress.begin("the router of vol-2 starts again");
        let reboot = Event::NatReboot("house".to_owned());
        lab.happen("vol-2", &reboot, &mut findings.reboots, &mut findings.promoted)?;
    }
    let mut killed: Option<String> = None;
    for _ in 0..plan.rounds {
        if let Some(name) = &killed {
            progress.begin(format!("{name} starts again"));
            lab.world.start_relay(name)?;
            std::thread::sleep(KNOWN_AGAIN);
        }
        progress.begin("the relay in use is killed");
        killed = Some(lab.kill_relay(&mut findings.relay_deaths)?);
    }
    progress.begin("nobody says anything");
    let counted = if plan.short { SHORT_SILENCE } else { SILENCE };
    findings.silence = Some(lab.be_silent(FORGOTTEN, counted, progress)?);
    progress.begin("ending everything and looking for leftovers");
    lab.stop()?;
    Ok(findings.figures())
}

/// The world with its one job.
struct Lab {
    world: World,
    job: u64,
    /// By rank.
    nodes: Vec<JobNetwork>,
    talk: Talk,
}

impl Lab {
    fn start(dir: &Path, progress: &mut Progress) -> anyhow::Result<Self> {
        let text = include_str!("outages/lab.toml").to_owned();
        let resolved = ScenarioFile::parse(Path::new("lab.toml"), text)?.resolve(None)?;
        let mut nothing = |_: &World| Ok(());
        let world = conduct::build(&resolved, dir, &Recorder::nowhere(), progress, &mut nothing)?;
        progress.begin("waiting for the job's network");
        let count = world.volunteers.len();
        let wanted = resolved.jobs.first().context("there is no job")?;
        let idle = Submission {
            walltime: Some(wanted.walltime),
            types: wanted.types.clone(),
            ..Submission::new(&wanted.command, u16::try_from(wanted.nodes)?, &[])
        };
        let job = world.scientist().submit(&idle)?;
        let is_running = |state: JobState| state == JobState::Running;
        world.scientist().wait_for_job(job, "its start", SOON, |job| is_running(job.state))?;
        let nodes = wait::until("the job's networks", SOON, || {
            let mut found = world.job_networks().ok()?;
            found.retain(|network| network.ipv4.is_some());
            found.sort_by_key(|network| network.ipv4);
            (found.len() == count).then_some(found)
        })?;
        let talk = Talk::start(&nodes)?;
        Ok(Self { world, job, nodes, talk })
    }

    fn stop(self) -> anyhow::Result<()> {
        drop(self.talk);
        self.world.scientist().oar(&["del", &self.job.to_string()])?;
        self.world.scientist().wait_for_end(self.job, SOON)?;
        self.world.stop()
    }

    fn rank_of(&self, host: &str) -> anyhow::Result<usize> {
        let found = self.nodes.iter().position(|node| node.host == host);
        found.with_context(|| format!("the job does not run on {host}"))
    }

    /// Every ordered pair.
    fn all(&self) -> impl Iterator<Item = Ordered> + use<> {
        let count = self.nodes.len();
        (0..count)
            .flat_map(move |from| (0..count).map(move |to| (from, to)))
            .filter(|(a, b)| a != b)
    }

    fn mesh(&self) -> anyhow::Result<JobMesh> {
        self.world.scientist().mesh(self.job)
    }

    /// The pairs that are direct now.
    fn direct(&self) -> anyhow::Result<BTreeSet<Ordered>> {
        let mesh = self.mesh()?;
        Ok(mesh.pairs.iter().filter(|pair| pair.path == "direct").map(ends).collect())
    }

    /// All pairs that nobody has waited for begin in one moment.
    fn begin_to_talk(&mut self, findings: &mut Findings) -> anyhow::Result<()> {
        let before: BTreeSet<Ordered> = self.direct()?;
        self.talk.only(self.all().filter(|(from, to)| *from != 0 && *to != 0));
        std::thread::sleep(AFTER);
        let (heard, direct) = (self.talk.heard(), self.direct()?);
        let end = Instant::now().checked_sub(ON_ITS_WAY).context("the clock begins now")?;
        for (pair, heard) in heard {
            if direct.contains(&pair) && !before.contains(&pair) {
                findings.promoted.push(heard.lost(end));
            }
        }
        Ok(())
    }

    /// What an event does to the pairs of a node that talk, and to those that become direct again.
    fn happen(
        &mut self,
        host: &str,
        event: &Event,
        outages: &mut Vec<Option<Outage>>,
        promoted: &mut Vec<(usize, usize)>,
    ) -> anyhow::Result<()> {
        let rank = self.rank_of(host)?;
        self.talk.only(self.all().filter(|(from, to)| *from == rank || *to == rank));
        std::thread::sleep(BEFORE);
        let before = self.direct()?;
        let at = Instant::now();
        self.world.apply(event)?;
        self.listen(at, &before)?;
        let direct = self.direct()?;
        for (pair, outage) in self.outages(at)? {
            if let Some(Outage { sent_later, lost_later, .. }) = outage
                && direct.contains(&pair)
            {
                promoted.push((sent_later, lost_later));
            }
            outages.push(outage);
        }
        Ok(())
    }

    /// Until data flows again between all that talk, and those that were direct are so again.
    fn listen(&self, at: Instant, before: &BTreeSet<Ordered>) -> anyhow::Result<()> {
        while at.elapsed() < AFTER {
            std::thread::sleep(LOOK);
            let end = Instant::now().checked_sub(ON_ITS_WAY).unwrap_or(at);
            let heard = self.talk.heard();
            let flows = |heard: &Heard| heard.outage(at, end).is_some();
            if at.elapsed() >= AT_LEAST
                && heard.values().all(flows)
                && before.is_subset(&self.direct()?)
            {
                break;
            }
        }
        Ok(())
    }

    fn outages(&self, at: Instant) -> anyhow::Result<BTreeMap<Ordered, Option<Outage>>> {
        let heard = self.talk.heard();
        let end = Instant::now().checked_sub(ON_ITS_WAY).context("the clock begins now")?;
        let well = |heard: &Heard| heard.lost(at.checked_sub(ON_ITS_WAY).unwrap_or(at)).1 == 0;
        if let Some((pair, _)) = heard.iter().find(|(_, heard)| !well(heard)) {
            bail!("{pair:?} did not go well before anything happened: {:?}", self.mesh()?.pairs);
        }
        Ok(heard.into_iter().map(|(pair, heard)| (pair, heard.outage(at, end))).collect())
    }

    /// Kills the relay that carries most pairs, and listens to those; its name.
    fn kill_relay(&mut self, outages: &mut Vec<Option<Outage>>) -> anyhow::Result<String> {
        let via = |pair: &MeshPair| {
            let relay = pair.via.as_ref()?.parse::<SocketAddr>().ok()?;
            let name = self.world.relay_at(relay.ip())?.to_owned();
            (pair.path == "relayed").then_some((name, ends(pair)))
        };
        self.talk.only(self.all());
        std::thread::sleep(BEFORE);
        let mut carried: BTreeMap<String, Vec<Ordered>> = BTreeMap::new();
        for (name, pair) in self.mesh()?.pairs.iter().filter_map(via) {
            carried.entry(name).or_default().push(pair);
        }
        let most = carried.into_iter().max_by_key(|(_, pairs)| pairs.len());
        let (name, pairs) = most.context("no pair takes a relay that stands alone")?;
        self.talk.only(pairs);
        std::thread::sleep(BEFORE);
        let at = Instant::now();
        self.world.kill_relay(&name)?;
        self.listen(at, &BTreeSet::new())?;
        outages.extend(self.outages(at)?.into_values());
        Ok(name)
    }

    fn be_silent(
        &mut self,
        before: Duration,
        during: Duration,
        progress: &mut Progress,
    ) -> anyhow::Result<Silence> {
        self.talk.only([]);
        let since = Instant::now();
        std::thread::sleep(before);
        let counters = silence::Counters::install(&self.world)?;
        std::thread::sleep(during);
        let counted = counters.read()?;
        progress.begin("every pair says one thing");
        let pairs: Vec<Ordered> = self.all().filter(|(from, to)| from < to).collect();
        for (place, (a, b)) in pairs.iter().enumerate() {
            // Half of them against the order of the ranks.
            self.talk.once(if place % 2 == 0 { (*a, *b) } else { (*b, *a) });
            std::thread::sleep(Duration::from_millis(100));
        }
        let lasted = since.elapsed();
        std::thread::sleep(BEFORE);
        let took = self.talk.heard().into_values().map(|heard| heard.last_took()).collect();
        Ok(Silence { lasted, during, counted, agents: self.nodes.len(), took })
    }
}

fn ends(pair: &MeshPair) -> Ordered {
    (usize::from(pair.from), usize::from(pair.to))
}

/// Everything that was found out.
#[derive(Debug, Default)]
struct Findings {
    /// Of each pair that became direct: how many datagrams were sent, and how many are missing.
    promoted: Vec<(usize, usize)>,
    relay_deaths: Vec<Option<Outage>>,
    roams: Vec<Option<Outage>>,
    reboots: Vec<Option<Outage>>,
    silence: Option<Silence>,
}

#[derive(Debug)]
struct Silence {
    lasted: Duration,
    /// For how long of that it was counted.
    during: Duration,
    counted: silence::Counted,
    agents: usize,
    /// How long what each pair said afterwards took.
    took: Vec<Option<Duration>>,
}

impl Findings {
    fn figures(&self) -> Vec<Figure> {
        let (sent, lost) =
            self.promoted.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let lost = (!self.promoted.is_empty()).then_some(lost as f64);
        let promotion =
            Figure::once("lab: packets lost at promotion", "packets", Better::Lower, lost)
                .hold(0.0)
                .note(format!("{} ordered pairs, {sent} packets", self.promoted.len()));
        let mut figures = vec![promotion];
        let waited = |outages: &[Option<Outage>]| -> Vec<Option<Duration>> {
            outages.iter().map(|outage| outage.map(|outage| outage.waited)).collect()
        };
        figures.extend(times("relay death to data", &waited(&self.relay_deaths), 3.0));
        figures.extend(times("roam to data", &waited(&self.roams), 3.0));
        figures.extend(times("NAT reboot to data", &waited(&self.reboots), 5.0));
        figures.extend(self.silence.as_ref().map(Silence::figures).unwrap_or_default());
        figures
    }
}

impl Silence {
    fn figures(&self) -> Vec<Figure> {
        let minutes = self.during.as_secs_f64() / 60.0;
        let each = self.counted.kept as f64 / minutes / self.agents as f64;
        let name = "lab: idle pairs: packets in a minute";
        let of_pairs = (self.counted.to_peers + self.counted.relayed) as f64 / minutes;
        let seconds = self.lasted.as_secs();
        let pairs = self.took.len();
        let mut figures = vec![
            Figure::once(name, "packets", Better::Lower, Some(of_pairs))
                .hold(0.0)
                .note(format!("{pairs} pairs, silent for {seconds} s")),
            Figure::once(
                "lab: idle agent: packets in a minute",
                "packets",
                Better::Lower,
                Some(each),
            )
            .note("to the coordinator and two relays, whatever the number of pairs"),
        ];
        figures.extend(times("message after silence", &self.took, 1.0));
        figures
    }
}

/// The median and the 95th percentile, where it happened at all times.
fn times(name: &str, took: &[Option<Duration>], most: f64) -> [Figure; 2] {
    let missing = took.iter().filter(|took| took.is_none()).count();
    let all: Vec<f64> = took.iter().flatten().map(Duration::as_secs_f64).collect();
    let is_whole = missing == 0;
    let worst = all.iter().copied().fold(0.0, f64::max);
    let note = match is_whole {
        true => format!("{} ordered pairs, the most {worst:.2} s", all.len()),
        false => format!("it did not happen with {missing} of {} ordered pairs", took.len()),
    };
    [("median", 0.5), ("95th percentile", 0.95)].map(|(which, q)| {
        let value = quantile(all.clone(), q).filter(|_| is_whole);
        let name = format!("lab: {name}, {which}");
        Figure::once(name, "s", Better::Lower, value).hold(most).note(note.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_happen_once_is_missed_and_named() {
        let second = Some(Duration::from_secs(1));
        let [median, p95] = times("x", &[second, second, Some(Duration::from_secs(4))], 3.0);
        assert_eq!((median.value, median.met), (Some(1.0), Some(true)));
        assert_eq!(p95.met, Some(false));
        let [median, _] = times("x", &[second, None], 3.0);
        assert_eq!((median.value, median.met), (None, Some(false)));
        assert!(median.note.contains("1 of 2"), "{}", median.note);
        let nothing = Findings::default().figures();
        assert!(nothing.iter().all(|figure| figure.met == Some(false)), "{nothing:?}");
    }

    #[test]
    fn the_world_can_be_built() {
        let text = include_str!("outages/lab.toml").to_owned();
        let resolved =
            ScenarioFile::parse(Path::new("lab.toml"), text).unwrap().resolve(None).unwrap();
        assert_eq!((resolved.volunteers.len(), resolved.relays.len()), (8, 2));
    }
}
