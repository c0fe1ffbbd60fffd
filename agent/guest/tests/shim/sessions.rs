//! SSH into a job's sandbox, with OpenSSH's own programs for clients. The clients are the job's command, and come
//! in by the loopback of the job's network.

use std::fs;
use std::time::Duration;

use agent::mesh::WireGuardSecret;
use agent::shim::protocol::{ExitReport, Role};
use agent::ssh::{self, NodeKey};
use overlay_core::netmap::{Member, NETMAP_VERSION, Netmap};
use overlay_core::{HostKey, MeshId, NodeId, WireGuardKey};

use crate::fixture::{Job, exited, within};

const WALLTIME_S: u64 = 120;

/// A node whose command is `command` and that lets itself in as `node-1`.
fn node(command: &str) -> Job {
    let key = NodeKey::of(&WireGuardSecret::generate());
    node_that_knows(command, &key, key.public())
}

fn node_that_knows(command: &str, own: &NodeKey, known: HostKey) -> Job {
    let job = Job::with(command, |spec| {
        spec.role = Role::CommandAndSessions;
        spec.walltime_s = WALLTIME_S;
        spec.environment.push(("OAR_JOB_ID".into(), "7".into()));
        spec.environment.push(("HOME".into(), "/home/oar/work".into()));
    });
    let netmap = Netmap {
        version: NETMAP_VERSION,
        mesh: MeshId { job: 7, generation: 1 },
        era: 0,
        epoch: 1,
        members: vec![Member {
            index: 0,
            node: NodeId([1; 32]),
            name: "vol-1".into(),
            wireguard_key: WireGuardKey([1; 32]),
            host_key: Some(known),
        }],
        pattern: None,
        signature: None,
    };
    ssh::write(&job.path().join("ssh"), own, &netmap).unwrap();
    fs::write(job.path().join("etc/hosts"), "127.0.0.1 localhost\n127.0.0.1 node-1 vol-1\n")
        .unwrap();
    job
}

async fn run(job: &Job) -> (ExitReport, String) {
    let report = job.run().await;
    (report, format!("{}--\n{}", job.stdout(), job.stderr()))
}

#[tokio::test]
async fn a_session_is_at_home_in_the_jobs_sandbox() {
    let job = node(
        "echo shared > /dev/shm/memory; sleep 98761 & \
         ssh node-1 'id -un; pwd; hostname; echo $OAR_JOB_ID; cat /dev/shm/memory; \
         ls /proc/'$!' > /dev/null && echo sees the process; ls /home; ls /etc/ssh' 2>&1; \
         LC_TIME=C.UTF-8 ssh node-1 'echo $LC_TIME'",
    );
    let (report, said) = run(&job).await;
    assert_eq!(
        said,
        "oar\n/home/oar/work\nvol-1\n7\nshared\nsees the process\noar\nauthorized_keys\n\
         id_ed25519\nssh_config\nssh_known_hosts\nC.UTF-8\n--\n"
    );
    assert_eq!(report.ending, exited(0));
}

#[tokio::test]
async fn exit_codes_signals_and_both_outputs_come_back() {
    let job = node(
        "ssh node-1 'echo out; echo err >&2; exit 42'; echo $?; \
         ssh node-1 'kill -9 $$'; echo $?; \
         ssh node-1 /no/such/program; echo $?; \
         printf 'a b' | ssh node-1 'wc -c'; \
         ssh node-1 true < /dev/null; echo $?",
    );
    let (report, said) = run(&job).await;
    let (stdout, stderr) = said.split_once("--\n").unwrap();
    assert_eq!(stdout, "out\n42\n255\n127\n3\n0\n", "{stderr}");
    assert!(stderr.starts_with("err\n"), "{stderr}");
    assert!(stderr.contains("/no/such/program"), "{stderr}");
    assert_eq!(report.ending, exited(0));
}

#[tokio::test]
async fn what_echoes_a_flood_neither_stalls_nor_loses_a_byte() {
    // Far more than every buffer on the way together.
    let job = node(
        "head -c 60000000 /dev/urandom > sent; \
         ssh node-1 'cat | cat' < sent > received; cmp sent received && echo same; \
         ssh node-1 'sleep 1; sha256sum' < sent > one; sha256sum < sent > two; \
         cmp one two && echo same",
    );
    let (report, said) = run(&job).await;
    assert_eq!(said, "same\nsame\n--\n");
    assert_eq!(report.ending, exited(0));
}

