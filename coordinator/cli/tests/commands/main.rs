//! The program against a coordinator of the test's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod script;
mod server;

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use assert_cmd::Command;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::Server;

/// The program's names.
const NAMES: [&str; 10] = [
    "oar",
    "oarsub",
    "oarstat",
    "oardel",
    "oarhold",
    "oarresume",
    "oarnodes",
    "oarnodesetting",
    "oarproperty",
    "oaraccounting",
];

/// A user's machine with the tools under all their names.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in NAMES {
            symlink(env!("CARGO_BIN_EXE_oar"), dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn logged_in(server: &Server) -> Self {
        let desk = Self::new();
        desk.tool("oar").args(["login", &server.login.to_string()]).assert().success();
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.env("OAR_CONFIG", self.path("oar.json")).env("NO_PROXY", "*");
        command.current_dir(self.dir.path());
        command
    }

    /// Runs a command that must succeed; answers its standard output.
    fn output(&self, name: &str, args: &[&str]) -> String {
        let assert = self.tool(name).args(args).assert().success();
        String::from_utf8(assert.get_output().stdout.clone()).unwrap()
    }

    /// Runs a command that must fail with `code`; answers its standard error.
    fn refusal(&self, code: i32, name: &str, args: &[&str]) -> String {
        let assert = self.tool(name).args(args).assert().code(code);
        String::from_utf8(assert.get_output().stderr.clone()).unwrap()
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn without_login_the_user_is_told_what_to_do() {
    let text = Desk::new().refusal(3, "oarsub", &["true"]);
    assert!(text.contains("run `oar login LOGINSTRING` first"), "{text}");
}

#[test]
fn login_is_stored_for_its_owner_alone() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let mode = std::fs::metadata(desk.path("oar.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn damaged_and_revoked_logins_are_refused() {
    let server = Server::start();
    let desk = Desk::new();
    let text = desk.refusal(3, "oar", &["login", "cah-login-1.xyz"]);
    assert!(text.contains("the login string is damaged"), "{text}");

    let mut revoked = server.login.clone();
    revoked.token = "another".to_owned();
    let text = desk.refusal(3, "oar", &["login", &revoked.to_string()]);
    assert!(text.contains("does not know this login"), "{text}");
    assert!(!desk.path("oar.json").exists());
}

#[test]
fn a_server_with_another_root_is_refused() {
    let (server, other) = (Server::start(), Server::start());
    let mut login = server.login.clone();
    login.root = other.login.root;
    let text = Desk::new().refusal(5, "oar", &["login", &login.to_string()]);
    let reason = "the server's certificate does not descend from the root that the token names";
    assert!(text.contains(reason), "{text}");
}

#[test]
fn nobody_there_is_said() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    // Bound, so that nobody else gets the port, and closed for TLS.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut login = server.login.clone();
    login.url = format!("https://127.0.0.1:{}/oarapi", listener.local_addr().unwrap().port());
    drop(listener);
    std::fs::write(desk.path("oar.json"), json!({"login": login.to_string()}).to_string()).unwrap();
    let text = desk.refusal(4, "oarstat", &[]);
    assert!(text.contains("cannot reach 127.0.0.1:"), "{text}");
}

#[test]
fn a_dead_proxy_is_named_and_its_password_is_not() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut oarstat = desk.tool("oarstat");
    let proxy = format!("http://me:secret@127.0.0.1:{port}");
    let said = oarstat.env("NO_PROXY", "").env("HTTPS_PROXY", proxy).output().unwrap();
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains(&format!("through the proxy http://127.0.0.1:{port}: ")), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn submission_carries_oarsubs_options() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let options = ["-l", "nodes=2,walltime=1:0:0", "-t", "mesh", "-t", "spmd", "-n", "queens"];
    let command = ["./nqueens", "12", "--threads", "2"];
    let text = desk.output("oarsub", &[&options[..], &command[..]].concat());
    assert_eq!(text, "[ADMISSION RULE] mesh implies desktop_computing\nOAR_JOB_ID=15\n");
    let text = desk.output("oar", &["sub", "-J", "a 'b c'"]);
    assert_eq!(json_of(&text)["id"], 15);
    let expected = [
        json!({"command": "./nqueens 12 --threads 2", "resource": ["nodes=2,walltime=1:0:0"],
               "type": ["mesh", "spmd"], "name": "queens"}),
        json!({"command": "a 'b c'"}),
    ];
    assert_eq!(server.seen.lock().unwrap().submitted, expected);
}

#[test]
fn refusals_are_one_sentence() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let text = desk.refusal(1, "oarsub", &["-l", "nodes=0", "true"]);
    assert_eq!(text, "oar: Bad request: nodes=0 asks for nothing\n");
    let nobody = "oar: there is no job 7: `oarstat` lists those that have not ended\n";
    for (tool, args) in
        [("oarstat", &["-j", "7"][..]), ("oar", &["wait", "7"]), ("oar", &["logs", "7"])]
    {
        assert_eq!(desk.refusal(1, tool, args), nobody);
    }
    let text = desk.refusal(1, "oarnodes", &["vol-1", "vol-9"]);
    assert_eq!(text, "oar: there is no node vol-9: `oarnodes -s` lists all\n");
    let text = desk.refusal(1, "oar", &["mesh", "6"]);
    assert_eq!(text, "oar: job 6 has had no network: `oarsub -t mesh` asks for one\n");
}

