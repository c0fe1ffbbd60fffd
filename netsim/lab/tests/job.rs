//! The main job from one command, and what is left when that command is interrupted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use netsim::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// `netsim`, with a temporary directory of its own: whatever it leaves behind is in there.
fn netsim(temporary: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
    command.env("TMPDIR", temporary.path()).stdin(Stdio::null());
    command
}

fn run(scenario: &str) -> Value {
    let temporary = tempfile::tempdir().unwrap();
    let report = tempfile::NamedTempFile::new().unwrap();
    let Output { status, stdout, stderr } =
        netsim(&temporary).args(["run", scenario, "--json"]).arg(report.path()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status}\n{out}\n{err}");
    assert_nothing_left(temporary.path());
    assert!(out.contains("PASSED"), "{out}");
    serde_json::from_slice(&fs::read(report.path()).unwrap()).unwrap()
}

/// The pairs of networks that were relayed, as `behind, behind`, the names sorted.
fn relayed(report: &Value) -> BTreeSet<String> {
    let job = &report["jobs"][0];
    let behind = |rank: &Value| {
        let nodes = job["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["rank"] == *rank).unwrap();
        node["behind"].as_str().unwrap().to_owned()
    };
    let pairs = job["pairs"].as_array().unwrap().iter();
    let relayed = pairs.filter(|pair| pair["forth"]["path"] == "relayed");
    relayed
        .map(|pair| {
            let mut names = [behind(&pair["ranks"][0]), behind(&pair["ranks"][1])];
            names.sort();
            names.join(", ")
        })
        .collect()
}

fn assert_nothing_left(temporary: &Path) {
    let files: Vec<_> = fs::read_dir(temporary).unwrap().flatten().map(|f| f.path()).collect();
    assert!(files.is_empty(), "files were left behind: {files:?}");
    assert_eq!(mentioning(temporary), [""; 0], "processes were left behind");
}

/// The command lines of the processes on this machine that know of a directory.
fn mentioning(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        if command.contains(dir) || environment.contains(dir) {
            found.push(command);
        }
    }
    found
}

#[test]
fn six_volunteers_behind_different_nats_solve_a_board_together() {
    let report = run("nqueens-small");

    let job = &report["jobs"][0];
    assert_eq!(job["solutions"], 14_200);
    assert_eq!(job["pairs"].as_array().unwrap().len(), 15);
    let expected = ["carrier, symmetric", "home, symmetric"].map(str::to_owned);
    assert_eq!(relayed(&report), BTreeSet::from(expected));
    assert!(job["mesh_ready_after_ms"].is_u64(), "{job}");
}

#[test]
fn two_symmetric_nats_are_relayed_to_each_other_and_to_home_routers_only() {
    let report = run("two-symmetric");

    let expected = ["home, symmetric", "symmetric, symmetric"].map(str::to_owned);
    assert_eq!(relayed(&report), BTreeSet::from(expected));
}

/// Rank 1 takes one connection and ends. Rank 0 makes it, and then calls at the same door for two
/// seconds: whoever has ended has closed it, but the machine still says so.
const FIRST_TO_END: &str = r#"
use strict;
use Errno qw(ECONNREFUSED ECONNRESET);
use IO::Socket::INET;
use Time::HiRes qw(sleep time);
open(my $nodes, '<', $ENV{OAR_NODEFILE}) or die "node file: $!";
my (undef, $peer) = map { chomp; $_ } <$nodes>;
my $call = sub { IO::Socket::INET->new(PeerAddr => $peer, PeerPort => 7000, Timeout => 5) };
if ($ENV{OAR_MESH_RANK}) {
    my $door = IO::Socket::INET->new(LocalPort => 7000, Listen => 1) or die "listening: $!";
    $door->accept or die "accepting: $!";
    exit 0;
}
my $met = time + 60;
until ($call->()) {
    die "never met: $!" if time > $met;
    sleep 0.05;
}
my $refused;
for (my $until = time + 2; time < $until; sleep 0.1) {
    # A call that was waiting when the door closed is taken and reset.
    my $taken = $call->();
    $refused = !$taken && $! == ECONNREFUSED;
    die "no answer from the rank that ended: $!" unless $taken || $refused || $! == ECONNRESET;
}
die "the door is still open" unless $refused;
"#;

#[test]
fn a_rank_that_has_ended_answers_its_peers_until_the_job_ends() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("peer.pl"), FIRST_TO_END).unwrap();
    let scenario = folder.path().join("first-to-end.toml");
    let text = r#"
        [[volunteers]]
        behind = "home"
        count = 2

        [[job]]
        nodes = 2
        types = ["mesh", "spmd"]
        command = "perl peer.pl"
        files = ["./peer.pl"]
    "#;
    fs::write(&scenario, text).unwrap();

    run(scenario.to_str().unwrap());
}

