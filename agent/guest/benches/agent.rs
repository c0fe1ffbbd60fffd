//! `make bench-agent`: what the agent costs a volunteer, and a job. Runs the agent against the tests' coordinator.
//!
//! Figures go to standard output, and to the file after `--out`: a list of `{name, value, unit, target, met}`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that fails ends, and says so"
)]

#[path = "../tests/coordinator/fake.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod fake;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fake::{Fake, Said};
use serde_json::{Value, json};

/// Jobs for the time to the first instruction.
const STARTS: u64 = 30;

/// Pairs of runs, inside and outside, for the sandbox's overhead. The fastest of each counts: the rest is noise of others.
const PAIRS: u64 = 7;

/// How long the idle agent is watched.
const IDLE: Duration = Duration::from_secs(30);

/// Half a second or so of integers, and the seconds that they took.
const WORK: &str = "perl -MTime::HiRes=time -e '$t = time; for my $i (1..8000000) { $x = ($x * 31 + $i) % 65537 } \
                    printf \"%.6f\\n\", time - $t'";

/// Clock ticks a second, in /proc.
const TICKS: f64 = 100.0;

struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    target: f64,
}

impl Figure {
    fn is_met(&self) -> bool {
        self.value <= self.target
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--out").skip(1);
    let fake = Fake::start().await;
    fake.let_polls_wait();
    let state = tempfile::tempdir().unwrap();
    let log = fs::File::create(state.path().join("log")).unwrap();
    let mut agent = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args([
            "run",
            "--cores",
            "2",
            "--bind",
            "127.0.0.1:0",
            "--no-port-mapping",
            "--join",
            &fake.token(),
        ])
        .arg("--state")
        .arg(state.path())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    while fake.polls() == 0 && !state.path().join("agent.sock").exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let mut figures = starts(&fake).await;
    figures.push(overhead(&fake).await);
    figures.extend(idle(agent.id()).await);
    agent.kill().unwrap();
    agent.wait().unwrap();

    for Figure { name, value, unit, target } in &figures {
        println!("{name:48} {value:9.3} {unit:8} (at most {target})");
    }
    if let Some(out) = arguments.next() {
        write(Path::new(&out), &figures);
    }
    if figures.iter().all(Figure::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(out: &Path, figures: &[Figure]) {
    let one = |figure: &Figure| -> Value {
        let Figure { name, value, unit, target } = figure;
        let value = (value * 1e4).round() / 1e4;
        json!({ "name": name, "value": value, "unit": unit, "target": target, "met": figure.is_met() })
    };
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let header =
        json!({ "bench": "agent", "version": env!("CARGO_PKG_VERSION"), "profile": profile });
    let all: Vec<_> =
        [json!({ "header": header })].into_iter().chain(figures.iter().map(one)).collect();
    fs::write(out, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
}

/// Runs a job, and returns its standard output.
async fn output(fake: &Fake, job: u64, command: &str) -> String {
    fake.submit(job, 1, command, None);
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let said = fake.said(job);
        let files = said.iter().find_map(|said| match said {
            Said::Stageout { files, .. } => Some(files),
            Said::State(..) => None,
        });
        // The running, the results and the end.
        if let Some(files) = files.filter(|_| said.len() >= 3) {
            return files[0].1.clone();
        }
    }
}

/// From the moment when the coordinator has the job to the first program's own clock, milliseconds.
async fn starts(fake: &Fake) -> Vec<Figure> {
    let mut times = Vec::new();
    for job in 1..=STARTS {
        // The agent waits again.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let told: f64 = output(fake, job, "exec date +%s%N").await.trim().parse().unwrap();
        times.push(told / 1e6 - begun.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    vec![
        Figure {
            name: "job available to first instruction, median",
            value: at(50),
            unit: "ms",
            target: 50.0,
        },
        Figure {
            name: "job available to first instruction, 95 of 100",
            value: at(95),
            unit: "ms",
            target: 100.0,
        },
    ]
}

/// How much longer the same work takes inside, percent.
async fn overhead(fake: &Fake) -> Figure {
    let (mut inside, mut outside) = (f64::MAX, f64::MAX);
    for pair in 0..PAIRS {
        let told = output(fake, 1000 + pair, WORK).await;
        inside = inside.min(told.trim().parse().unwrap());
        let told = Command::new("sh").args(["-c", WORK]).output().unwrap().stdout;
        outside = outside.min(String::from_utf8_lossy(&told).trim().parse().unwrap());
    }
    let value = (inside / outside - 1.0) * 100.0;
    Figure { name: "sandbox's overhead on a job that computes", value, unit: "%", target: 1.0 }
}

/// What the agent takes while there is nothing to do.
async fn idle(agent: u32) -> [Figure; 2] {
    let ticks = || -> f64 {
        let stat = fs::read_to_string(format!("/proc/{agent}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = ticks();
    tokio::time::sleep(IDLE).await;
    let busy = (ticks() - before) / TICKS / IDLE.as_secs_f64() * 100.0;
    let status = fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    [
        Figure { name: "idle agent, memory", value: kib / 1024.0, unit: "MiB", target: 20.0 },
        Figure { name: "idle agent, of one core", value: busy, unit: "%", target: 0.2 },
    ]
}
