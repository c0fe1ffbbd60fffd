//! The shim and its sandbox, for real: namespaces, bubblewrap, processes. No network device is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;
mod hostile;
mod sessions;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use agent::shim::client::ShimClient;
use agent::shim::protocol::{Ending, ExitReport};
use agent::shim::server::{EXIT, LAUNCH};
use fixture::{Job, PROGRAM, exited, processes_with, until, within};

#[tokio::test]
async fn a_command_runs_and_its_output_is_captured() {
    let job = Job::new(
        "echo out; echo err >&2; cat $OAR_NODEFILE; id -un; hostname; pwd; echo made > file",
    );
    assert_eq!(job.run().await.ending, exited(0));
    assert_eq!(job.stdout(), "out\nvol-1\nvol-1\noar\nvol-1\n/home/oar/work\n");
    assert_eq!(job.stderr(), "err\n");
    assert_eq!(job.read("file"), "made\n");
    let stored: ExitReport =
        serde_json::from_slice(&fs::read(job.path().join(EXIT)).unwrap()).unwrap();
    assert_eq!(stored.ending, exited(0));
}

#[tokio::test]
async fn a_job_may_ping_without_any_capability() {
    let job = Job::new("cat /proc/sys/net/ipv4/ping_group_range; id -g");
    assert_eq!(job.run().await.ending, exited(0));
    assert_eq!(job.stdout(), "1000\t1000\n1000\n");
}

#[tokio::test]
async fn exit_codes_are_raw_wait_statuses() {
    assert_eq!(Job::new("exit 3").run().await.ending, Ending::Exited { wait_status: 768 });
    assert_eq!(Job::new("kill -9 $$").run().await.ending, exited(137));
    // 1 is also what bubblewrap itself fails with: it must not be mistaken for that.
    assert_eq!(Job::new("exit 1").run().await.ending, exited(1));
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_says_so() {
    let job = Job::new("./program");
    fs::write(job.path().join("work/program"), "#!/bin/sh\n").unwrap();
    assert_eq!(job.run().await.ending, exited(126));
    assert!(job.stderr().contains("program: Permission denied"), "{}", job.stderr());
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_made_is_not_the_commands_exit() {
    let job = Job::new("true");
    fs::remove_dir_all(job.path().join("oar")).unwrap();
    let report = job.run().await;
    assert!(
        matches!(&report.ending, Ending::Unusable { reason } if reason.contains("oar")),
        "{report:?}"
    );
}

#[tokio::test]
async fn the_volunteers_files_and_processes_are_not_there() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "s").unwrap();
    let home = std::env::var("HOME").unwrap();
    assert!(secret.exists() && Path::new(&home).exists() && Path::new("/run").exists());

    let job = Job::new(&format!(
        "ls /run; ls -d {} {home} /root /mnt /srv /etc/shadow /etc/machine-id; ls -A /tmp; \
         ls /proc | grep -c '^[0-9]'; touch /usr/x /etc/x",
        secret.display()
    ));
    job.run().await;
    let all = job.stdout();
    let lines: Vec<_> = all.lines().collect();
    // The agent's own folder, of the job's; nothing more listed; then the sandbox's own few processes.
    assert_eq!((lines.len(), lines[0]), (2, "clouds-at-home"), "{lines:?}");
    assert!(lines[1].parse::<u32>().unwrap() <= 6, "{lines:?}");
    assert_eq!(job.stderr().matches("No such file").count(), 7, "{}", job.stderr());
    assert_eq!(
        job.stderr().matches("Read-only").count()
            + job.stderr().matches("Permission denied").count(),
        2,
        "{}",
        job.stderr()
    );
}

#[tokio::test]
async fn the_volunteers_network_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let probe = format!(
        "ls /sys/class/net 2>/dev/null; cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '; \
         bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2>/dev/null && echo reached || echo refused"
    );
    // The control: outside, the same line reaches the listener.
    let outside = std::process::Command::new("sh").args(["-c", &probe]).output().unwrap();
    assert!(String::from_utf8_lossy(&outside.stdout).ends_with("reached\n"));

    let job = Job::new(&probe);
    job.run().await;
    assert_eq!(job.stdout(), "lo\nrefused\n");
}

