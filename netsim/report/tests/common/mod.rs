//! A run that never was, with everything in it that a page shows.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;

use netsim_report::{
    Backend, Budget, JobKey, PathKind, Recorder, Role, RunInfo, Sample, What, Why,
};

/// What a synthetic run looks like.
pub(crate) struct Shape {
    pub(crate) volunteers: usize,
    pub(crate) jobs: u64,
    /// The names of other coordinators; the jobs are shared out in turn.
    pub(crate) others: &'static [&'static str],
    /// Nodes of each job.
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    /// Put at the end of every name and text.
    pub(crate) suffix: &'static str,
}

impl Shape {
    pub(crate) const SMALL: Self =
        Self { volunteers: 6, jobs: 1, others: &[], nodes: 6, seed: 1, suffix: "" };

    fn key(&self, job: u64) -> JobKey {
        let coordinators = 1 + self.others.len() as u64;
        let number = (job - 1) / coordinators + 1;
        match (job - 1) % coordinators {
            0 => number.into(),
            other => JobKey::new(self.others[other as usize - 1], number),
        }
    }
}

/// Numbers that look like chance and are always the same (splitmix64).
struct Chance(u64);

impl Chance {
    /// 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const BEHIND: [&str; 5] = ["home", "full-cone", "carrier", "symmetric", "none"];

/// Writes the run; without its end when it is to look killed.
pub(crate) fn write(dir: &Path, shape: &Shape, is_killed: bool) {
    let suffix = shape.suffix;
    let name = |index: usize| format!("vol-{}{suffix}", index + 1);
    let mut info = RunInfo::begin(
        &format!("a synthetic run{suffix}"),
        "synthetic.toml",
        shape.seed,
        Backend::Sim,
    );
    info.versions.insert("netsim".into(), "0.1.0".into());
    let scenario = format!("# a scenario{suffix}\n[[volunteers]]\ncount = {}\n", shape.volunteers);
    let recorder =
        Recorder::create(dir, info, &serde_json::json!({}), &scenario, Budget::default()).unwrap();
    let mut chance = Chance(shape.seed);
    let at = |t: f64, what: What| recorder.record_at(t, what);
    let node = |node: String, role, behind: &str| What::Node {
        node,
        role,
        behind: behind.into(),
        router: None,
        region: None,
        coordinator: None,
        cores: None,
    };
    at(0.0, What::Step { name: "building the networks".into() });
    at(0.1, node("coordinator".into(), Role::Coordinator, "none"));
    for index in 0..shape.volunteers {
        at(0.2, node(name(index), Role::Volunteer, BEHIND[index % BEHIND.len()]));
        at(1.0 + chance.next(), What::Up { node: name(index) });
    }
    at(3.0, What::Step { name: "running the jobs".into() });
    let end = 60.0;
    // Some come and go.
    for index in (0..shape.volunteers).step_by(3) {
        let away = 20.0 + 30.0 * chance.next();
        at(away, What::Churn { node: name(index), available: false });
        at(away, What::Down { node: name(index), why: Why::Churn });
        at(away + 5.0, What::Churn { node: name(index), available: true });
        at(away + 6.0, What::Up { node: name(index) });
    }
    at(
        31.0,
        What::Fault {
            name: "nat-reboot".into(),
            nodes: vec![format!("vol-1-r0{suffix}")],
            text: String::new(),
        },
    );
    for job in 1..=shape.jobs {
        let begun = 3.0 + 0.5 * job as f64;
        let command = format!("./nqueens 15 --exchange 1MiB{suffix}");
        let types = vec!["mesh".to_owned()];
        let nodes = shape.nodes as u32;
        let key = || shape.key(job);
        at(begun, What::JobSubmitted { job: key(), command, nodes, types, walltime_s: None });
        let state = |t: f64, state: &str, exit| {
            at(t, What::JobState { job: key(), state: state.into(), exit, message: String::new() });
        };
        state(begun + 1.0, "toLaunch", None);
        state(begun + 1.5, "Launching", None);
        let first = (job as usize - 1) * 7 % shape.volunteers;
        let members: Vec<usize> =
            (0..shape.nodes).map(|i| (first + i) % shape.volunteers).collect();
        let stop = 40.0 + 15.0 * chance.next();
        for a in &members {
            for b in members.iter().filter(|b| *b != a) {
                pair(&recorder, &mut chance, &key(), (*a, *b), (begun + 1.5, stop), name);
            }
        }
        let names = members.iter().map(|member| name(*member)).collect();
        let open = begun + 3.5;
        at(open, What::MeshOpen { job: key(), generation: 1, after_s: 2.5, members: names });
        state(open + 0.1, "Running", None);
        let fails = job % 7 == 5;
        for (rank, member) in (0..).zip(&members) {
            let rank = |state: &str, exit| What::RankState {
                job: key(),
                generation: 1,
                rank,
                node: name(*member),
                state: state.into(),
                exit,
            };
            at(open + 0.05, rank("Running", None));
            at(stop - 0.05, rank("Terminated", Some(i32::from(fails))));
        }
        state(stop, if fails { "Error" } else { "Terminated" }, Some(i32::from(fails)));
    }
    for tick in 0..60 {
        let t = f64::from(tick);
        for index in 0..shape.volunteers {
            let sent = (t * 400_000.0) as u64;
            let sample = Sample::NodeBytes { node: name(index), sent, received: sent };
            at(t, What::Sample(sample));
        }
    }
    let expectation = |text: &str, met, found: &str| What::Expectation {
        text: format!("{text}{suffix}"),
        met,
        found: format!("{found}{suffix}"),
    };
    at(58.0, expectation("every job terminates", true, ""));
    at(58.0, expectation("95 % of the pairs are direct", false, "61 %"));
    if !is_killed {
        recorder.finish(end, false, None).unwrap();
    } else {
        recorder.flush();
    }
}

fn pair(
    recorder: &Recorder,
    chance: &mut Chance,
    job: &JobKey,
    (a, b): (usize, usize),
    (begun, stop): (f64, f64),
    name: impl Fn(usize) -> String,
) {
    let rtt = 10.0 + 90.0 * chance.next();
    let symmetric = |index: usize| BEHIND[index % BEHIND.len()] == "symmetric";
    let path = |t: f64, path, rtt_ms: Option<f64>, explain: &str| {
        let (via, from, to) = (Some("198.18.0.1:40000".to_owned()), name(a), name(b));
        let explain = explain.to_owned();
        recorder
            .record_at(t, What::Path { job: job.clone(), from, to, path, via, rtt_ms, explain });
    };
    path(begun, PathKind::None, None, "");
    let relayed = begun + 0.3 + chance.next();
    path(relayed, PathKind::Relayed, Some(rtt * 1.5), "still searching");
    let impossible = symmetric(a) || symmetric(b);
    if !impossible {
        let direct = relayed + 0.2 + 2.0 * chance.next() * chance.next();
        path(direct, PathKind::Direct, Some(rtt), "");
        if chance.next() < 0.2 {
            path(31.0 + chance.next(), PathKind::Relayed, Some(rtt * 1.5), "its NAT restarted");
            path(33.0 + chance.next(), PathKind::Direct, Some(rtt), "");
        }
    }
    if a < b {
        let best = if impossible { PathKind::Relayed } else { PathKind::Direct };
        recorder.record_at(
            begun,
            What::Predicted { from: name(a), to: name(b), path: best, by_guessing: false },
        );
    }
    let mut sent = 0;
    let mut t = begun + 2.0;
    while t < stop {
        sent += (1_000_000.0 * chance.next() / (1.0 + b as f64)) as u64;
        let sample = Sample::PairBytes { job: job.clone(), from: name(a), to: name(b), sent };
        recorder.record_at(t, What::Sample(sample));
        t += 1.0;
    }
}
