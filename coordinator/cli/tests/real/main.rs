//! The program against the coordinator itself, in the test's process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use assert_cmd::Command;
use clap::Parser;
use coordinator::args::{Arguments, Command as Asked};
use coordinator::clock::Clock;
use coordinator::role::Role;
use coordinator::secret::make_secret;
use coordinator::serve::Server;
use coordinator_client::Login;
use serde_json::Value;
use tempfile::TempDir;

struct Site {
    server: Server,
    runtime: tokio::runtime::Runtime,
    dir: TempDir,
}

impl Site {
    /// With one node of four cores, which nobody plays.
    fn start() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let line = ["coordinator", "serve", "--public-address", "127.0.0.1", "--data"];
        let sockets =
            ["--listen", "--rendezvous", "--relay"].map(|name| format!("{name}=127.0.0.1:0"));
        let line = line.map(str::to_owned).into_iter().chain([data.display().to_string()]);
        let Asked::Serve(serve) = Arguments::parse_from(line.chain(sockets)).command else {
            unreachable!("the line says serve")
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(Server::start(&serve, Arc::new(Clock::default()))).unwrap();
        Self { server, runtime, dir }
    }

    fn enrol_a_node(&self) {
        let enrol = self.server.app.ledger.apply(|draft| {
            let _number = draft.enrol(4, 1_024);
        });
        self.runtime.block_on(enrol).unwrap();
    }

    fn desk(&self, user: &str, role: Role) -> Desk<'_> {
        let (token, hash) = make_secret().unwrap();
        let now = Clock::default().now();
        let adding = self.server.app.store.add_user(user, role, hash, now);
        self.runtime.block_on(adding).unwrap();
        let login = Login {
            url: self.server.url.clone(),
            root: self.server.root,
            user: user.to_owned(),
            token,
        };
        let desk = Desk { site: self, user: user.to_owned() };
        desk.run(&["login", &login.to_string()]).success();
        desk
    }
}

struct Desk<'a> {
    site: &'a Site,
    user: String,
}

impl Desk<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oar"));
        let config = self.site.dir.path().join(format!("{}.json", self.user));
        command.env("OAR_CONFIG", config).env("NO_PROXY", "*").args(args);
        command
    }

    fn run(&self, args: &[&str]) -> assert_cmd::assert::Assert {
        self.command(args).assert()
    }

    fn says(&self, args: &[&str]) -> String {
        let done = self.run(args).success();
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    }

    fn is_refused(&self, args: &[&str]) -> String {
        let done = self.run(args).failure();
        String::from_utf8(done.get_output().stderr.clone()).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.says(args)).unwrap()
    }
}

#[test]
fn an_operator_sets_states_and_properties_and_others_do_not() {
    let site = Site::start();
    site.enrol_a_node();
    let (alice, olga) = (site.desk("alice", Role::User), site.desk("olga", Role::Operator));
    let drain = ["oarnodesetting", "-h", "vol-1", "-d", "on", "-p", "rack=7"];
    assert!(alice.is_refused(&drain).contains("Only the oar user"), "alice is no operator");
    assert_eq!(olga.says(&drain), "vol-1 : rack = 7\nvol-1 : drain = YES\n");
    assert_eq!(olga.says(&["oarnodesetting", "-h", "vol-1", "-s", "absent"]), "vol-1 --> Absent\n");
    assert_eq!(alice.says(&["oarnodes", "-s"]).lines().nth(1), Some("    1 : Absent"));
    assert!(olga.is_refused(&["oarnodesetting", "-h", "vol-9", "-s", "Dead"]).contains("vol-9"));
    assert!(olga.is_refused(&["oarnodesetting", "-h", "vol-1"]).contains("--state"));
    assert!(olga.is_refused(&["oarnodesetting", "-h", "vol-1", "-p", "state=1"]).contains("state"));
}

#[test]
fn properties_are_listed_renamed_and_taken_away_on_all_nodes() {
    let site = Site::start();
    let (alice, olga) = (site.desk("alice", Role::User), site.desk("olga", Role::Operator));
    for node in ["vol-1", "vol-2"] {
        site.enrol_a_node();
        olga.says(&["oarnodesetting", "-h", node, "-p", &format!("rack=of {node}")]);
    }
    let listed = |name: &str| olga.says(&["oarproperty", "-l"]).lines().any(|line| line == name);
    assert!(listed("rack") && listed("mem") && listed("network_address") && !listed("links"));
    let rename = ["oarproperty", "-r", "rack,place"];
    assert!(alice.is_refused(&rename).contains("Only the oar user"), "alice is no operator");
    assert!(olga.is_refused(&["oarproperty", "-r", "rack,state"]).contains("state"));
    assert_eq!(olga.says(&rename), "Rename property rack into place: 2 nodes\n");
    assert!(listed("place") && !listed("rack"));
    let cluster = site.server.app.ledger.cluster();
    let places: Vec<&str> = cluster.nodes().map(|node| &*node.properties["place"]).collect();
    assert_eq!(places, ["of vol-1", "of vol-2"]);
    assert_eq!(olga.says(&["oarproperty", "-d", "place"]), "Delete property: place: 2 nodes\n");
    assert!(!listed("place"));
    assert!(olga.is_refused(&["oarproperty", "-d", "place"]).contains("no node has"));
}

#[test]
fn arrays_are_held_resumed_deleted_and_submitted_once_more() {
    let site = Site::start();
    site.enrol_a_node();
    let alice = site.desk("alice", Role::User);
    alice.says(&["oarsub", "--array", "2", "-l", "nodes=1/core=4", "true"]);
    let held = alice.says(&["oarhold", "--array", "1"]);
    assert!(held.contains("[2] Hold request was sent"), "{held}");
    let resumed = alice.says(&["oarresume", "--array", "1"]);
    assert!(resumed.contains("[2] Resume request was sent"), "{resumed}");
    assert!(alice.is_refused(&["oarsub", "--resubmit", "2"]).contains("must be in Error"));
    alice.says(&["oardel", "2"]);
    let again = alice.says(&["oarsub", "--resubmit", "2"]);
    assert_eq!(again, "Resubmitting job 2...DONE\nOAR_JOB_ID=3\n");
    assert_eq!(alice.json(&["oarstat", "-J", "-j", "3"])["3"]["resubmit_job_id"], 2);
}

#[test]
fn nothing_used_is_an_empty_account() {
    let site = Site::start();
    let alice = site.desk("alice", Role::User);
    assert!(alice.says(&["oaraccounting"]).contains("Asked (s)"));
    assert_eq!(alice.json(&["oaraccounting", "-u", "bob", "-J"]), serde_json::json!([]));
    assert!(alice.is_refused(&["oaraccounting", "--from", "31.1.2026"]).contains("2026-01-31"));
}

#[test]
fn what_a_proxy_refuses_is_said_in_words() {
    use std::io::{Read, Write};

    let site = Site::start();
    let alice = site.desk("alice", Role::User);
    for (answer, words) in
        [("401 Unauthorized", "password is wrong"), ("407 Who", "wants a user name")]
    {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = format!("http://user:wrong@{}", proxy.local_addr().unwrap());
        let refusing = std::thread::spawn(move || {
            let (mut stream, _) = proxy.accept().unwrap();
            let _asked = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).unwrap();
        });
        let done =
            alice.command(&["oarnodes"]).env_remove("NO_PROXY").env("HTTPS_PROXY", at).assert();
        let text = String::from_utf8(done.failure().get_output().stderr.clone()).unwrap();
        assert!(text.contains(words), "{text}");
        refusing.join().unwrap();
    }
}
