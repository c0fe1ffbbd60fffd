//! The virtual machine, from outside.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// The first program: mounts what every system has, divides the root group as systemd does for a service with
/// `Delegate=yes`, tries the limits in such a group, and turns the machine off.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
echo '+memory +cpu +pids +io' > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/service
(echo 0 > /sys/fs/cgroup/service/cgroup.procs; exec /test inside) 2>&1
poweroff -f
";

/// Seconds until the machine is given up: it boots in 3 to 6 s, and is done in as many.
const LIMIT: &str = "100";

/// Boots it with that kernel; what it wrote on its serial line.
pub(crate) fn boot(kernel: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let system = folder.path().join("initrd");
    fs::write(&system, archive()).unwrap();
    let machine = Command::new("timeout")
        .args([LIMIT, "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35"])
        .args(["-smp", "2", "-m", "512", "-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(&system)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&machine.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&machine.stderr);
    assert!(machine.status.success(), "the machine failed: {complaints}\n{said}");
    said
}

/// The machine's files, as the kernel takes them.
fn archive() -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["bin", "proc", "sys", "dev", "tmp"] {
        archive.add(folder, 0o040_755, &[]);
    }
    archive.add("init", 0o100_755, INIT.as_bytes());
    let (busybox, test) = (Path::new("/bin/busybox"), std::env::current_exe().unwrap());
    archive.copy(busybox, "bin/busybox");
    archive.copy(&test, "test");
    let libraries: BTreeSet<_> = [busybox, &test].into_iter().flat_map(libraries).collect();
    for library in libraries {
        let place = library.trim_start_matches('/');
        archive.folders_of(place);
        archive.copy(Path::new(&library), place);
    }
    archive.end()
}

/// What the loader needs for a program, as `ldd` tells: the loader among it. Nothing for a static one.
fn libraries(program: &Path) -> Vec<String> {
    let told = Command::new("ldd").arg(program).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    told.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// An archive in cpio's "newc" format (the kernel's `driver-api/early-userspace/buffer-format`).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
    folders: Vec<String>,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.files += 1;
        let name_len = name.len() + 1;
        write!(self.bytes, "070701{:08x}{mode:08x}", self.files).unwrap();
        // User, group, one link, no time, the length, no device, the name's length, no checksum.
        write!(self.bytes, "{0:08x}{0:08x}{1:08x}{0:08x}{2:08x}", 0, 1, content.len()).unwrap();
        write!(self.bytes, "{0:08x}{0:08x}{0:08x}{0:08x}{name_len:08x}{0:08x}", 0).unwrap();
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn copy(&mut self, from: &Path, to: &str) {
        let content = fs::read(from)
            .unwrap_or_else(|error| panic!("{}: {error}; `.ci/run guest` gets it", from.display()));
        let mode = fs::metadata(from).unwrap().permissions().mode();
        self.add(to, 0o100_000 | mode & 0o777, &content);
    }

    fn folders_of(&mut self, file: &str) {
        for (at, _) in file.match_indices('/') {
            let folder = file[..at].to_owned();
            if !self.folders.contains(&folder) {
                self.add(&folder, 0o040_755, &[]);
                self.folders.push(folder);
            }
        }
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
