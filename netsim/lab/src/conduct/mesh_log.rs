//! What of a job's network is worth a line in the event log: what differs from the last look.

use std::collections::{BTreeMap, BTreeSet};

use coordinator_api::mesh::{JobMesh, MeshPair};
use netsim_report::{PathKind, Sample, What};

/// What was seen of one job's network so far.
#[derive(Debug, Default)]
pub(crate) struct MeshLog {
    generation: Option<u32>,
    is_open: bool,
    pairs: BTreeMap<(u16, u16), MeshPair>,
}

impl MeshLog {
    /// Takes a look; returns what has changed since the last one. `name` gives a node's machine.
    pub(crate) fn look(&mut self, mesh: &JobMesh, name: &dyn Fn(&str) -> String) -> Vec<What> {
        if self.generation != Some(mesh.generation) {
            *self = Self { generation: Some(mesh.generation), ..Self::default() };
        }
        let members: Vec<String> = mesh.members.iter().map(|m| name(&m.name)).collect();
        let rank = |rank: u16| {
            let member = mesh.members.iter().position(|m| m.rank == rank);
            member.map_or_else(|| format!("rank-{rank}"), |index| members[index].clone())
        };
        let mut news = Vec::new();
        for pair in &mesh.pairs {
            let before = self.pairs.insert((pair.from, pair.to), pair.clone());
            let (job, from, to) = (mesh.job, rank(pair.from), rank(pair.to));
            changes(before.as_ref(), pair, (job, from, to), &mut news);
        }
        if let Some(open) = mesh.open_ms
            && !std::mem::replace(&mut self.is_open, true)
        {
            let after_s = open.saturating_sub(mesh.assigned_ms) as f64 / 1e3;
            let (job, generation) = (mesh.job, mesh.generation);
            news.push(What::MeshOpen { job, generation, after_s, members });
        }
        news
    }
}

fn changes(
    before: Option<&MeshPair>,
    now: &MeshPair,
    (job, from, to): (u64, String, String),
    news: &mut Vec<What>,
) {
    let is_same_path = |b: &MeshPair| b.path == now.path && b.via == now.via;
    let rtt_ms = now.rtt_us.map(|us| us as f64 / 1e3);
    if !before.is_some_and(is_same_path) {
        news.push(What::Path {
            job,
            from: from.clone(),
            to: to.clone(),
            path: PathKind::of(&now.path),
            via: now.via.clone(),
            rtt_ms,
            explain: now.explain.clone(),
        });
    }
    let sent = now.sent_bytes;
    if before.is_none_or(|b| b.sent_bytes != sent) {
        let (from, to) = (from.clone(), to.clone());
        news.push(What::Sample(Sample::PairBytes { job, from, to, sent }));
    }
    if let Some(rtt_ms) = rtt_ms
        && before.is_none_or(|b| b.rtt_us != now.rtt_us)
    {
        news.push(What::Sample(Sample::Rtt { job, from, to, rtt_ms }));
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
    use coordinator_api::mesh::MeshMember;

    use super::*;

    fn pair(from: u16, path: &str, sent_bytes: u64) -> MeshPair {
        MeshPair {
            from,
            to: 1 - from,
            path: path.to_owned(),
            via: None,
            rtt_us: None,
            established_after_ms: None,
            sent_bytes,
            received_bytes: 0,
            explain: String::new(),
        }
    }

    fn mesh(generation: u32, pairs: Vec<MeshPair>) -> JobMesh {
        let member = |rank: u16| MeshMember {
            rank,
            name: format!("vol-{}", rank + 1),
            ipv4: "10.128.0.1".to_owned(),
        };
        JobMesh {
            job: 7,
            generation,
            assigned_ms: 1_000,
            open_ms: (generation > 1).then_some(3_500),
            pattern: "all".to_owned(),
            members: vec![member(0), member(1)],
            pairs,
        }
    }

    fn kinds(news: &[What]) -> Vec<&'static str> {
        let kind = |what: &What| {
            if matches!(what, What::Path { .. }) {
                "path"
            } else if matches!(what, What::MeshOpen { .. }) {
                "open"
            } else {
                "sample"
            }
        };
        news.iter().map(kind).collect()
    }

    #[test]
    fn only_what_differs_from_the_last_look_is_told() {
        let mut log = MeshLog::default();
        let mut look = |mesh: JobMesh| log.look(&mesh, &|name| name.replace("vol", "machine"));

        assert_eq!(kinds(&look(mesh(1, vec![pair(0, "relayed", 0)]))), ["path", "sample"]);
        assert_eq!(look(mesh(1, vec![pair(0, "relayed", 0)])), []);
        assert_eq!(kinds(&look(mesh(1, vec![pair(0, "relayed", 9)]))), ["sample"]);
        assert_eq!(kinds(&look(mesh(1, vec![pair(0, "direct", 9)]))), ["path"]);

        // Another launch begins afresh.
        let news = look(mesh(2, vec![pair(0, "direct", 9)]));
        assert_eq!(kinds(&news), ["path", "sample", "open"]);
        let members = ["machine-1", "machine-2"].map(str::to_owned).to_vec();
        assert_eq!(
            news[2],
            What::MeshOpen { job: 7, generation: 2, after_s: 2.5, members: members.clone() }
        );
        assert_eq!(look(mesh(2, vec![pair(0, "direct", 9)])), []);

        let mut pairs = NewPairs::default();
        assert_eq!(pairs.among(&members).len(), 1);
        assert_eq!(pairs.among(&members).len(), 0);
    }
}