#[tokio::test]
async fn lo_works_inside() {
    if !Path::new("/usr/bin/python3").exists() && !Path::new("/usr/bin/perl").exists() {
        panic!("neither python3 nor perl is there to listen inside the sandbox");
    }
    let job = Job::new(
        "perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(Listen => 1, LocalAddr => \
         \"127.0.0.1\") or die; $c = IO::Socket::INET->new(PeerAddr => \"localhost\", PeerPort => \
         $l->sockport) or die $!; print \"through\\n\"'",
    );
    assert_eq!(job.run().await.ending, exited(0), "{}", job.stderr());
    assert_eq!(job.stdout(), "through\n");
}

#[tokio::test]
async fn killing_the_shim_kills_everything_of_the_job() {
    let job = Job::new("(setsid sleep 98761 &) ; sleep 98761");
    let (shim, mut process) = job.shim().await;
    shim.run().await.unwrap();
    until(|| processes_with("98761").len() >= 3).await;
    process.kill().await.unwrap();
    until(|| processes_with("98761").is_empty()).await;
    assert!(shim.hello().await.is_err());
    assert!(!job.path().join(EXIT).exists());
}

#[tokio::test]
async fn a_kill_is_polite_first() {
    let job =
        Job::new("trap 'echo terminated; exit 0' TERM; echo ready; while :; do sleep 0.05; done");
    let (shim, mut process) = job.shim().await;
    shim.run().await.unwrap();
    until(|| {
        fs::read_to_string(job.path().join("work/OAR.7.stdout")).is_ok_and(|t| t == "ready\n")
    })
    .await;
    shim.kill().await.unwrap();
    assert_eq!(within(shim.wait()).await.unwrap().ending, Ending::Killed);
    assert_eq!(job.stdout(), "ready\nterminated\n");
    let _ = shim.release().await;
    within(process.wait()).await.unwrap();
}

#[tokio::test]
async fn a_kill_does_not_wait_for_ever() {
    let job =
        Job::with("trap '' TERM; echo ready; sleep 98762; sleep 98762; sleep 98762", |spec| {
            spec.kill_grace_ms = 50;
        });
    let (shim, _process) = job.shim().await;
    shim.run().await.unwrap();
    until(|| {
        fs::read_to_string(job.path().join("work/OAR.7.stdout")).is_ok_and(|t| t == "ready\n")
    })
    .await;
    shim.kill().await.unwrap();
    assert_eq!(within(shim.wait()).await.unwrap().ending, Ending::Killed);
    until(|| processes_with("98762").is_empty()).await;
    let _ = shim.release().await;
}

#[tokio::test]
async fn the_walltime_ends_a_job() {
    let job = Job::with("echo begun; sleep 98763", |spec| spec.walltime_s = 1);
    assert_eq!(job.run().await.ending, Ending::Walltime);
    assert_eq!(job.stdout(), "begun\n");
}

#[tokio::test]
async fn a_shim_without_an_agent_ends_its_job_and_keeps_the_report() {
    let job = Job::with("echo begun; sleep 98764", |spec| spec.alone_limit_ms = 300);
    let (shim, mut process) = job.shim().await;
    shim.run().await.unwrap();
    within(process.wait()).await.unwrap();
    let report: ExitReport =
        serde_json::from_slice(&fs::read(job.path().join(EXIT)).unwrap()).unwrap();
    assert_eq!(report.ending, Ending::Alone);
    assert_eq!(job.stdout(), "begun\n");
}

