//! A job that wants out: of its files, its processes, its network, its memory and its disk. Every attempt fails,
//! and the next job finds the node as it was.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::PathBuf;

use super::*;

/// The attempts, in Perl, which every Debian has.
const ATTEMPTS: &str = include_str!("escape.pl");

/// What the volunteer has that is no job's business.
struct Planted {
    folder: TempDir,
    /// Only to be there.
    _bus: UnixListener,
    _abstract: UnixListener,
    listener: TcpListener,
    abstract_name: String,
}

impl Planted {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "the volunteer's diary").unwrap();
        let abstract_name = format!("clouds-escape-{}", std::process::id());
        let address = UnixAddr::from_abstract_name(&abstract_name).unwrap();
        Self {
            _bus: UnixListener::bind(folder.path().join("bus")).unwrap(),
            _abstract: UnixListener::bind_addr(&address).unwrap(),
            listener: TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap(),
            abstract_name,
            folder,
        }
    }
}

/// The machine's own address in its network, if it has one. Nothing is sent.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SocketAddr::from(([192, 0, 2, 1], 9))).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

/// The work directory of a launch.
fn work(state: &Path, launch: &str) -> PathBuf {
    state.join("jobs").join(launch).join("work")
}

async fn up(state: &Path, job: u64) {
    let file = work(state, &format!("{job}.1")).join(format!("OAR.{job}.stdout"));
    until("it runs", || fs::read_to_string(&file).is_ok_and(|text| text.starts_with("up\n"))).await;
}

/// The end of a job, with the text of its outputs.
async fn over(fake: &Fake, job: u64) -> (SetState, String, String, Vec<String>) {
    until("it is over", || final_state(&fake.said(job)).is_some()).await;
    let said = fake.said(job);
    let files = said.iter().find_map(|said| match said {
        Said::Stageout { files, .. } => Some(files.clone()),
        Said::State(..) => None,
    });
    let files = files.unwrap_or_default();
    let text = |name: &str| {
        let found = files.iter().find(|(file, _)| *file == format!("OAR.{job}.{name}"));
        found.map(|(_, text)| text.clone()).unwrap_or_default()
    };
    let names = files.iter().map(|(name, _)| name.clone()).collect();
    (final_state(&said).unwrap().clone(), text("stdout"), text("stderr"), names)
}

/// The next job finds the node as it was.
async fn next_runs(fake: &Fake, job: u64) {
    fake.submit(
        job,
        1,
        "echo fine; seq 100 | wc -l; head -c 1000000 /dev/zero > file; wc -c < file",
        None,
    );
    let (state, stdout, stderr, _) = over(fake, job).await;
    assert_eq!(
        (stdout.as_str(), state.exit_code),
        ("fine\n100\n1000000\n", Some(0)),
        "{state:?} {stderr}"
    );
}

