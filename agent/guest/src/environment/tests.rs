use coordinator_api::agent::AssignedNode;
use coordinator_api::job::JobState;
use overlay_core::ids::{NodeId, WireGuardKey};
use overlay_core::netmap::Member;

use super::*;

fn job() -> Job {
    Job {
        id: 15,
        name: Some("pi".into()),
        state: JobState::Running,
        owner: "alice".into(),
        project: "default".into(),
        queue: "default".into(),
        kind: "PASSIVE".into(),
        types: vec!["mesh".into()],
        command: "./run".into(),
        initial_request: String::new(),
        launching_directory: String::new(),
        stdout_file: "OAR.pi.15.stdout".into(),
        stderr_file: "OAR.pi.15.stderr".into(),
        properties: String::new(),
        wanted_resources: String::new(),
        walltime: Some(3725),
        submission_time: 0,
        scheduled_start: None,
        start_time: 0,
        stop_time: 0,
        exit_code: None,
        message: String::new(),
        reservation: "None".into(),
        array_id: 14,
        array_index: Some(2),
        dependencies: Vec::new(),
        resubmit_job_id: None,
        cpuset_name: None,
        events: Vec::new(),
        links: Vec::new(),
        api_timestamp: 0,
        assignment: None,
    }
}

fn assignment(mesh: bool) -> Assignment {
    let node = |name: &str, cores| AssignedNode { name: name.into(), cores };
    Assignment {
        generation: 1,
        rank: 1,
        nodes: vec![node("vol-9", 2), node("vol-1", 1)],
        mesh,
        spmd: true,
        stagein: false,
        stagein_sha256: None,
        walltime: 3725,
    }
}

#[test]
fn the_variables_are_oars_and_no_others() {
    let text: Vec<String> = variables(&job(), &assignment(true))
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let want = [
        "HOME=/home/oar/work",
        "LANG=C.UTF-8",
        "LOGNAME=oar",
        "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/run/clouds-at-home",
        "SHELL=/bin/sh",
        "USER=oar",
        "OAR_JOB_ID=15",
        "OAR_JOBID=15",
        "OAR_ARRAY_ID=14",
        "OAR_ARRAYID=14",
        "OAR_ARRAY_INDEX=2",
        "OAR_ARRAYINDEX=2",
        "OAR_JOB_NAME=pi",
        "OAR_PROJECT_NAME=default",
        "OAR_JOB_WALLTIME=1:2:5",
        "OAR_JOB_WALLTIME_SECONDS=3725",
        "OAR_NODEFILE=/var/lib/oar/15",
        "OAR_NODE_FILE=/var/lib/oar/15",
        "OAR_FILE_NODES=/var/lib/oar/15",
        "OAR_RESOURCE_FILE=/var/lib/oar/15",
        "OAR_RESOURCE_PROPERTIES_FILE=/var/lib/oar/15_resources",
        "OAR_KEY=1",
        "OAR_USER=alice",
        "OAR_WORKDIR=/home/oar/work",
        "OAR_WORKING_DIRECTORY=/home/oar/work",
        "OAR_O_WORKDIR=/home/oar/work",
        "OAR_STDOUT=/home/oar/work/OAR.pi.15.stdout",
        "OAR_STDERR=/home/oar/work/OAR.pi.15.stderr",
        "OAR_MESH_RANK=1",
        "OAR_MESH_SIZE=2",
        "OAR_MESH_MEMBERS=/var/lib/oar/15_members",
        "OAR_MESH_EVENTS=/var/lib/oar/15_events",
        "OAR_MESH_MATRIX=/var/lib/oar/15_matrix",
        "OMPI_MCA_orte_default_hostfile=/var/lib/oar/15",
        "PRTE_MCA_prte_default_hostfile=/var/lib/oar/15",
        "HYDRA_HOST_FILE=/var/lib/oar/15",
        "HYDRA_LAUNCHER=ssh",
    ];
    assert_eq!(text, want);
}

#[test]
fn without_a_mesh_there_are_no_mesh_variables() {
    let all = variables(&job(), &assignment(false));
    assert!(!all.iter().any(|(name, _)| name.starts_with("OAR_MESH")));
}

#[test]
fn a_short_walltime_is_written_as_oar_does() {
    assert_eq!(oar_duration(300), "0:5:0");
}

#[test]
fn the_node_file_has_a_line_for_each_core_in_the_order_of_the_ranks() {
    assert_eq!(node_file(&assignment(true)), "vol-9\nvol-9\nvol-1\n");
    assert_eq!(node_file_by(&assignment(true), [1, 0, 7]), "vol-1\nvol-9\nvol-9\n");
    let properties = resource_properties_file(&assignment(true));
    assert_eq!(properties.lines().count(), 3);
    assert!(properties.starts_with(" cpuset = '0' , deploy = 'NO' , "));
    assert!(properties.contains("network_address = 'vol-1' "));
}

#[test]
fn members_are_known_by_number_and_by_name() {
    let mesh = MeshId { job: 15, generation: 1 };
    let member = |index, name: &str| Member {
        index,
        node: NodeId([index.to_be_bytes()[1]; 32]),
        name: name.into(),
        wireguard_key: WireGuardKey([1; 32]),
        host_key: None,
    };
    let members = vec![member(0, "vol-9"), member(1, "vol-1")];
    let netmap =
        Netmap { version: 1, mesh, era: 0, epoch: 1, members, pattern: None, signature: None };
    let six = [mesh.ipv6(0), mesh.ipv6(1)];
    let want = format!(
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\n\
         10.128.0.1 node-1 vol-9\n{} node-1 vol-9\n\
         10.128.0.2 node-2 vol-1\n{} node-2 vol-1\n",
        six[0], six[1]
    );
    assert_eq!(hosts_of(&netmap), want);
}

#[test]
fn output_names_leave_unusable_job_names_away() {
    let of = |name: Option<&str>| {
        OutputFiles::of(&Job { name: name.map(str::to_owned), ..job() }).stdout
    };
    assert_eq!(of(Some("pi")), "OAR.pi.15.stdout");
    assert_eq!(of(None), "OAR.15.stdout");
    assert_eq!(of(Some("../../x")), "OAR.15.stdout");
    assert_eq!(of(Some("")), "OAR.15.stdout");
}

#[test]
fn host_names_are_checked() {
    assert!(is_host_name("vol-1") && is_host_name("node.example"));
    for bad in ["", "-x", "a b", "a\nb", "a/b", &"x".repeat(64)] {
        assert!(!is_host_name(bad), "{bad:?}");
    }
}
