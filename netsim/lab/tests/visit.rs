//! `netsim exec` and `netsim shell`: commands on the nodes of running labs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use netsim::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);

const SCENARIO: &str = r#"
[coordinator]
poll-interval = "200ms"

[[routers]]
name = "house"
nat = "home"

[[volunteers]]
behind = "home"

[[volunteers]]
router = "house"
count = 2

[[job]]
command = "COMMAND"
"#;

/// A folder with scenarios; the labs' directories are made in it.
struct Desk(TempDir);

/// A running lab. Dropping it kills it.
struct Lab {
    run: Child,
    dir: PathBuf,
    log: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        for (name, command) in [("hello", "echo hello"), ("sleep", "sleep 600")] {
            let text = SCENARIO.replace("COMMAND", command);
            fs::write(temp.path().join(format!("{name}.toml")), text).unwrap();
        }
        Self(temp)
    }

    fn netsim(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
        command.args(args).env("TMPDIR", self.0.path()).env("SHELL", "/bin/sh");
        command.stdin(Stdio::null());
        command
    }

    fn start(&self, name: &str, more: &[&str]) -> Lab {
        let scenario = self.0.path().join(format!("{name}.toml")).display().to_string();
        let mut command = self.netsim(&[&["run", &scenario], more].concat());
        let log = self.0.path().join(format!("{name}.log"));
        let output = File::create(&log).unwrap();
        let run = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        let dir = self.0.path().join(format!("netsim-{}", run.id()));
        Lab { run, dir, log }
    }

    fn call(&self, args: &[&str]) -> Output {
        self.netsim(args).output().unwrap()
    }

    /// A command on `vol-1` that does not end by itself. It runs when this returns.
    fn stay(&self, lab: &Lab) -> Child {
        let script = "echo here; sleep 600";
        let dir = lab.dir.display().to_string();
        let mut command = self.netsim(&["exec", "--run", &dir, "vol-1", "--", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "here\n");
        child
    }

    /// Types text into a command; returns its exit status and what it prints.
    fn type_into(&self, args: &[&str], text: &str) -> (Option<i32>, String) {
        let mut command = self.netsim(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }
}

impl Lab {
    fn wait_for(&mut self, what: &str, mut look: impl FnMut(&Path, &str) -> bool) {
        let happened = wait::until(what, SOON, || {
            let log = fs::read_to_string(&self.log).unwrap();
            let ended = self.run.try_wait().unwrap();
            assert!(ended.is_none(), "the lab has ended before {what}: {log}");
            look(&self.dir, &log).then_some(())
        });
        happened.unwrap();
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        wait::until("the lab's end", SOON, || self.run.try_wait().unwrap()).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.run.kill();
        let _ = self.run.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_held_lab_can_be_entered_until_it_is_interrupted() {
    let desk = Desk::new();
    let none = desk.call(&["exec", "vol-1", "--", "true"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("no lab is running"), "{}", text(&none.stderr));
    let out = desk.0.path().join("out");
    let mut lab =
        desk.start("hello", &["--hold", "--out", out.to_str().unwrap(), "--pcap", "vol-1"]);
    lab.wait_for("its holding", |_, log| log.contains("goes on until Ctrl-C"));
    let log = fs::read_to_string(&lab.log).unwrap();
    assert!(log.contains("PASSED"), "the report is there before the end: {log}");

    let captured = || fs::metadata(out.join("captures/vol-1.pcapng")).unwrap().len();
    let at_report = captured();

    // The node's network, files and environment.
    let addresses = |node| {
        let output = desk.call(&["exec", node, "--", "ip", "-4", "-o", "address"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(addresses("vol-1").contains("eth0"));
    assert_ne!(addresses("vol-1"), addresses("scientist"));
    let rules = desk.call(&["exec", "vol-1-r0", "--", "nft", "list", "tables"]);
    assert!(text(&rules.stdout).contains("guard"), "{}", text(&rules.stderr));
    let nodes = desk.call(&["exec", "scientist", "--", "oar", "nodes", "-s"]);
    assert!(text(&nodes.stdout).contains("vol-1"), "{}", text(&nodes.stderr));
    let script = "read word; echo $word; echo $NETSIM_NODE; pwd; exit 7\n";
    let dir = lab.dir.join("vol-1").display().to_string();
    let typed = desk.type_into(&["exec", "vol-1", "--", "sh", "-c", script], "red\n");
    assert_eq!(typed, (Some(7), format!("red\nvol-1\n{dir}\n")));
    let typed = desk.type_into(&["shell", "coordinator"], "echo $NETSIM_NODE; exit 3\n");
    assert_eq!(typed, (Some(3), "coordinator\n".to_owned()));

    // Other ends.
    let status = |command: &[&str]| {
        desk.call(&[&["exec", "vol-1", "--"], command].concat()).status.code().unwrap()
    };
    assert_eq!(status(&["sh", "-c", "kill -TERM $$"]), 128 + Signal::SIGTERM as i32);
    assert_eq!(status(&["no-such-command"]), 127);
    assert_eq!(status(&["/"]), 126);
    let unknown = desk.call(&["exec", "vol-9", "--", "true"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = text(&unknown.stderr);
    assert!(said.contains("coordinator") && said.contains("vol-1, vol-1-r0"), "{said}");
    assert_eq!(said.matches("house").count(), 1, "a shared router is one node: {said}");
    // The agent's own commands find the agent.
    let own = desk.call(&["exec", "vol-1", "--", "agent", "status"]);
    assert!(own.status.success() && text(&own.stdout).contains("vol-"), "{}", text(&own.stderr));

    // What is logged after the report is in the run's directory, too.
    assert_eq!(status(&["sh", "-c", "echo said after the report >> agent.log"]), 0);

    // So are its packets: the agent asks for work.
    wait::until("a packet in the capture", SOON, || (captured() > at_report).then_some(()))
        .unwrap();

    // What was started on a node ends with the lab; nothing is left.
    let mut visitor = desk.stay(&lab);
    kill(Pid::from_raw(lab.run.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(lab.wait_for_end().code(), Some(0));
    assert!(!visitor.wait().unwrap().success());
    assert!(!lab.dir.exists());
    let logged = fs::read_to_string(out.join("logs/vol-1/agent.log")).unwrap();
    assert!(logged.contains("said after the report"), "{logged}");
}

#[test]
fn a_visit_is_no_leftover_of_the_lab_and_one_of_several_labs_is_named() {
    let desk = Desk::new();
    let mut labs = [desk.start("sleep", &[]), desk.start("hello", &["--hold"])];
    for lab in &mut labs {
        lab.wait_for("its list of nodes", |dir, _| dir.join("nodes.json").exists());
    }
    let [sleeping, held] = &mut labs;
    let dirs = [&sleeping.dir, &held.dir].map(|dir| dir.display().to_string());
    let mut visitor = desk.stay(sleeping);

    let output = desk.call(&["exec", "vol-1", "--", "true"]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && dirs.iter().all(|dir| said.contains(dir)), "{said}");

    sleeping.wait_for("its job", |_, log| log.contains("job 1: running"));
    let args = ["exec", "--run", &dirs[0], "scientist", "--", "oar", "del", "1"];
    let deleted = desk.call(&args);
    assert!(deleted.status.success(), "{}", text(&deleted.stderr));
    // The job has failed, but the lab has come to its end, and has not complained of the visitor.
    assert_eq!(sleeping.wait_for_end().code(), Some(1));
    let log = fs::read_to_string(&sleeping.log).unwrap();
    assert!(log.contains("FAILED") && !log.contains("left behind"), "{log}");
    assert!(!visitor.wait().unwrap().success());
}