#[test]
fn a_mistyped_option_is_no_command() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    for args in [&["-I"][..], &["--nodes", "3", "hostname"]] {
        let text = desk.refusal(2, "oarsub", args);
        assert!(text.contains(&format!("unexpected argument '{}'", args[0])), "{text}");
    }
    assert!(server.seen.lock().unwrap().submitted.is_empty());
}

fn unpacked(bytes: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes));
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        })
        .collect()
}

#[test]
fn stage_in_is_resumed_and_sent_once() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    std::fs::create_dir(desk.path("in")).unwrap();
    std::fs::write(desk.path("in/board"), "8").unwrap();
    server.seen.lock().unwrap().cut_after = Some(20);

    for _ in 0..2 {
        desk.output("oarsub", &["--stagein", "in", "true"]);
    }
    let seen = server.seen.lock().unwrap();
    let (hash, (bytes, complete)) = seen.stageins.iter().next().unwrap();
    assert!(*complete);
    assert_eq!(unpacked(bytes), [("board".to_owned(), "8".to_owned())]);
    let (last, total) = (bytes.len() - 1, bytes.len());
    let ranges = [format!("bytes 0-{last}/{total}"), format!("bytes 20-{last}/{total}")];
    assert_eq!(seen.ranges, ranges);
    assert_eq!(seen.submitted.len(), 2);
    assert!(seen.submitted.iter().all(|job| job["stagein"] == format!("sha256:{hash}")));
}

#[test]
fn missing_stage_in_is_said_before_anything_is_sent() {
    let server = Server::start();
    let text = Desk::logged_in(&server).refusal(6, "oarsub", &["--stagein", "nowhere", "true"]);
    assert!(text.starts_with("oar: cannot use nowhere: No such file"), "{text}");
    assert!(server.seen.lock().unwrap().submitted.is_empty());
}

#[test]
fn a_stage_in_that_is_no_archive_is_not_sent() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    std::fs::write(desk.path("notes"), "text").unwrap();
    let text = desk.refusal(6, "oarsub", &["--stagein", "notes", "true"]);
    assert_eq!(text, "oar: notes is neither a folder nor an archive that `tar czf` makes\n");
    assert!(server.seen.lock().unwrap().stageins.is_empty());
}

#[test]
fn a_submission_that_is_killed_leaves_no_file() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    std::fs::create_dir(desk.path("in")).unwrap();
    std::fs::write(desk.path("in/board"), "8").unwrap();
    let temporary = desk.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    // Held, so that the coordinator does not answer: the archive is there, and not sent.
    let seen = server.seen.lock().unwrap();
    let mut submission = std::process::Command::new(desk.path("oarsub"))
        .args(["--stagein", "in", "true"])
        .env("OAR_CONFIG", desk.path("oar.json"))
        .env("NO_PROXY", "*")
        .env("TMPDIR", &temporary)
        .current_dir(desk.dir.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let open_files = format!("/proc/{}/fd", submission.id());
    let has_archive = || {
        let mut files = std::fs::read_dir(&open_files).unwrap().flatten();
        files.any(|f| std::fs::read_link(f.path()).is_ok_and(|f| f.starts_with(&temporary)))
    };
    while !has_archive() {
        assert!(submission.try_wait().unwrap().is_none(), "it ended early");
        std::thread::yield_now();
    }
    submission.kill().unwrap();
    submission.wait().unwrap();
    drop(seen);
    assert_eq!(count(&temporary), 0);
}

