//! The data plane beside its peers: two machines, one wire between them, one tunnel each.
//!
//! ```text
//!   left ═══ bench0: a bare veth pair, 10.99.0.1 and .2 ═══ right
//!        ├── ours: the agents' tunnel of a real job; iperf3 runs inside the job's networks
//!        ├── wireguard-go, boringtun-cli, gotatun-cli, nebula, tinc, n2n: over the same wire
//!        └── bare: the wire itself
//! ```
//! Rounds are interleaved: each round measures every peer once, so that a slow minute of the machine
//! hits all of them. Figures are medians of the rounds' ratios.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::figures::{Better, Figure, Header, Results, median};
use crate::progress::Progress;
use load::{Load, Measured};
use pair::Pair;
use tunnels::{Kind, Tunnel};

mod load;
mod pair;
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
    /// Where programs are that no package installs, before `PATH`.
    pub tools: PathBuf,
    /// Where the programs' files and logs go.
    pub dir: PathBuf,
}

impl Plan {
    fn wants_kind(&self, kind: Kind) -> bool {
        let names = Kind::ALL.map(Kind::name);
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
    progress.begin("joining two machines by a wire, and a job's mesh over it");
    let mut pair = Pair::new(&plan.dir)?;
    let mut kinds = vec![Kind::Bare, Kind::Ours, Kind::WireguardGo];
    if !plan.short {
        kinds.extend([Kind::BoringtunCli, Kind::GotatunCli, Kind::Nebula, Kind::Tinc, Kind::N2n]);
    }
    kinds.retain(|kind| plan.wants_kind(*kind));
    let mut tunnels = Vec::new();
    let mut missing = BTreeMap::new();
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
    let mut seals = Vec::new();
    for (number, round) in rounds.iter_mut().enumerate() {
        for tunnel in &tunnels {
            measure(plan, &pair, tunnel, &Load::all(plan.short), number, round, progress)?;
        }
        progress.begin(format!("round {} of {}: the limit of one core", number + 1, plan.rounds));
        seals.push(seal::bits_per_second(plan.each.min(Duration::from_secs(1))));
    }
    if !plan.short && plan.wants_kind(Kind::Relayed) {
        progress.begin("closing the wire, so that our tunnel takes the relay");
        let relayed = Tunnel::start(Kind::Relayed, &mut pair, &plan.tools)?;
        for (number, round) in rounds.iter_mut().enumerate() {
            measure(plan, &pair, &relayed, &[Load::Tcp], number, round, progress)?;
        }
        tunnels.push(relayed);
    }
    let versions = tunnels.iter().map(|t| (t.kind.name().to_owned(), t.version.clone())).collect();
    let header =
        Header { bench: "net".to_owned(), machine: machine(), versions, short: plan.short };
    let memory = pair.memory_kib()?;
    pair.stop(tunnels)?;
    Ok(Results { header, figures: figures(plan, &rounds, &seals, memory, &missing) })
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

/// The table: the required rows first, then what was measured besides.
fn figures(
    plan: &Plan,
    rounds: &[Round],
    seals: &[f64],
    memory_kib: u64,
    missing: &BTreeMap<Kind, String>,
) -> Vec<Figure> {
    let table = Rows { rounds, missing };
    let speed = |m: &Measured| m.bits_per_second;
    let mut rows = Vec::new();
    let floors = plan.short;
    let against = |kind, name: &str, load, full: (f64, f64), floor: f64| {
        let (target, aim) = if floors { (floor, full.0) } else { full };
        table.ratio(name, Kind::Ours, kind, load, speed).require(target, aim)
    };
    rows.push(against(
        Kind::WireguardGo,
        "TCP one stream vs wireguard-go",
        Load::Tcp,
        (6.0, 7.0),
        3.0,
    ));
    let of_seal = |load: Load| -> Vec<f64> {
        let ours = rounds.iter().map(|round| round.get(&Kind::Ours)?.get(&load).copied());
        let share = ours.zip(seals).map(|(m, seal)| Some((m?, *seal)));
        share.flatten().filter_map(|(m, seal)| Some(m.sent_bits_per_cpu_second? / seal)).collect()
    };
    let target = if floors { (0.5, 0.6) } else { (0.6, 0.7) };
    rows.push(
        Figure::new(
            "sending side on one core, of ring's seal limit",
            "x",
            Better::Higher,
            of_seal(Load::Send),
        )
        .require(target.0, target.1)
        .note("UDP superpackets; sealed bits per second of the sending agent's processor time"),
    );
    if !floors {
        rows.push(against(
            Kind::BoringtunCli,
            "TCP one stream vs boringtun-cli",
            Load::Tcp,
            (4.0, 5.5),
            4.0,
        ));
        rows.push(against(
            Kind::GotatunCli,
            "TCP one stream vs gotatun-cli",
            Load::Tcp,
            (3.0, 3.5),
            3.0,
        ));
        rows.push(against(
            Kind::BoringtunCli,
            "TCP one stream vs boringtun-cli, one core per host",
            Load::TcpPinned,
            (3.0, 3.5),
            3.0,
        ));
        rows.push(against(
            Kind::WireguardGo,
            "TCP one stream vs wireguard-go, one core per host",
            Load::TcpPinned,
            (6.0, 8.0),
            6.0,
        ));
        rows.push(against(
            Kind::Nebula,
            "TCP one stream vs nebula (AES)",
            Load::Tcp,
            (2.5, 3.0),
            2.5,
        ));
        for (kind, name, target, aim) in [
            (Kind::WireguardGo, "CPU seconds per GB vs wireguard-go", 1.0 / 5.0, 1.0 / 6.0),
            (Kind::Nebula, "CPU seconds per GB vs nebula", 1.0 / 3.0, 1.0 / 3.3),
        ] {
            let mut row = table.ratio(name, Kind::Ours, kind, Load::Tcp, |m| {
                m.cpu_seconds_per_gb.unwrap_or(f64::NAN)
            });
            row.better = Better::Lower;
            rows.push(row.require(target, aim));
        }
        let pinned =
            rounds.iter().map(|round| round.get(&Kind::Ours)?.get(&Load::TcpPinned).copied());
        let end_to_end = pinned.zip(seals).filter_map(|(m, seal)| Some(m?.bits_per_second / seal));
        rows.push(
            Figure::new(
                "end to end, one core per host, of ring's seal limit",
                "x",
                Better::Higher,
                end_to_end.collect(),
            )
            .require(0.35, 0.4),
        );
        let relayed = |of: fn(&Measured) -> f64| table.values(Kind::Relayed, Load::Tcp, of);
        let ends = relayed(|m| m.cpu_seconds_per_gb.unwrap_or(f64::NAN) / 2.0);
        let relay = relayed(|m| m.relay_seconds_per_gb.unwrap_or(f64::NAN));
        rows.push(
            Figure::new(
                "raw-UDP relay, CPU per GB, of a tunnel end's",
                "x",
                Better::Lower,
                relay.iter().zip(&ends).map(|(relay, end)| relay / end).collect(),
            )
            .require(1.0 / 3.0, 1.0 / 5.0)
            .note("the whole coordinator, which the relay runs in"),
        );
        let packets = |m: &Measured| m.packets_per_second.unwrap_or(f64::NAN);
        rows.push(
            table
                .ratio(
                    "64-byte packets a second vs wireguard-go",
                    Kind::Ours,
                    Kind::WireguardGo,
                    Load::UdpSmall,
                    packets,
                )
                .require(1.5, 3.0),
        );
        let at_rest = |kind| table.values(kind, Load::Ping, |m| m.rtt_min_ms.unwrap_or(f64::NAN));
        let added: Vec<f64> = at_rest(Kind::Ours)
            .iter()
            .zip(at_rest(Kind::Bare))
            .map(|(ours, bare)| ours - bare)
            .collect();
        rows.push(
            Figure::new("RTT added at rest, minimum", "ms", Better::Lower, added)
                .require(0.08, 0.05),
        );
        rows.push(
            Figure::new(
                "agent's memory with one peer, after the load",
                "MiB",
                Better::Lower,
                vec![memory_kib as f64 / 1024.0],
            )
            .note("resident, the whole agent"),
        );
    }
    rows.extend(table.everything(floors));
    rows.push(Figure::new(
        "ring's seal limit, ChaCha20-Poly1305, 1420 bytes",
        "Gbit/s",
        Better::Higher,
        seals.iter().map(|bits| bits / 1e9).collect(),
    ));
    rows
}

struct Rows<'a> {
    rounds: &'a [Round],
    missing: &'a BTreeMap<Kind, String>,
}

impl Rows<'_> {
    fn values(&self, kind: Kind, load: Load, of: impl Fn(&Measured) -> f64) -> Vec<f64> {
        self.rounds.iter().filter_map(|r| Some(of(r.get(&kind)?.get(&load)?))).collect()
    }

