//! HTTP proxies, for networks that let nothing else out: Debian's tinyproxy, which asks for a name and
//! a password, connects to the API's port only, and has a machine of its own in the public network.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use netsim_sim::Firewall;
use netsim_sim::topology::RouterSpec;

use super::{Volunteer, place};
use crate::program::{Place, Program};
use crate::topology::{Machine, Topology};

/// The program.
const PROGRAM: &str = "tinyproxy";
/// Where it listens; the port of most proxies.
const PORT: u16 = 3128;
/// Whom it lets through. The lab is closed, and what is behind the proxy is the lab's coordinator.
const USER: &str = "volunteer";
const PASSWORD: &str = "let-me-out";
/// Where it may be installed. Ordinary users do not have all of them in PATH.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// From its start to its first connection.
const READY: Duration = Duration::from_secs(10);

/// A running proxy.
pub(crate) struct Proxy {
    /// The machine that it has for itself.
    pub(crate) machine: Machine,
    /// Where it runs.
    pub(crate) place: Place,
    pub(super) program: Program,
}

/// Whether a router lets nobody but a proxy through, and which machine that is.
pub(crate) fn proxy_of(router: &RouterSpec) -> Option<&str> {
    router.proxy.as_deref().filter(|_| router.firewall == Firewall::ProxyOnly)
}

/// Starts a proxy on each machine that a router names as its network's only way out.
pub(super) fn start(
    dir: &Path,
    topology: &Topology,
    routers: &[RouterSpec],
    api_port: u16,
) -> anyhow::Result<Vec<Proxy>> {
    let machines: BTreeSet<&str> = routers.iter().filter_map(proxy_of).collect();
    let start = |machine| {
        let machine = topology.machine(machine)?;
        let place = place(dir, &machine.name, &machine.netns)?;
        let program = start_one(&place, api_port)?;
        Ok(Proxy { machine, place, program })
    };
    machines.into_iter().map(start).collect()
}

fn start_one(place: &Place, api_port: u16) -> anyhow::Result<Program> {
    let settings = format!(
        "Port {PORT}\nConnectPort {api_port}\nBasicAuth {USER} {PASSWORD}\nLogLevel Connect\n"
    );
    fs::write(place.dir.join("proxy.conf"), settings).context("cannot write proxy.conf")?;
    let mut program = place.start("proxy", &installed()?, ["-d", "-c", "proxy.conf"])?;
    let listens = || {
        let connect = || TcpStream::connect(("127.0.0.1", PORT));
        place.netns.run(connect).and_then(|connected| connected).ok().map(drop)
    };
    program.wait_for("the first connection", READY, |_| listens())?;
    Ok(program)
}

/// Where the program is; an error says how to get it.
pub(crate) fn installed() -> anyhow::Result<PathBuf> {
    let mut found = FOLDERS.iter().map(|folder| Path::new(folder).join(PROGRAM));
    found.find(|path| path.is_file()).context(
        "tinyproxy is missing, the only way out of some of these networks: \
         `sudo apt-get install tinyproxy-bin`",
    )
}

/// Tells the volunteers whose network lets only a proxy through where that is.
pub(super) fn tell(
    volunteers: &mut [Volunteer],
    topology: &Topology,
    routers: &[RouterSpec],
) -> anyhow::Result<()> {
    for volunteer in volunteers {
        let way_out = &volunteer.machine.routers;
        let on_the_way = |spec: &&RouterSpec| way_out.iter().any(|r| r.name == spec.name);
        if let Some(proxy) = routers.iter().filter(on_the_way).find_map(proxy_of) {
            let address = topology.machine(proxy)?.address;
            let url = format!("http://{USER}:{PASSWORD}@{address}:{PORT}");
            volunteer.place.env.push(("HTTPS_PROXY".into(), url.into()));
        }
    }
    Ok(())
}

impl Proxy {
    /// The end of its log, with its machine's name.
    pub(super) fn tail(&self) -> String {
        format!("\n{}:{}", self.machine.name, self.program.tail())
    }
}
