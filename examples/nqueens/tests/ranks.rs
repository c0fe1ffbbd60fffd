//! Several ranks as real processes on this machine.
#![expect(clippy::unwrap_used, reason = "what the tests share are tests too")]

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

/// Published counts, OEIS A000170, from N = 1.
const PUBLISHED: [u64; 12] = [1, 0, 0, 2, 10, 4, 40, 92, 352, 724, 2680, 14200];

/// A command without the variables of a job that the tests themselves may run in.
fn nqueens() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nqueens"));
    for name in ["OAR_NODEFILE", "OAR_MESH_RANK", "OAR_MESH_SIZE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A port below those that the kernel gives to outgoing connections, so that it stays free.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = (std::process::id() as u16).wrapping_mul(97);
        let port = 10_000 + offset.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("::", port)).is_ok() {
            return port;
        }
    }
}

/// A process that does not outlive its test.
struct Rank(Option<Child>);

impl Rank {
    fn start(mut command: Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    fn wait(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    fn kill(mut self) {
        self.0.as_mut().unwrap().kill().unwrap();
        self.wait();
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A host list of `ranks` free ports of this machine.
struct HostList {
    path: PathBuf,
    ports: Vec<u16>,
}

impl HostList {
    fn new(name: &str, ranks: usize) -> Self {
        let ports: Vec<u16> = (0..ranks).map(|_| free_port()).collect();
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.hosts"));
        let lines: String = ports.iter().map(|port| format!("127.0.0.1:{port}\n")).collect();
        // Every host twice, as in a node file of two cores each.
        std::fs::write(&path, lines.clone() + &lines).unwrap();
        Self { path, ports }
    }

    fn rank(&self, rank: usize, words: &[&str]) -> Rank {
        let mut command = nqueens();
        command.args(words).arg("--threads=1");
        command.arg("--hosts").arg(&self.path).arg("--rank").arg(rank.to_string());
        Rank::start(command)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn wait_all(ranks: Vec<Rank>) -> Vec<Output> {
    ranks.into_iter().map(Rank::wait).collect()
}

#[test]
fn alone_it_finds_the_published_counts() {
    for (n, count) in (1..).zip(PUBLISHED) {
        let output = nqueens().arg(n.to_string()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let first = text(&output.stdout).lines().next().map(str::to_owned);
        assert_eq!(first, Some(format!("solutions({n}) = {count}")));
    }
}

#[test]
fn boards_out_of_range_are_refused() {
    for n in ["0", "28", "1000", "-3", "eight"] {
        let output = nqueens().arg("--").arg(n).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{n}");
        assert!(text(&output.stderr).contains("from 1 to 27"), "{}", text(&output.stderr));
    }
}

#[test]
fn several_ranks_find_the_published_counts() {
    for ranks in 2..=5 {
        for n in [1, 3, 4, 8, 11, 12] {
            let list = HostList::new(&format!("counts-{ranks}-{n}"), ranks);
            let board = n.to_string();
            let words = [board.as_str(), "--exchange=20KiB"];
            // The last rank first: connecting waits for listeners that come up late.
            let children = (0..ranks).rev().map(|rank| list.rank(rank, &words)).collect();
            let mut outputs = wait_all(children);
            outputs.reverse();
            for (rank, output) in outputs.iter().enumerate() {
                assert!(output.status.success(), "rank {rank}: {}", text(&output.stderr));
                assert_eq!(text(&output.stderr), "");
            }
            let result = text(&outputs[0].stdout);
            let expected = format!("solutions({n}) = {}\n", PUBLISHED[n - 1]);
            assert!(result.starts_with(&expected), "{ranks} ranks: {result}");
            for (rank, output) in outputs.iter().enumerate().skip(1) {
                let said = text(&output.stdout);
                assert!(said.starts_with(&format!("rank {rank}: ")), "{said}");
                assert_eq!(said.lines().count(), 1);
            }
        }
    }
}

#[test]
fn a_job_names_its_hosts_by_variables() {
    let list = HostList::new("variables", 2);
    let children = (0..2)
        .map(|rank| {
            let mut command = nqueens();
            command.args(["10", "--exchange", "1MiB"]).env("OAR_NODEFILE", &list.path);
            command.env("OAR_MESH_RANK", rank.to_string()).env("OAR_MESH_SIZE", "2");
            Rank::start(command)
        })
        .collect();
    let outputs = wait_all(children);
    assert!(text(&outputs[0].stdout).starts_with("solutions(10) = 724\n"), "{outputs:?}");

    let wrong = nqueens()
        .arg("10")
        .env("OAR_NODEFILE", &list.path)
        .env("OAR_MESH_RANK", "0")
        .env("OAR_MESH_SIZE", "3")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("OAR_MESH_SIZE is 3, but the host list has 2 hosts"));
}

#[test]
fn a_wrong_board_on_one_rank_fails_all() {
    let list = HostList::new("wrong-board", 3);
    let children = (0..3).map(|rank| list.rank(rank, &[["9", "9", "8"][rank]])).collect();
    for (rank, output) in wait_all(children).into_iter().enumerate() {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "rank {rank}: {said}");
        assert!(said.contains("give every rank the same N"), "rank {rank}: {said}");
        assert_eq!(text(&output.stdout), "", "no count");
    }
}

#[test]
fn different_exchanges_fail_all() {
    let list = HostList::new("wrong-exchange", 2);
    let children =
        vec![list.rank(0, &["8", "--exchange=1KiB"]), list.rank(1, &["8", "--exchange=2KiB"])];
    for output in wait_all(children) {
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("the same --exchange"), "{}", text(&output.stderr));
    }
}

/// Three ranks with work for hours, all connected.
fn long_search(name: &str, words: &[&str]) -> (HostList, Vec<Rank>) {
    let list = HostList::new(name, 3);
    let words = [&["20"], words].concat();
    let mut ranks: Vec<Rank> = (0..3).map(|rank| list.rank(rank, &words)).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut connected = 0;
    while connected < 3 {
        // Two connections, each open for reading and for writing; the last rank does not listen.
        let expected = if connected == 2 { 4 } else { 5 };
        if sockets(&ranks[connected]) == expected {
            connected += 1;
        } else if ranks[connected].has_ended() || Instant::now() > deadline {
            let said = text(&ranks.swap_remove(connected).wait().stderr);
            panic!("rank {connected} did not connect: {said}");
        }
        std::thread::yield_now();
    }
    (list, ranks)
}

fn sockets(rank: &Rank) -> usize {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{}/fd", rank.id())) else { return 0 };
    descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

fn kill_one(name: &str, victim: usize, words: &[&str]) {
    let (list, mut ranks) = long_search(name, words);
    ranks.remove(victim).kill();
    let name = format!("rank {victim} (127.0.0.1:{})", list.ports[victim]);
    for output in wait_all(ranks) {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&name), "{said} should name {name}");
        assert_eq!(text(&output.stdout), "", "no count");
    }
}

#[test]
fn a_rank_killed_in_the_search_fails_all_others_and_is_named() {
    for victim in 0..3 {
        kill_one(&format!("killed-{victim}"), victim, &[]);
    }
}

#[test]
fn a_rank_killed_in_the_exchange_fails_all_others_and_is_named() {
    for victim in 0..3 {
        kill_one(&format!("killed-exchanging-{victim}"), victim, &["--exchange=100GiB"]);
    }
}

#[test]
fn a_silent_rank_is_lost() {
    let (list, mut children) = long_search("silent", &["--peer-timeout=1"]);
    let silent = children.remove(1);
    let stopped = Command::new("sh").args(["-c", &format!("kill -STOP {}", silent.id())]).status();
    assert!(stopped.unwrap().success());
    let name = format!("rank 1 (127.0.0.1:{})", list.ports[1]);
    for output in wait_all(children) {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&name) && said.contains("nothing was heard of it for 1 s"), "{said}");
    }
    silent.kill();
}

#[test]
fn a_rank_that_never_comes_is_named() {
    for (absent, present) in [(0, 1), (1, 0)] {
        let list = HostList::new(&format!("absent-{absent}"), 2);
        let rank = list.rank(present, &["8", "--connect-timeout=1"]);
        let output = rank.wait();
        let said = text(&output.stderr);
        let name = format!("rank {absent} (127.0.0.1:{})", list.ports[absent]);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&name) && said.contains("within 1 s"), "{said}");
    }
}

#[test]
fn strangers_at_the_port_do_no_harm() {
    let list = HostList::new("strangers", 2);
    let first = list.rank(0, &["9"]);
    let mut stranger = loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", list.ports[0])) {
            break stream;
        }
    };
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let silent_stranger = TcpStream::connect(("127.0.0.1", list.ports[0])).unwrap();
    let outputs = wait_all(vec![first, list.rank(1, &["9"])]);
    assert!(text(&outputs[0].stdout).starts_with("solutions(9) = 352\n"), "{outputs:?}");
    drop(silent_stranger);
}