    /// The ratio of two peers in each round.
    fn ratio(
        &self,
        name: &str,
        ours: Kind,
        theirs: Kind,
        load: Load,
        of: impl Fn(&Measured) -> f64,
    ) -> Figure {
        let (a, b) = (self.values(ours, load, &of), self.values(theirs, load, &of));
        let ratios = a.iter().zip(&b).map(|(a, b)| a / b).collect();
        let note = self.missing.get(&theirs).map(String::as_str).unwrap_or_default();
        Figure::new(name, "x", Better::Higher, ratios).note(note)
    }

    /// The absolute figures, for information.
    fn everything(&self, short: bool) -> Vec<Figure> {
        let mut rows = Vec::new();
        for load in Load::all(short) {
            for kind in Kind::ALL {
                let measured = self.values(kind, load, |m| m.bits_per_second / 1e9);
                if median(&measured).is_none() {
                    continue;
                }
                let name = |what: &str| format!("{}, {what}: {}", load.name(), kind.name());
                match load {
                    Load::Ping | Load::BusyPing => {
                        let rtt = self.values(kind, load, |m| m.rtt_median_ms.unwrap_or(f64::NAN));
                        rows.push(Figure::new(name("median"), "ms", Better::Lower, rtt));
                    }
                    Load::UdpSmall => {
                        let packets =
                            self.values(kind, load, |m| m.packets_per_second.unwrap_or(f64::NAN));
                        let packets = packets.iter().map(|p| p / 1e3).collect();
                        rows.push(Figure::new(name("delivered"), "kpps", Better::Higher, packets));
                    }
                    Load::Tcp | Load::Tcp4 | Load::TcpPinned | Load::Udp | Load::Send => {
                        rows.push(Figure::new(name("goodput"), "Gbit/s", Better::Higher, measured));
                        let cpu =
                            self.values(kind, load, |m| m.cpu_seconds_per_gb.unwrap_or(f64::NAN));
                        if median(&cpu).is_some() && kind != Kind::Bare {
                            rows.push(Figure::new(name("daemons"), "s/GB", Better::Lower, cpu));
                        }
                    }
                }
            }
        }
        rows
    }
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
