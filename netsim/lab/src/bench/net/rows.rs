//! The table: the required rows first, then what was measured besides.

use std::collections::BTreeMap;

use super::load::{Load, Measured};
use super::tunnels::Kind;
use super::{Plan, Round};
use crate::bench::figures::{Better, Figure, median};

/// What the rounds gave.
pub(super) struct Gathered<'a> {
    pub(super) rounds: &'a [Round],
    /// The limit of one core, round by round.
    pub(super) seals: &'a [f64],
    /// Of one end, after TCP.
    pub(super) memory_kib: &'a BTreeMap<Kind, Vec<u64>>,
    /// Of a relay that does nothing but pass datagrams on.
    pub(super) relay_floors: &'a [f64],
    /// What checks and counters add to the receive path's time, a share.
    pub(super) checks: &'a [f64],
    /// Why something was not measured.
    pub(super) missing: &'a BTreeMap<Kind, String>,
    /// The figures of many nodes.
    pub(super) crowd: Vec<Figure>,
}

/// All figures of a run.
pub(super) fn figures(plan: &Plan, gathered: Gathered<'_>) -> Vec<Figure> {
    let Gathered { rounds, seals, memory_kib, relay_floors, checks, missing, crowd } = gathered;
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
            .note("the relay's threads; no limit set on the pair"),
        );
        rows.push(Figure::new(
            "raw-UDP relay, CPU per GB",
            "s/GB",
            Better::Lower,
            relay.into_iter().filter(|value| value.is_finite()).collect(),
        ));
        let floor = "passing datagrams on and nothing else (GRO in, GSO out, 64 kB), CPU per GB";
        rows.push(Figure::new(floor, "s/GB", Better::Lower, relay_floors.to_vec()));
        for (name, ours, theirs, target, aim) in [
            (
                "QUIC-datagram path, of the raw-UDP relay path",
                Kind::OverQuic,
                Kind::Relayed,
                0.4,
                0.6,
            ),
            ("TLS path, of the raw-UDP relay path", Kind::OverTls, Kind::Relayed, 0.3, 0.4),
            (
                "20 ms RTT, no loss, one stream, of the bare link with the same emulation",
                Kind::Distant,
                Kind::DistantBare,
                0.8,
                0.95,
            ),
        ] {
            rows.push(table.ratio(name, ours, theirs, Load::Tcp, speed).require(target, aim));
        }
        rows.push(table.ratio(
            "20 ms RTT, 1 % loss, one stream, of the bare link with the same emulation",
            Kind::Lossy,
            Kind::LossyBare,
            Load::Tcp,
            speed,
        ));
        let name =
            "inner-source check, rate limit and byte counters, of the receive path without them";
        rows.push(
            Figure::new(name, "x", Better::Lower, checks.to_vec())
                .hold(0.03)
                .note("members are told apart by address, which is also the job's ACL; a limit is set that nothing reaches"),
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
        let at_rest = |m: &Measured| m.rtt_min_ms.unwrap_or(f64::NAN);
        let at_rest = table.both(Kind::Ours, Kind::Bare, Load::Ping, at_rest);
        let added = at_rest.into_iter().map(|(ours, bare)| ours - bare).collect();
        rows.push(
            Figure::new("RTT added at rest, minimum", "ms", Better::Lower, added)
                .require(0.08, 0.05),
        );
    }
    rows.extend(crowd);
    for (kind, kib) in memory_kib.iter().filter(|(_, kib)| !kib.is_empty()) {
        let mib = kib.iter().map(|kib| *kib as f64 / 1024.0).collect();
        let name = format!("memory of one end after TCP: {}", kind.name());
        rows.push(
            Figure::new(name, "MiB", Better::Lower, mib).note("resident, all of the program"),
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

    /// What two peers reached, in the rounds that both were in.
    fn both(
        &self,
        ours: Kind,
        theirs: Kind,
        load: Load,
        of: impl Fn(&Measured) -> f64,
    ) -> Vec<(f64, f64)> {
        let one = |round: &Round, kind| Some(of(round.get(&kind)?.get(&load)?));
        self.rounds.iter().filter_map(|r| Some((one(r, ours)?, one(r, theirs)?))).collect()
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
        let both = self.both(ours, theirs, load, of);
        let ratios = both.into_iter().map(|(ours, theirs)| ours / theirs).collect();
        let missing = self.missing.get(&theirs).or_else(|| self.missing.get(&ours));
        let note = missing.map(String::as_str).unwrap_or_default();
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
