//! Two network namespaces with a cable between them, and who may make them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use netsim_wire::{Cable, LineSpec, Wires};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};

/// Runs before `main`, while the process has a single thread: an ordinary user gets a user namespace,
/// in which it may make network namespaces.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = enter;

extern "C" fn enter() {
    if std::env::var_os(HOLD).is_some() {
        hold();
    }
    let (uid, gid) = (getuid(), getgid());
    if uid.is_root() {
        return;
    }
    let entered = unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(io::Error::from)
        .and_then(|()| fs::write("/proc/self/setgroups", "deny"))
        .and_then(|()| fs::write("/proc/self/uid_map", format!("0 {uid} 1\n")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("0 {gid} 1\n")));
    if let Err(error) = entered {
        eprintln!("these tests need namespaces: {error}; see `netsim doctor`");
        std::process::exit(1);
    }
}

/// A test program with this variable is no test program, but holds a link until it is killed.
pub(crate) const HOLD: &str = "NETSIM_WIRE_TEST_HOLDS";

/// Makes a link, tells the numbers of the two namespaces' descriptors, and waits for its end.
fn hold() -> ! {
    let pair = Pair::new();
    let wires = Wires::new().expect("a thread");
    let spliced = pair.cable().splice(None).expect("a cable");
    wires.add(LineSpec::default(), spliced).expect("a link");
    let ends = [&pair.near, &pair.far].map(|end| end.0.as_raw_fd());
    writeln!(io::stdout(), "{} {}", ends[0], ends[1]).expect("somebody listens");
    loop {
        std::thread::park();
    }
}

/// One test at a time: they measure.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A network namespace, held open.
pub(crate) struct Netns(pub(crate) File);

impl Netns {
    pub(crate) fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let netns = Self(made.join().unwrap().unwrap());
        netns.ip("link set lo up");
        netns
    }

    pub(crate) fn borrowed(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        std::thread::scope(|scope| {
            let inside = || {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope.spawn(inside).join().unwrap()
        })
    }

    pub(crate) fn ip(&self, words: &str) {
        let output =
            self.run(|| Command::new("ip").args(words.split(' ')).output().expect("iproute2"));
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn udp(&self, address: &str, port: u16) -> UdpSocket {
        let to: SocketAddr = format!("{address}:{port}").parse().unwrap();
        self.run(move || UdpSocket::bind(to)).unwrap()
    }
}

/// Where the two ends are.
pub(crate) const NEAR: &str = "10.9.0.1";
pub(crate) const FAR: &str = "10.9.0.2";

/// A cable: `eth0` at [`NEAR`], `v1` at [`FAR`].
pub(crate) struct Pair {
    pub(crate) near: Netns,
    pub(crate) far: Netns,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let (near, far) = (Netns::new(), Netns::new());
        let there = format!("/proc/{}/fd/{}", std::process::id(), far.0.as_raw_fd());
        near.ip(&format!("link add eth0 type veth peer name v1 netns {there}"));
        near.ip(&format!("address add {NEAR}/24 dev eth0"));
        far.ip(&format!("address add {FAR}/24 dev v1"));
        near.ip("link set eth0 up");
        far.ip("link set v1 up");
        Self { near, far }
    }

    pub(crate) fn cable(&self) -> Cable<'_> {
        Cable { near: self.near.borrowed(), name: "eth0", far: self.far.borrowed() }
    }
}
