//! What a job finds around it: OAR's variables, the node files, names.
//!
//! Pure text; the shim's sandbox puts it in place.

use std::fmt::Write as _;

use coordinator_api::agent::Assignment;
use coordinator_api::job::Job;
use overlay_core::ids::MeshId;
use overlay_core::netmap::Netmap;

/// The job's working directory and home, as the job sees it.
pub const WORK_DIRECTORY: &str = "/home/oar/work";

/// Where OAR keeps its node files, as the job sees it.
pub const OAR_DIRECTORY: &str = "/var/lib/oar";

/// Where the agent's own programs are, as the job sees it.
pub const AGENT_DIRECTORY: &str = "/run/clouds-at-home";

/// The name of the file with the members of a job's network: the job's number and this, in
/// [`OAR_DIRECTORY`].
pub const MEMBERS_SUFFIX: &str = "_members";

/// The same for the socket with its events.
pub const EVENTS_SUFFIX: &str = "_events";

/// The same for the table of round trip times.
pub const MATRIX_SUFFIX: &str = "_matrix";

/// The job's user, as the job sees it (number 1000).
pub const USER: &str = "oar";

/// The names of the files that take the job's outputs, relative to the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFiles {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Made only when something had to be left out of the results.
    pub left_out: String,
}

impl OutputFiles {
    /// OAR's default names: `OAR.NAME.ID.stdout`, without the name when the job has none.
    ///
    /// A name that cannot be part of a file name is left away.
    pub fn of(job: &Job) -> Self {
        let name = job.name.as_deref().filter(|name| {
            !name.is_empty() && name.len() <= 128 && !name.contains(['/', '\0', '\n'])
        });
        let stem = match name {
            Some(name) => format!("OAR.{name}.{}", job.id),
            None => format!("OAR.{}", job.id),
        };
        Self {
            stdout: format!("{stem}.stdout"),
            stderr: format!("{stem}.stderr"),
            left_out: format!("{stem}.left-out"),
        }
    }
}

/// Where programs are looked for.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// What lets MPI's launchers find the job's nodes without a flag: the variables that Open MPI up to 4 and from 5
/// on, and Hydra (MPICH, Intel MPI), read for a list of hosts.
const HOST_FILES: [&str; 3] =
    ["OMPI_MCA_orte_default_hostfile", "PRTE_MCA_prte_default_hostfile", "HYDRA_HOST_FILE"];

/// The job's whole environment. Values with a NUL byte, which no environment can hold, become empty.
pub fn variables(job: &Job, assignment: &Assignment) -> Vec<(String, String)> {
    let id = job.id.to_string();
    let array = job.array_id.to_string();
    let index = job.array_index.unwrap_or(1).to_string();
    let nodes = format!("{OAR_DIRECTORY}/{id}");
    let outputs = OutputFiles::of(job);

    let mut all: Vec<(&str, String)> = vec![
        ("HOME", WORK_DIRECTORY.into()),
        ("LANG", "C.UTF-8".into()),
        ("LOGNAME", USER.into()),
        ("PATH", if assignment.mesh { format!("{PATH}:{AGENT_DIRECTORY}") } else { PATH.into() }),
        ("SHELL", "/bin/sh".into()),
        ("USER", USER.into()),
        ("OAR_JOB_ID", id.clone()),
        ("OAR_JOBID", id.clone()),
        ("OAR_ARRAY_ID", array.clone()),
        ("OAR_ARRAYID", array),
        ("OAR_ARRAY_INDEX", index.clone()),
        ("OAR_ARRAYINDEX", index),
        ("OAR_JOB_NAME", job.name.clone().unwrap_or_default()),
        ("OAR_PROJECT_NAME", job.project.clone()),
        ("OAR_JOB_WALLTIME", oar_duration(assignment.walltime)),
        ("OAR_JOB_WALLTIME_SECONDS", assignment.walltime.to_string()),
        ("OAR_NODEFILE", nodes.clone()),
        ("OAR_NODE_FILE", nodes.clone()),
        ("OAR_FILE_NODES", nodes.clone()),
        ("OAR_RESOURCE_FILE", nodes.clone()),
        ("OAR_RESOURCE_PROPERTIES_FILE", format!("{nodes}_resources")),
        ("OAR_KEY", "1".into()),
        ("OAR_USER", job.owner.clone()),
        ("OAR_WORKDIR", WORK_DIRECTORY.into()),
        ("OAR_WORKING_DIRECTORY", WORK_DIRECTORY.into()),
        ("OAR_O_WORKDIR", WORK_DIRECTORY.into()),
        ("OAR_STDOUT", format!("{WORK_DIRECTORY}/{}", outputs.stdout)),
        ("OAR_STDERR", format!("{WORK_DIRECTORY}/{}", outputs.stderr)),
    ];
    if assignment.mesh {
        all.push(("OAR_MESH_RANK", assignment.rank.to_string()));
        all.push(("OAR_MESH_SIZE", assignment.nodes.len().to_string()));
        all.push(("OAR_MESH_MEMBERS", format!("{nodes}{MEMBERS_SUFFIX}")));
        all.push(("OAR_MESH_EVENTS", format!("{nodes}{EVENTS_SUFFIX}")));
        all.push(("OAR_MESH_MATRIX", format!("{nodes}{MATRIX_SUFFIX}")));
        all.extend(HOST_FILES.map(|variable| (variable, nodes.clone())));
        all.push(("HYDRA_LAUNCHER", "ssh".into()));
    }
    all.into_iter()
        .map(|(name, value)| {
            let value = if value.contains('\0') { String::new() } else { value };
            (name.to_owned(), value)
        })
        .collect()
}

