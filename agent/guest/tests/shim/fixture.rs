//! A launch's folder, as the agent would make it, and a shim on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::confine::cage::Cage;
use agent::confine::limits::JobLimits;
use agent::environment;
use agent::shim::client::ShimClient;
use agent::shim::protocol::{Ending, ExitReport, LaunchSpec, Role, VERSION};
use agent::shim::server::LAUNCH;
use tempfile::TempDir;
use tokio::process::Child;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_agent");

/// Long enough for a machine under load; reached only by a failure.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Job {
    folder: TempDir,
}

impl Job {
    pub(crate) fn new(command: &str) -> Self {
        Self::with(command, |_| {})
    }

    pub(crate) fn with(command: &str, change: impl FnOnce(&mut LaunchSpec)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["etc", "oar", "work"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fs::write(path.join("etc/passwd"), environment::passwd()).unwrap();
        fs::write(path.join("etc/group"), environment::group()).unwrap();
        fs::write(path.join("etc/nsswitch.conf"), environment::name_service()).unwrap();
        fs::write(path.join("etc/hosts"), environment::hosts_alone("vol-1")).unwrap();
        fs::write(path.join("oar/7"), "vol-1\nvol-1\n").unwrap();
        let mut spec = LaunchSpec {
            version: VERSION,
            hostname: "vol-1".into(),
            mesh_mtu: None,
            role: Role::default(),
            command: command.into(),
            environment: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("OAR_NODEFILE".into(), "/var/lib/oar/7".into()),
            ],
            stdout: "OAR.7.stdout".into(),
            stderr: "OAR.7.stderr".into(),
            max_output_bytes: 1 << 20,
            walltime_s: 3600,
            kill_grace_ms: 10_000,
            alone_limit_ms: 60_000,
            limits: JobLimits::default(),
            cage: Cage::default(),
        };
        change(&mut spec);
        fs::write(path.join(LAUNCH), serde_json::to_vec(&spec).unwrap()).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join("work").join(name)).unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        self.read("OAR.7.stdout")
    }

    pub(crate) fn stderr(&self) -> String {
        self.read("OAR.7.stderr")
    }

    pub(crate) async fn shim(&self) -> (ShimClient, Child) {
        ShimClient::start(Path::new(PROGRAM), self.path()).await.unwrap()
    }

    /// Runs the command to its end and the shim with it.
    pub(crate) async fn run(&self) -> ExitReport {
        let (shim, mut process) = self.shim().await;
        shim.run().await.unwrap();
        let report = within(shim.wait()).await.unwrap();
        let _ = shim.release().await;
        within(process.wait()).await.unwrap();
        report
    }
}

pub(crate) async fn within<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, step).await.expect("it takes too long")
}

pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

pub(crate) fn exited(code: i32) -> Ending {
    Ending::Exited { wait_status: code << 8 }
}

/// The processes whose command line holds `word`.
pub(crate) fn processes_with(word: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        fs::read(path.join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))
    };
    fs::read_dir("/proc").unwrap().flatten().map(|item| item.path()).filter(holds).collect()
}