#[test]
fn jobs_are_shown_as_oar_shows_them() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    insta::assert_snapshot!("oarstat", desk.output("oarstat", &["-u"]));
    insta::assert_snapshot!("oarstat-full", desk.output("oarstat", &["-f", "-j", "5"]));
    assert_eq!(desk.output("oarstat", &["-s", "-j", "6"]), "6: Running\n");
    assert_eq!(json_of(&desk.output("oarstat", &["-J"]))["6"]["state"], "toLaunch");
    let events = desk.output("oar", &["events", "5"]);
    assert_eq!(events, "2026-01-01 00:00:00 WALLTIME: too long\n");
}

#[test]
fn nodes_are_shown_as_oar_shows_them() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let states = desk.output("oarnodes", &["-s"]);
    assert_eq!(states, "vol-1\n    1 : Alive\n    2 : Alive\nvol-2\n    3 : Suspected\n");
    let block = "network_address : vol-2\nresource_id : 3\nstate : Suspected\n";
    assert_eq!(desk.output("oarnodes", &["vol-2"]), block);
    assert_eq!(json_of(&desk.output("oarnodes", &["-J"])).as_array().unwrap().len(), 3);
}

#[test]
fn the_cluster_is_shown_at_a_glance() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let text = desk.output("oar", &["top"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with(&server.login.url), "{text}");
    assert_eq!(lines[1], "nodes      1 alive, 1 suspected");
    assert_eq!(lines[2], "resources  2 of 3 alive");
    assert_eq!(lines[3], "jobs       1 running, 1 starting");
    assert!(lines[6].starts_with("5          queens         alice          R default"), "{text}");
    assert!(!text.contains('\u{1b}'), "no terminal, no control characters");
    assert_eq!(desk.output("oar", &["top", "-n", "2", "-d", "100ms"]).matches("Job id").count(), 2);
}

#[test]
fn deletion_says_what_happened_to_each_job() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let text = desk.output("oardel", &["5"]);
    let done = "Deleting the job = 5 ...REGISTERED.\n\
                The job(s) [ 5 ] will be deleted in the near future.\n";
    assert_eq!(text, done);
    let text = desk.refusal(1, "oardel", &["6", "5"]);
    assert!(text.contains("oar: Delete failed: This job is not yours"), "{text}");
    assert!(text.contains("1 of 2 jobs were not deleted"), "{text}");
}

#[test]
fn a_job_is_held_resumed_and_explains_itself() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    assert_eq!(desk.output("oarhold", &["5"]), "[5] Hold request was sent to the OAR server.\n");
    assert_eq!(
        desk.output("oarresume", &["5"]),
        "[5] Resume request was sent to the OAR server.\n"
    );
    let text = desk.refusal(1, "oarhold", &["6"]);
    assert!(text.contains("Cannot hold 6"), "{text}");
    let text = desk.output("oarstat", &["-j", "5", "--why"]);
    assert_eq!(text, "5 Waiting: it waits for the end of job 4\n");
    desk.refusal(2, "oarstat", &["--why"]);
}

#[test]
fn an_array_is_submitted_shown_and_deleted_as_a_whole() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    std::fs::write(desk.path("params"), "1 2\n3 4\n").unwrap();
    desk.output("oarsub", &["--array", "3", "./work"]);
    desk.output("oarsub", &["--array-param-file", "params", "./work"]);
    let submitted = server.seen.lock().unwrap().submitted.clone();
    assert_eq!(submitted[0], json!({"command": "./work", "array": 3}));
    assert_eq!(submitted[1], json!({"command": "./work", "param_file": "1 2\n3 4\n"}));
    desk.refusal(2, "oarsub", &["--array", "3", "--array-param-file", "params", "./work"]);
    let text = desk.refusal(6, "oarsub", &["--array-param-file", "missing", "./work"]);
    assert!(text.contains("cannot use missing"), "{text}");

    assert_eq!(desk.output("oarstat", &["--array", "5", "-s"]), "5: Terminated\n");
    let text = desk.output("oardel", &["--array", "5"]);
    assert!(text.ends_with("The job(s) [ 5 6 ] will be deleted in the near future.\n"), "{text}");
    let text = desk.refusal(1, "oardel", &["--array", "9"]);
    let expected = "oar: array 9: Cannot frag 9 ; You are not the right user.\n\
                    oar: 1 of 1 jobs were not deleted\n";
    assert_eq!(text, expected, "the reason once");
}

#[test]
fn wait_exits_as_the_job_did() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let text = desk.refusal(3, "oar", &["wait", "5"]);
    assert_eq!(text, "job 5: Terminated a  [2J message\n");
    desk.refusal(124, "oar", &["wait", "6", "--timeout", "10ms"]);
}

