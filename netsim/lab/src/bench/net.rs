//! The data plane beside its peers: two machines, one wire between them, one tunnel each.
//!
//! ```text
//!   left ═══ bench0: a bare veth pair, 10.99.0.1 and .2 ═══ right
//!        ├── ours: the agents' tunnel of a real job; iperf3 runs inside the job's networks
//!        ├── wireguard-go, boringtun-cli, gotatun-cli, nebula, tinc, n2n: over the same wire
//!        ├── bare: the wire itself
//!        ├── bench1: another wire, 20 ms long there and back, in user space
//!        └── bench2: bare veth pairs from each to the relay's machine
//! ```
//! Rounds are interleaved: each round measures every peer once, so that a slow minute of the machine
//! hits all of them. Figures are medians of the rounds' ratios.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::figures::{Header, Results};
use crate::progress::Progress;
use load::{Load, Measured};
use pair::Pair;
use pieces::Pieces;
use tunnels::{Kind, Tunnel, Way};

mod crowd;
mod floor;
mod load;
mod pair;
mod pieces;
mod rows;
mod seal;
mod tunnels;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds; the median of an odd number is one of them.
    pub rounds: usize,
    /// Length of each measurement.
    pub each: Duration,
    /// Only the rows with a floor, against `wireguard-go` only.
    pub short: bool,
    /// Names of the peers and loads that are measured; none of a kind: all of it.
    pub only: Vec<String>,
    /// Where the rounds of earlier runs are and this one's go, too.
    pub pieces: Option<PathBuf>,
    /// Where programs are that no package installs, before `PATH`.
    pub tools: PathBuf,
    /// Where the programs' files and logs go.
    pub dir: PathBuf,
}

impl Plan {
    fn wants_kind(&self, kind: Kind) -> bool {
        let names: Vec<_> = Kind::ALL.into_iter().map(Kind::name).chain(crowd::NAMES).collect();
        wanted(&self.only, kind.name(), &names)
    }

    fn wants_load(&self, load: Load) -> bool {
        let names: Vec<_> = Load::all(false).into_iter().map(Load::name).collect();
        wanted(&self.only, load.name(), &names)
    }
}

/// Whether one of these words is `name`, or none of them is any of the `names`.
fn wanted(words: &[String], name: &str, names: &[&str]) -> bool {
    let is = |name: &str| words.iter().any(|word| word == name);
    is(name) || !names.iter().any(|name| is(name))
}

/// One peer's measurements in one round.
type Round = BTreeMap<Kind, BTreeMap<Load, Measured>>;

/// Measures everything.
pub fn run(plan: &Plan, progress: &mut Progress) -> anyhow::Result<Results> {
    let mut pieces = Pieces::read(plan.pieces.as_deref())?;
    let mut missing = BTreeMap::new();
    if plan.rounds > 0 {
        pieces.add(measure_all(plan, &mut missing, progress)?);
        pieces.write(plan.pieces.as_deref())?;
    }
    let machine = machine();
    let header = Header {
        bench: "net".to_owned(),
        machine,
        versions: pieces.versions.clone(),
        short: plan.short,
    };
    let gathered = rows::Gathered {
        rounds: &pieces.rounds,
        seals: &pieces.seals,
        memory_kib: &pieces.memory_kib,
        relay_floors: &pieces.relay_floors,
        checks: &pieces.checks,
        missing: &missing,
        crowd: pieces.crowd,
    };
    Ok(Results { header, figures: rows::figures(plan, gathered) })
}