/// Both look at what they are told of their network; rank 1 ends, and rank 0 waits until it hears so.
const READS_THE_NEWS: &str = r#"
use strict;
use IO::Socket::UNIX;
my $rank = $ENV{OAR_MESH_RANK};
sub lines { open(my $file, '<', shift) or die "reading: $!"; my @lines = <$file>; chomp @lines; @lines }
my @matrix = map { [split /,/, $_, -1] } lines($ENV{OAR_MESH_MATRIX});
die "no table of two: @matrix" unless @matrix == 2 && @{$matrix[0]} == 2 && @{$matrix[1]} == 2;
die "not 0 to itself" unless $matrix[0][0] eq '0' && $matrix[1][1] eq '0';
die "not symmetric" unless $matrix[0][1] eq $matrix[1][0];
die "not measured: '$matrix[0][1]'" unless $matrix[0][1] > 0;
my ($header, @members) = lines($ENV{OAR_MESH_MEMBERS});
die "header: $header" unless $header eq 'rank,name,ipv4,ipv6,state,path,rtt_ms';
die "members: @members" unless @members == 2 && $members[$rank] =~ /,self,/;
my $news = IO::Socket::UNIX->new(Peer => $ENV{OAR_MESH_EVENTS}) or die "connecting: $!";
my $first = <$news>;
die "first line: $first" unless $first =~ /^{"event":"members",.*vol-1.*vol-2/;
exit 0 if $rank;
alarm 60;
while (my $line = <$news>) {
    exit 0 if $line =~ /"event":"left","rank":1,/;
}
die "the news ended early";
"#;

#[test]
fn a_job_is_told_of_its_network() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("news.pl"), READS_THE_NEWS).unwrap();
    let scenario = folder.path().join("news.toml");
    let text = r#"
        [[volunteers]]
        behind = "home"
        count = 2

        [[job]]
        nodes = 2
        types = ["mesh=ring", "spmd"]
        command = "perl news.pl"
        files = ["./news.pl"]
    "#;
    fs::write(&scenario, text).unwrap();

    run(scenario.to_str().unwrap());
}

/// Starts the main job and waits until agents and shims are at work.
fn start_and_wait(temporary: &TempDir) -> Child {
    let log = fs::File::create(temporary.path().join("log")).unwrap();
    let mut child = netsim(temporary)
        .args(["run", "nqueens"])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let read = || fs::read_to_string(temporary.path().join("log")).unwrap();
    let at_work = wait::until("the job's launch", Duration::from_secs(60), || {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "ended early: {ended:?}\n{}", read());
        read().contains("launching on 6 nodes").then_some(())
    });
    at_work.unwrap_or_else(|late| panic!("{late}\n{}", read()));
    fs::remove_file(temporary.path().join("log")).unwrap();
    assert!(mentioning(temporary.path()).len() > 8, "the programs are found by their environment");
    child
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let temporary = tempfile::tempdir().unwrap();
        let mut child = start_and_wait(&temporary);

        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();

        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
        assert_nothing_left(temporary.path());
    }
}

#[test]
fn a_run_that_is_killed_takes_everything_with_it() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = start_and_wait(&temporary);

    child.kill().unwrap();
    child.wait().unwrap();

    // The kernel kills them one after the other.
    let gone = wait::until("the end of all processes", Duration::from_secs(10), || {
        mentioning(temporary.path()).is_empty().then_some(())
    });
    gone.unwrap_or_else(|late| panic!("{late}: {:?}", mentioning(temporary.path())));
}

#[test]
fn a_wrong_scenario_is_refused_with_its_place() {
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("wrong.toml");
    fs::write(&file, "[[volunteers]]\nbehind = \"home\"\nsize = 1\n").unwrap();

    let output = netsim(&temporary).arg("run").arg(&file).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("wrong.toml:3:1: unknown field `size`"), "{message}");
}

#[test]
fn what_the_run_could_not_write_is_said_before_it_starts() {
    let temporary = tempfile::tempdir().unwrap();
    let used = temporary.path().join("used");
    fs::create_dir_all(used.join("coordinator")).unwrap();
    let nowhere = temporary.path().join("nowhere/report.json");
    for (option, path, said) in [
        ("--keep", &used, "is not empty: choose a new directory"),
        ("--json", &nowhere, "No such file or directory"),
    ] {
        let output =
            netsim(&temporary).args(["run", "nqueens", option]).arg(path).output().unwrap();

        let (out, err) = (output.stdout, String::from_utf8(output.stderr).unwrap());
        assert_eq!((output.status.code(), out), (Some(1), vec![]), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(err.contains(path.to_str().unwrap()) && err.contains(said), "{err}");
    }
}

#[test]
fn the_doctor_finds_what_the_tests_need() {
    let temporary = tempfile::tempdir().unwrap();

    let output = netsim(&temporary).arg("doctor").output().unwrap();

    let found = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{found}");
    for what in ["namespaces", "/dev/net/tun", "nft", "ip", "bwrap"] {
        assert!(found.contains(what), "{found}");
    }
}