fn results(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn results_are_unpacked_inside_the_folder_only() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let text = desk.refusal(1, "oar", &["fetch", "6", "-o", "out"]);
    assert!(text.contains("job 6 has no results yet"), "{text}");
    let text = desk.refusal(1, "oar", &["fetch", "5", "-o", "out"]);
    assert_eq!(text, "oar: job 5 has ended and left no results: a  [2J message\n");
    assert!(!desk.path("out").exists());

    server.seen.lock().unwrap().results = Some(results(&[
        ("rank-0/OAR.queens.5.stdout", "724\n"),
        ("rank-1/OAR.queens.5.stdout", "help\n"),
        ("rank-1/OAR.queens.5.stderr", "oops\n"),
        ("../escaped", "x"),
    ]));
    // Twice: a second fetch replaces the first.
    for _ in 0..2 {
        let assert = desk.tool("oar").args(["fetch", "5", "-o", "out"]).assert().success();
        let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        assert!(text.contains("left out ../escaped"), "{text}");
    }
    assert!(!desk.path("escaped").exists());
    assert_eq!(
        std::fs::read_to_string(desk.path("out/rank-0/OAR.queens.5.stdout")).unwrap(),
        "724\n"
    );
    assert_eq!(count(&desk.path("out")), 2, "only the ranks are left in the folder");

    let logs = desk.output("oar", &["logs", "5"]);
    let both =
        "==> rank-0/OAR.queens.5.stdout <==\n724\n==> rank-1/OAR.queens.5.stdout <==\nhelp\n";
    assert_eq!(logs, both);
    assert_eq!(desk.output("oar", &["logs", "5", "--rank", "0"]), "724\n");
    assert_eq!(desk.output("oar", &["logs", "5", "--stderr"]), "oops\n");
}

#[test]
fn what_a_job_writes_is_shown_as_it_comes() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    let shown = desk.output("oar", &["logs", "5", "--follow", "--rank", "0"]);
    // What the first launch wrote was shown when the second began.
    assert_eq!(shown, "seven724\n");
    let asked = server.seen.lock().unwrap().followed.clone();
    let offsets: Vec<_> = asked.iter().map(|query| query.rsplit('=').next().unwrap()).collect();
    assert_eq!(offsets, ["0", "0", "5", "0", "2", "4"]);
    assert!(asked[0].contains("stream=stdout&rank=0"), "{asked:?}");
}

fn count(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn mesh_is_a_table_or_json() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    insta::assert_snapshot!("mesh", desk.output("oar", &["mesh", "5"]));
    assert_eq!(json_of(&desk.output("oar", &["mesh", "5", "--json"]))["open_ms"], 2500);
}

#[test]
fn help_texts() {
    let desk = Desk::new();
    for tool in NAMES {
        insta::assert_snapshot!(format!("help-{tool}"), desk.output(tool, &["--help"]));
    }
    for command in ["login", "top", "wait", "fetch", "logs", "mesh", "events"] {
        insta::assert_snapshot!(
            format!("help-oar-{command}"),
            desk.output("oar", &[command, "--help"])
        );
    }
}

#[test]
fn shells_complete_every_name_and_the_manual_has_a_page_for_it() {
    let desk = Desk::new();
    let script = desk.path("oar.bash");
    std::fs::write(&script, desk.output("oar", &["completions", "bash"])).unwrap();
    let ask = "source ./oar.bash; COMP_WORDS=(oarstat --w); COMP_CWORD=1; _oarstat oarstat --w oarstat; \
               echo ${COMPREPLY[@]}; complete -p oar oarsub oardel oarhold oarresume oarnodes";
    let mut bash = Command::new("bash");
    let said = bash.args(["-c", ask]).current_dir(desk.dir.path()).assert().success();
    let said = String::from_utf8(said.get_output().stdout.clone()).unwrap();
    assert!(said.starts_with("--why") && said.contains(" oarresume"), "{said}");

    desk.output("oar", &["man", "man/man1"]);
    for page in NAMES.into_iter().chain(["oar-login"]) {
        let text = std::fs::read_to_string(desk.path(&format!("man/man1/{page}.1"))).unwrap();
        assert!(text.contains(&format!(".TH {page} 1")), "{page}: {text}");
    }
    let refused = desk.refusal(6, "oar", &["man", "oar.bash"]);
    assert!(refused.contains("oar.bash"), "{refused}");
}
