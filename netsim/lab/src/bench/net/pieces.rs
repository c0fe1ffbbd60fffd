//! What was measured, as it is kept between runs: a machine that others share is quiet for a minute at a
//! time, and the whole takes a quarter of an hour.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::Round;
use super::tunnels::Kind;
use crate::bench::figures::Figure;

/// The rounds of one or several runs.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pieces {
    pub(super) rounds: Vec<Round>,
    /// The limit of one core, round by round.
    pub(super) seals: Vec<f64>,
    /// Memory of one end of what was compared, after TCP, run by run.
    pub(super) memory_kib: BTreeMap<Kind, Vec<u64>>,
    /// Processor seconds per GB of a relay that does nothing but pass datagrams on.
    pub(super) relay_floors: Vec<f64>,
    /// What checks and counters add to the receive path's time, a share.
    pub(super) checks: Vec<f64>,
    /// The versions of what was compared.
    pub(super) versions: BTreeMap<String, String>,
    /// The figures of many nodes: the latest of each name.
    pub(super) crowd: Vec<Figure>,
}

impl Pieces {
    /// What earlier runs have left in the file; nothing if there is none.
    pub(super) fn read(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file.filter(|file| file.exists()) else { return Ok(Self::default()) };
        let read = || anyhow::Ok(serde_json::from_str(&fs::read_to_string(file)?)?);
        read().with_context(|| {
            format!("cannot read {}: remove it, and measure again", file.display())
        })
    }

    /// Leaves them for later runs.
    pub(super) fn write(&self, file: Option<&Path>) -> anyhow::Result<()> {
        let Some(file) = file else { return Ok(()) };
        let text = serde_json::to_string(self)?;
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Adds a later run.
    pub(super) fn add(&mut self, later: Self) {
        self.rounds.extend(later.rounds);
        self.seals.extend(later.seals);
        for (kind, kib) in later.memory_kib {
            self.memory_kib.entry(kind).or_default().extend(kib);
        }
        self.relay_floors.extend(later.relay_floors);
        self.checks.extend(later.checks);
        self.versions.extend(later.versions);
        for figure in later.crowd {
            match self.crowd.iter_mut().find(|known| known.name == figure.name) {
                Some(known) => *known = figure,
                None => self.crowd.push(figure),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Load, Measured};
    use super::*;

    fn piece(kind: Kind, bits_per_second: f64) -> Pieces {
        let measured = Measured { bits_per_second, ..Measured::default() };
        let round = BTreeMap::from([(kind, BTreeMap::from([(Load::Tcp, measured)]))]);
        Pieces { rounds: vec![round], seals: vec![1.0], ..Pieces::default() }
    }

    #[test]
    fn pieces_are_added_to_those_of_earlier_runs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pieces.json");
        for kind in [Kind::Ours, Kind::Bare] {
            let mut pieces = Pieces::read(Some(&file)).unwrap();
            pieces.add(piece(kind, 3.0));
            pieces.write(Some(&file)).unwrap();
        }
        let pieces = Pieces::read(Some(&file)).unwrap();
        let kinds: Vec<_> = pieces.rounds.iter().flat_map(BTreeMap::keys).copied().collect();
        assert_eq!((kinds, pieces.seals), (vec![Kind::Ours, Kind::Bare], vec![1.0, 1.0]));
        fs::write(&file, "{").unwrap();
        assert!(Pieces::read(Some(&file)).is_err());
    }
}