#[tokio::test]
async fn a_waiting_agent_keeps_the_shim() {
    let job = Job::with("read x < fifo", |spec| spec.alone_limit_ms = 300);
    nix::unistd::mkfifo(&job.path().join("work/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (shim, _process) = job.shim().await;
    shim.run().await.unwrap();
    let mut wait = std::pin::pin!(shim.wait());
    // Three limits pass with the agent waiting.
    assert!(tokio::time::timeout(Duration::from_millis(900), &mut wait).await.is_err());
    fs::write(job.path().join("work/fifo"), "go\n").unwrap();
    assert_eq!(within(wait).await.unwrap().ending, exited(0));
    let _ = shim.release().await;
}

#[tokio::test]
async fn the_secret_outlives_the_agent_and_only_the_owner_can_ask() {
    let job = Job::new("true");
    let (shim, _process) = job.shim().await;
    assert!(shim.secret().await.unwrap().is_none());
    shim.store_secret("5e").await.unwrap();
    drop(shim);
    let again = ShimClient::at(job.path());
    assert_eq!(again.secret().await.unwrap().as_deref().map(String::as_str), Some("5e"));
    let mode = fs::metadata(job.path().join("shim.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(again.take_tun().await.is_err(), "there is no mesh");
    let _ = again.release().await;
}

#[tokio::test]
async fn an_output_is_cut_at_its_limit_and_the_job_goes_on() {
    let job =
        Job::with("head -c 100000 /dev/zero; echo end >&2", |spec| spec.max_output_bytes = 1000);
    let report = job.run().await;
    assert_eq!(report.ending, exited(0));
    assert!(report.output_cut);
    assert_eq!(job.stdout().len(), 1000);
    assert_eq!(job.stderr(), "end\n");
}

#[tokio::test]
async fn a_planted_output_file_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    fs::write(&target, "before").unwrap();
    let job = Job::new("echo out");
    std::os::unix::fs::symlink(&target, job.path().join("work/OAR.7.stdout")).unwrap();
    assert_eq!(job.run().await.ending, exited(0));
    assert_eq!(fs::read_to_string(&target).unwrap(), "before");
    assert_eq!(job.stdout(), "out\n");
}

#[tokio::test]
async fn a_launch_has_one_shim() {
    let job = Job::new("true");
    let (shim, _process) = job.shim().await;
    let second = tokio::process::Command::new(PROGRAM)
        .args(["shim", "--dir"])
        .arg(job.path())
        .output()
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&second.stderr).contains("has a shim already"));
    assert!(shim.hello().await.is_ok());
    let _ = shim.release().await;
}

#[tokio::test]
async fn a_mesh_job_has_mesh0_with_its_addresses_and_names() {
    let job = Job::with(
        "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' ' | sort; cat /etc/hosts; \
         perl -MSocket -e 'print inet_ntoa(inet_aton(\"node-2\")), \"\\n\"; \
         socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(0, inet_aton(\"node-1\"))) or die; \
         print \"bound\\n\"'",
        |spec| spec.mesh_mtu = Some(1412),
    );
    let (shim, _process) = job.shim().await;
    let hosts = "127.0.0.1 localhost\n10.128.0.1 node-1 vol-1\n10.128.0.2 node-2 vol-2\n";
    let own = ("10.128.0.1".parse().unwrap(), 16);
    let own_v6 = ("fd00::1".parse().unwrap(), 64);
    let _descriptor = shim.take_tun().await.unwrap();
    for _ in 0..2 {
        shim.set_members(own, own_v6, hosts.into()).await.unwrap();
    }
    shim.run().await.unwrap();
    assert_eq!(within(shim.wait()).await.unwrap().ending, exited(0), "{}", job.stderr());
    assert_eq!(job.stdout(), format!("lo\nmesh0\n{hosts}10.128.0.2\nbound\n"));
    let _ = shim.release().await;
}

#[tokio::test]
async fn it_works_without_root() {
    let users = fs::read_to_string("/proc/self/uid_map").unwrap();
    let only_one = users.split_whitespace().nth(2) == Some("1");
    if only_one || !nix::unistd::geteuid().is_root() {
        return; // all the tests here run without other users' rights then
    }
    // The program must be where nobody can reach it.
    let program = tempfile::tempdir().unwrap();
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = program.path().join("agent");
    fs::copy(PROGRAM, &copy).unwrap();

    let job = Job::new("echo out; id -u; echo made > file");
    let nobody = Some(65534.into());
    for path in ["", "etc", "oar", "work", LAUNCH] {
        let path = job.path().join(path);
        nix::unistd::chown(&path, nobody, Some(65534.into())).unwrap();
    }
    let mut process = tokio::process::Command::new(&copy)
        .args(["shim", "--dir"])
        .arg(job.path())
        .uid(65534)
        .gid(65534)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let shim = ShimClient::at(job.path());
    until(|| job.path().join("shim.sock").exists()).await;
    shim.run().await.unwrap();
    assert_eq!(within(shim.wait()).await.unwrap().ending, exited(0));
    assert_eq!(job.stdout(), "out\n1000\n");
    let _ = shim.release().await;
    within(process.wait()).await.unwrap();
}