#[tokio::test]
async fn a_job_that_wants_out_stays_in() {
    let fake = Fake::start().await;
    let planted = Planted::new();
    let state = state();
    // Another job, with something of its own.
    fake.submit(8, 1, "echo private > mine; echo up; sleep 98781", None);
    let agent =
        agent_with_environment(state.path(), &fake, &["--cores", "4"], &[("PLANTED_SECRET", "x")]);
    up(state.path(), 8).await;
    let other = processes_with("98781");
    assert!(!other.is_empty());

    let at = |path: &Path| path.to_str().unwrap().to_owned();
    let planted_at = [
        ("secret", at(&planted.folder.path().join("secret"))),
        ("key", at(&state.path().join("identity.key"))),
        ("membership", at(&state.path().join("membership.json"))),
        ("other_file", at(&work(state.path(), "8.1").join("mine"))),
        ("agent_pid", agent.id().unwrap().to_string()),
        ("other_pid", other[0].to_string()),
        ("port", planted.listener.local_addr().unwrap().port().to_string()),
        ("coordinator_port", fake.port().to_string()),
        ("lan", own_address().unwrap_or_default()),
        ("agent_socket", at(&state.path().join("agent.sock"))),
        ("shim_socket", at(&state.path().join("jobs/7.1/shim.sock"))),
        ("other_shim_socket", at(&state.path().join("jobs/8.1/shim.sock"))),
        ("bus", at(&planted.folder.path().join("bus"))),
        ("abstract", planted.abstract_name.clone()),
    ];
    // The control: what the job does not reach is there to be reached.
    for (name, value) in &planted_at {
        let is_path = value.starts_with('/') && *name != "shim_socket";
        assert!(!is_path || Path::new(value).exists(), "{name}");
    }
    let arguments: Vec<_> =
        planted_at.iter().map(|(name, value)| format!("'{name}={value}'")).collect();
    let command = format!("perl attempts.pl {}", arguments.join(" "));
    fake.submit(7, 1, &command, Some(archive_of(&[("attempts.pl", ATTEMPTS)])));
    let (end, stdout, stderr, names) = over(&fake, 7).await;

    let escaped: Vec<_> = stdout.lines().filter(|line| line.starts_with("ESCAPED")).collect();
    assert_eq!(escaped, Vec::<&str>::new(), "{stderr}");
    assert!(stdout.ends_with("done\n"), "it was ended on the way: {stdout}\n{stderr}\n{end:?}");
    let tried = stdout.lines().filter(|line| line.starts_with("tried ")).count();
    let attempts =
        ATTEMPTS.lines().filter(|line| line.trim_start().starts_with("attempt(")).count();
    assert!(tried > attempts, "some stand in loops: {tried}, {attempts}");
    assert!(!names.iter().any(|name| name.starts_with("link-")), "{names:?}");

    assert!(processes_with("98781").contains(&other[0]), "the other job goes on");
    next_runs(&fake, 9).await;
    fake.kill(8, 1);
    let (_, _, _, names) = over(&fake, 8).await;
    assert!(names.contains(&"mine".to_owned()), "{names:?}");
    drop(agent);
}

#[tokio::test]
async fn bombs_harm_the_job_alone() {
    let fake = Fake::start().await;
    let state = state();
    let _agent = agent_with(state.path(), &fake, &["--memory", "1536"]);
    let disk = owner::run(state.path(), &["limits", "--disk", "64"]);
    until("it is there", || state.path().join("agent.sock").exists()).await;
    assert!(disk.await.status.success());

    // Processes: as many as it gets, all of them waiting for a word.
    fake.submit(
        7,
        1,
        "perl -e 'my $n = 0; while ($n < 20000) { my $pid = fork; last unless defined $pid; \
         if ($pid == 0) { sleep 98782; exit } $n++ } print \"$n\\n\"'",
        None,
    );
    let (_, stdout, stderr, _) = over(&fake, 7).await;
    let made: u64 = stdout.trim().parse().unwrap_or_else(|_| panic!("{stdout} {stderr}"));
    assert!((100..=agent::confine::limits::MAX_TASKS).contains(&made), "{made}");
    until("they are gone", || processes_with("98782").is_empty()).await;
    next_runs(&fake, 8).await;

    // Memory, of its own and in its file systems. The shell around it lives.
    fake.submit(
        9,
        1,
        "perl -e '$x = \"x\" x 3e9; print \"HAS IT\\n\"'; echo left $?; \
         for d in /tmp /var/tmp /dev/shm; do head -c 900000000 /dev/zero > $d/f && echo FILLED $d; rm -f $d/f; done; \
         head -c 1 /dev/zero > /dev/f && echo WROTE; echo end",
        None,
    );
    let (end, stdout, stderr, _) = over(&fake, 9).await;
    assert!(stdout.starts_with("left ") && stdout.ends_with("end\n"), "{stdout} {stderr} {end:?}");
    assert!(
        !stdout.contains("HAS IT") && !stdout.contains("FILLED") && !stdout.contains("WROTE"),
        "{stdout}"
    );
    next_runs(&fake, 10).await;

    // The disk: with one file, and with many.
    fake.submit(11, 1, "head -c 1000000000 /dev/zero > large; wc -c < large; rm large", None);
    let (_, stdout, _, _) = over(&fake, 11).await;
    let written: u64 = stdout.trim().parse().unwrap();
    assert!(written <= 64 << 20, "{written}");
    fake.submit(12, 1, "i=0; while :; do head -c 8000000 /dev/zero > f$i; i=$((i+1)); done", None);
    let (end, _, _, _) = over(&fake, 12).await;
    assert_eq!((end.state, end.fault), (ReportedState::Error, Some(Fault::Job)), "{end:?}");
    assert!(end.message.as_deref().unwrap().contains("64 MiB of disk"), "{end:?}");
    next_runs(&fake, 13).await;
}