/// Measures what the plan wants.
fn measure_all(
    plan: &Plan,
    missing: &mut BTreeMap<Kind, String>,
    progress: &mut Progress,
) -> anyhow::Result<Pieces> {
    if !plan.only.is_empty() && plan.only.iter().all(|name| crowd::is_name(name)) {
        return Ok(Pieces { crowd: crowd::measure(plan, progress), ..Pieces::default() });
    }
    if plan.only == [CHECKS] {
        let checks = (0..plan.rounds).map(|_| checks(plan.each, progress));
        return Ok(Pieces { checks: checks.collect::<Result<_, _>>()?, ..Pieces::default() });
    }
    progress.begin("joining two machines by a wire, and a job's mesh over it");
    let mut pair = Pair::new(&plan.dir)?;
    let mut kinds = vec![Kind::Bare, Kind::Ours, Kind::WireguardGo];
    if !plan.short {
        kinds.extend([Kind::BoringtunCli, Kind::GotatunCli, Kind::Nebula, Kind::Tinc, Kind::N2n]);
    }
    kinds.retain(|kind| plan.wants_kind(*kind));
    let mut tunnels = Vec::new();
    for kind in kinds {
        progress.begin(format!("starting {}", kind.name()));
        match Tunnel::start(kind, &mut pair, &plan.tools) {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(error) if kind.is_compared() => {
                progress.note(&format!("not here: {error:#}"));
                missing.insert(kind, format!("{error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
    let mut rounds: Vec<Round> = vec![Round::new(); plan.rounds];
    let (mut seals, mut memory_kib) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
    let mut all_checks = Vec::new();
    for (number, round) in rounds.iter_mut().enumerate() {
        for tunnel in &tunnels {
            measure(plan, &pair, tunnel, &Load::all(plan.short), number, round, progress)?;
            if plan.wants_load(Load::Tcp) {
                let kib = tunnel.memory_kib();
                memory_kib.entry(tunnel.kind).or_default().extend(kib);
            }
        }
        progress.begin(format!("round {} of {}: the limit of one core", number + 1, plan.rounds));
        seals.push(seal::bits_per_second(plan.each.min(Duration::from_secs(1))));
        if plan.only.is_empty() && !plan.short {
            all_checks.push(checks(plan.each, progress)?);
        }
    }
    let mut relay_floors = Vec::new();
    let versions: Vec<_> = versions(&tunnels).collect();
    let versions = versions.into_iter().filter(|(_, version)| !version.is_empty()).collect();
    // The others' addresses would be direct ways for ours.
    tunnels.retain(|tunnel| !tunnel.kind.is_compared());
    if !plan.short {
        for way in Way::ALL {
            // What fails here shall not cost what was measured before.
            let opened = beyond(plan, way, &mut pair, &mut tunnels, &mut rounds, progress);
            let floor = |wanted| {
                if wanted && way == Way::Relay {
                    progress.begin("passing datagrams on, and nothing else");
                    let floor = || pair.relay_floor(plan.each);
                    relay_floors = rounds.iter().map(|_| floor()).collect::<Result<_, _>>()?;
                }
                anyhow::Ok(())
            };
            if let Err(error) = opened.and_then(floor) {
                progress.note(&format!("not measured: {error:#}"));
                missing.extend(way.kinds().iter().map(|kind| (*kind, format!("{error:#}"))));
            }
        }
    }
    if let Err(error) = pair.stop(tunnels) {
        // A peer that does not end is no reason to lose what it was compared in.
        progress.note(&format!("not all ended: {error:#}"));
    }
    let wants_crowd = plan.only.is_empty() || plan.only.iter().any(|name| crowd::is_name(name));
    let crowd =
        if !plan.short && wants_crowd { crowd::measure(plan, progress) } else { Vec::new() };
    Ok(Pieces { rounds, seals, memory_kib, relay_floors, checks: all_checks, versions, crowd })
}

/// What `--only` calls the cost of checks and counters.
const CHECKS: &str = "checks";

/// What checks and counters add to the time of the receive path, as a share of it without them.
fn checks(each: Duration, progress: &mut Progress) -> anyhow::Result<f64> {
    progress.begin("receiving with and without checks");
    let measured = overlay_driver::bench::checks(each);
    let (with_ns, without_ns) = measured.context("cannot measure the checks")?;
    Ok(with_ns / without_ns - 1.0)
}

/// The names and versions of what is measured.
fn versions(tunnels: &[Tunnel]) -> impl Iterator<Item = (String, String)> {
    tunnels.iter().map(|tunnel| (tunnel.kind.name().to_owned(), tunnel.version.clone()))
}

/// Measures another way than the bare wire, if that is wanted; a bare link stands for itself and for our
/// tunnel over it.
fn beyond(
    plan: &Plan,
    way: Way,
    pair: &mut Pair,
    tunnels: &mut Vec<Tunnel>,
    rounds: &mut [Round],
    progress: &mut Progress,
) -> anyhow::Result<bool> {
    if !way.kinds().iter().any(|kind| plan.wants_kind(*kind)) {
        return Ok(false);
    }
    progress.begin(format!("opening the way: {way:?}"));
    pair.open(way)?;
    let start = |kind: &Kind| Tunnel::start(*kind, pair, &plan.tools);
    let here = way.kinds().iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    // Windows grow slowly there.
    let plan = Plan { each: plan.each.max(Duration::from_secs(5)), ..plan.clone() };
    for (number, round) in rounds.iter_mut().enumerate() {
        for tunnel in &here {
            measure(&plan, pair, tunnel, way.loads(), number, round, progress)?;
        }
    }
    tunnels.extend(here);
    Ok(true)
}

fn measure(
    plan: &Plan,
    pair: &Pair,
    tunnel: &Tunnel,
    loads: &[Load],
    number: usize,
    round: &mut Round,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    for load in loads.iter().filter(|load| plan.wants_load(**load)) {
        let (name, what) = (tunnel.kind.name(), load.name());
        progress.begin(format!("round {} of {}: {name}, {what}", number + 1, plan.rounds));
        let measured = load
            .measure(pair, tunnel, plan.each)
            .with_context(|| format!("{name} under {what}"))?;
        round.entry(tunnel.kind).or_default().insert(*load, measured);
    }
    Ok(())
}

/// Processor, cores, kernel.
pub(super) fn machine() -> BTreeMap<String, String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    BTreeMap::from([
        ("processor".to_owned(), field("model name").unwrap_or_default()),
        ("cores".to_owned(), cores.to_string()),
        ("kernel".to_owned(), kernel.trim().to_owned()),
    ])
}