/// OAR's way to write a duration: `0:5:0`.
fn oar_duration(seconds: u64) -> String {
    format!("{}:{}:{}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `OAR_NODEFILE`: one line with the host name for each core, in the order of the ranks.
pub fn node_file(assignment: &Assignment) -> String {
    node_file_by(assignment, 0..assignment.nodes.len())
}

/// The same in another order of the ranks.
pub fn node_file_by(assignment: &Assignment, order: impl IntoIterator<Item = usize>) -> String {
    let mut text = String::new();
    for node in order.into_iter().filter_map(|rank| assignment.nodes.get(rank)) {
        for _ in 0..node.cores {
            text.push_str(&node.name);
            text.push('\n');
        }
    }
    text
}

/// `OAR_RESOURCE_PROPERTIES_FILE`: a line for each core.
pub fn resource_properties_file(assignment: &Assignment) -> String {
    let mut text = String::new();
    for node in &assignment.nodes {
        for core in 0..node.cores {
            let _ = writeln!(
                text,
                " cpuset = '{core}' , deploy = 'NO' , desktop_computing = 'YES' , \
                 network_address = '{}' , type = 'default' ",
                node.name
            );
        }
    }
    text
}

/// `/etc/hosts` of a job without a network of its own, or before its netmap is known.
pub fn hosts_alone(hostname: &str) -> String {
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 {hostname}\n")
}

/// `/etc/hosts` of a member: every member under `node-K` (from 1) and its OAR host name.
pub fn hosts_of(netmap: &Netmap) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    for member in &netmap.members {
        let number = u32::from(member.index) + 1;
        let MeshAddresses { ipv4, ipv6 } = MeshAddresses::of(netmap.mesh, member.index);
        let _ = writeln!(text, "{ipv4} node-{number} {}", member.name);
        let _ = writeln!(text, "{ipv6} node-{number} {}", member.name);
    }
    text
}

/// A member's addresses in its mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshAddresses {
    /// In 10.128.0.0/16.
    pub ipv4: std::net::Ipv4Addr,
    /// In the mesh's /64.
    pub ipv6: std::net::Ipv6Addr,
}

impl MeshAddresses {
    /// The addresses of the member with that index.
    pub fn of(mesh: MeshId, index: u16) -> Self {
        Self { ipv4: mesh.ipv4(index), ipv6: mesh.ipv6(index) }
    }
}

/// A host name that is safe in a hosts file and as the sandbox's own name (RFC 1123's letters).
pub fn is_host_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
        && !name.starts_with(['-', '.'])
}

/// `/etc/passwd` of the sandbox.
pub fn passwd() -> String {
    format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\n\
         {USER}:x:1000:1000:job:{WORK_DIRECTORY}:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
}

/// `/etc/group` of the sandbox.
pub fn group() -> String {
    format!("root:x:0:\n{USER}:x:1000:\nnogroup:x:65534:\n")
}

/// `/etc/nsswitch.conf` of the sandbox: files alone. There is no name server to wait for.
pub fn name_service() -> &'static str {
    "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\nprotocols: files\n"
}

/// What programs that list the network devices read in `/sys/class/net`, of the job's own two: paths below that
/// folder and their texts. The machine's `/sys` would show the volunteer's devices, whatever namespace reads it.
pub fn network_devices(mesh_mtu: u16) -> Vec<(String, String)> {
    // The types are the kernel's ARPHRD_LOOPBACK and ARPHRD_NONE.
    let devices = [("lo", u32::from(u16::MAX) + 1, 772), ("mesh0", u32::from(mesh_mtu), 65534)];
    let texts = |(name, mtu, kind): (&str, u32, u32)| {
        let file = |file: &str, text: String| (format!("{name}/{file}"), text + "\n");
        [
            file("mtu", mtu.to_string()),
            file("type", kind.to_string()),
            file("operstate", "unknown".into()),
        ]
    };
    devices.into_iter().flat_map(texts).collect()
}

#[cfg(test)]
mod tests;