#[tokio::test]
async fn a_terminal_has_its_size_and_its_keys() {
    // `script` types an end of file where its own input ends.
    let job = node(
        "export TERM=vt100; mkfifo silence keys said; exec 5<> silence; \
         script -qec 'stty rows 33 cols 77; ssh -tt node-1 \"tty; stty size; echo \\$TERM\"' \
         /dev/null <&5 | tr -d '\\r'; \
         ssh -tt node-1 'echo begun; sleep 98762' < keys > said & exec 3> keys 4< said; \
         head -n 1 <&4 > /dev/null; printf '\\003' >&3; cat <&4 > /dev/null; wait $!; echo $?",
    );
    let (_, said) = run(&job).await;
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("/dev/pts/"), "{said}");
    assert_eq!(lines[1..3], ["33 77", "vt100"], "{said}");
    // What a program ends with whose terminal says Ctrl-C.
    assert!(["130", "255"].contains(&lines[3]), "{said}");
}

#[tokio::test]
async fn many_sessions_run_at_once() {
    let job = node(
        "for i in $(seq 24); do ssh node-1 \"echo $i; sleep 1\" > out.$i & done; wait; \
         cat out.* | sort -n | tr '\\n' ' '",
    );
    let (_, said) = run(&job).await;
    let numbers: Vec<String> = (1..=24).map(|number| number.to_string()).collect();
    assert_eq!(said, format!("{} --\n", numbers.join(" ")));
}

#[tokio::test]
async fn files_are_copied_with_scp_and_a_folder_too() {
    let job = node(
        "mkdir -p folder/below; head -c 3000000 /dev/urandom > folder/below/file; \
         scp -q folder/below/file node-1:copied && cmp folder/below/file copied && echo one; \
         scp -qr node-1:folder again && cmp folder/below/file again/below/file && echo all; \
         scp -qO folder/below/file node-1:old && cmp folder/below/file old && echo the old way; \
         tar c folder | ssh node-1 'mkdir tarred && tar x -C tarred' && ls tarred",
    );
    let (_, said) = run(&job).await;
    assert_eq!(said, "one\nall\nthe old way\nfolder\n--\n");
}

#[tokio::test]
async fn nobody_comes_in_without_the_jobs_key_or_as_somebody_else() {
    let job = node(
        "ssh-keygen -q -t ed25519 -N '' -f stranger; \
         ssh -i stranger -o IdentityFile=stranger -F /dev/null -o IdentitiesOnly=yes \
         -o BatchMode=yes node-1 'echo in'; echo $?; \
         ssh root@node-1 'echo in'; echo $?; \
         ssh -o PreferredAuthentications=password,keyboard-interactive -o BatchMode=yes node-1 \
         'echo in'; echo $?; ssh node-1 'echo in'",
    );
    let (_, said) = run(&job).await;
    assert!(said.starts_with("255\n255\n255\nin\n--\n"), "{said}");
}

#[tokio::test]
async fn a_server_with_another_key_is_not_believed() {
    let (own, other) = (WireGuardSecret::generate(), WireGuardSecret::generate());
    let known = NodeKey::of(&other).public();
    let job = node_that_knows("ssh node-1 'echo in'; echo $?", &NodeKey::of(&own), known);
    let (_, said) = run(&job).await;
    assert!(said.starts_with("255\n--\n"), "{said}");
    assert!(said.contains("Host key verification failed"), "{said}");
}

#[tokio::test]
async fn bytes_that_are_no_ssh_cut_nobody_off() {
    let job = node(
        "for i in $(seq 20); do head -c 100000 /dev/urandom | nc -w 1 127.0.0.1 22 > /dev/null & done; \
         (printf 'SSH-2.0-x\\r\\n'; head -c 100000 /dev/urandom) | nc -w 1 127.0.0.1 22 > /dev/null; \
         ssh node-1 'echo in'; wait",
    );
    let (_, said) = run(&job).await;
    assert!(said.starts_with("in\n--\n"), "{said}");
}

#[tokio::test]
async fn sessions_end_with_the_command() {
    let job = node("ssh node-1 'setsid sleep 98763 & sleep 98763' & sleep 2; exit 5");
    let (report, _) = run(&job).await;
    assert_eq!(report.ending, exited(5));
    assert_eq!(crate::fixture::processes_with("sleep 98763").len(), 0);
}

#[tokio::test]
async fn a_node_without_the_command_waits_until_it_is_told() {
    let job = Job::with("echo must not run", |spec| spec.role = Role::Sessions);
    // Not even keys: it says so in its log, and waits all the same.
    fs::create_dir(job.path().join("ssh")).unwrap();
    let (shim, mut process) = job.shim().await;
    shim.run().await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(1), shim.wait()).await;
    assert!(waited.is_err(), "{waited:?}");
    shim.kill().await.unwrap();
    within(shim.wait()).await.unwrap();
    let _ = shim.release().await;
    within(process.wait()).await.unwrap();
    assert_eq!(fs::read_dir(job.path().join("work")).unwrap().count(), 0);
}
