//! What the coordinator says of a job's network.

use std::collections::BTreeSet;

use coordinator_api::mesh::JobMesh;
use netsim_report::agents::Agents;
use netsim_report::{JobKey, What};

/// The launch whose mesh was seen open last.
#[derive(Debug, Default)]
pub(crate) struct Openings(Option<u32>);

impl Openings {
    /// Takes a look at a job's mesh; tells when it has been opened since the last one. `name` gives a
    /// node's machine.
    pub(crate) fn look(
        &mut self,
        job: &JobKey,
        mesh: &JobMesh,
        name: &dyn Fn(&str) -> String,
    ) -> Option<What> {
        let open = mesh.open_ms?;
        if self.0.replace(mesh.generation) == Some(mesh.generation) {
            return None;
        }
        Some(What::MeshOpen {
            job: job.clone(),
            generation: mesh.generation,
            after_s: open.saturating_sub(mesh.assigned_ms) as f64 / 1e3,
            members: mesh.members.iter().map(|member| name(&member.name)).collect(),
        })
    }
}

/// Gives each pair the path that it had when the first of its two ranks had come to its end, by the word
/// of the agent at the sender's end.
pub(crate) fn correct(
    job: &JobKey,
    mesh: &mut JobMesh,
    agents: &Agents,
    name: &dyn Fn(&str) -> String,
) {
    let mut last = agents.last_paths(job, mesh.generation);
    let machine = |rank: u16| {
        let member = mesh.members.iter().find(|member| member.rank == rank);
        member.map(|member| name(&member.name)).unwrap_or_default()
    };
    for pair in &mut mesh.pairs {
        if let Some(known) = last.remove(&(machine(pair.from), machine(pair.to))) {
            known.path.name().clone_into(&mut pair.path);
            pair.via = known.via;
            let is_direct = pair.path == "direct";
            pair.explain = if is_direct { String::new() } else { known.reason };
        }
    }
}

/// The pairs of members that were not there before, each once.
#[derive(Debug, Default)]
pub(crate) struct NewPairs(BTreeSet<(String, String)>);

impl NewPairs {
    /// Those among `members`.
    pub(crate) fn among(&mut self, members: &[String]) -> Vec<(String, String)> {
        let mut new = Vec::new();
        for (index, a) in members.iter().enumerate() {
            for b in &members[index + 1..] {
                let pair = if a < b { (a, b) } else { (b, a) };
                let pair = (pair.0.clone(), pair.1.clone());
                if self.0.insert(pair.clone()) {
                    new.push(pair);
                }
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use coordinator_api::mesh::{MeshMember, MeshPair};

    use super::*;

    fn mesh(generation: u32, open_ms: Option<u64>) -> JobMesh {
        let member = |rank: u16| MeshMember {
            rank,
            name: format!("host-{}", rank + 1),
            ipv4: "10.128.0.1".to_owned(),
        };
        let pair = |from: u16| MeshPair {
            from,
            to: 1 - from,
            path: "relayed".to_owned(),
            via: None,
            rtt_us: None,
            established_after_ms: None,
            sent_bytes: 0,
            received_bytes: 0,
            explain: "the direct path fell silent".to_owned(),
        };
        JobMesh {
            job: 7,
            generation,
            assigned_ms: 1_000,
            open_ms,
            pattern: "all".to_owned(),
            members: vec![member(0), member(1)],
            pairs: vec![pair(0), pair(1)],
        }
    }

    fn machine(host: &str) -> String {
        host.replace("host", "vol")
    }

    #[test]
    fn the_opening_of_a_mesh_is_told_once_for_each_launch() {
        let mut openings = Openings::default();
        let mut look = |mesh: JobMesh| openings.look(&7.into(), &mesh, &machine);
        let members = ["vol-1", "vol-2"].map(str::to_owned).to_vec();
        let opened = |generation, after_s| {
            Some(What::MeshOpen { job: 7.into(), generation, after_s, members: members.clone() })
        };

        assert_eq!(look(mesh(1, None)), None);
        assert_eq!(look(mesh(1, Some(3_500))), opened(1, 2.5));
        assert_eq!(look(mesh(1, Some(3_500))), None);
        assert_eq!(look(mesh(2, Some(5_000))), opened(2, 4.0));

        let mut pairs = NewPairs::default();
        assert_eq!(pairs.among(&members).len(), 1);
        assert_eq!(pairs.among(&members).len(), 0);
    }

    #[test]
    fn a_path_is_that_before_either_rank_had_ended() {
        let dir = tempfile::tempdir().unwrap();
        let line = |at: u32, rest: &str| {
            format!(r#"{{"mono_us":{at},"unix_us":1,"job":7,"generation":1,{rest}}}"#)
        };
        let path = |path: &str| {
            format!(
                r#""event":"path","peer":"host-2","path":"{path}","via":"x","reason":"because""#
            )
        };
        let ended = r#""event":"command-ended","rank":0,"how":"exited","exit":0"#;
        let one = [line(1, &path("relayed")), line(2, &path("direct")), line(9, &path("relayed"))];
        for (machine, lines) in [("vol-1", one.join("\n")), ("vol-2", line(5, ended))] {
            fs::create_dir(dir.path().join(machine)).unwrap();
            fs::write(dir.path().join(machine).join("agent.events"), lines).unwrap();
        }
        let agents = Agents::read(dir.path(), &BTreeMap::new()).unwrap();
        let machine_of = |host: &str| machine(host);
        let mut seen = mesh(1, None);

        correct(&7.into(), &mut seen, &agents, &machine_of);

        // The peer is named as the file names it: nobody has said whose host name that is.
        assert_eq!(seen.pairs[0].path, "relayed");
        let hello = line(0, r#""event":"agent-started","host":"host-2""#);
        let file = dir.path().join("vol-2/agent.events");
        fs::write(&file, format!("{hello}\n{}", line(5, ended))).unwrap();
        correct(
            &7.into(),
            &mut seen,
            &Agents::read(dir.path(), &BTreeMap::new()).unwrap(),
            &machine_of,
        );
        assert_eq!((seen.pairs[0].path.as_str(), seen.pairs[0].explain.as_str()), ("direct", ""));
        assert_eq!(seen.pairs[0].via.as_deref(), Some("x"));
        // Of whom nothing is known, what the coordinator says stands.
        assert_eq!(seen.pairs[1].path, "relayed");
    }
}
