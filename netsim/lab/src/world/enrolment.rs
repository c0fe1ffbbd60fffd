//! How volunteers become nodes: many at once, each with the name of its machine.
//!
//! A coordinator numbers its nodes in the order in which they enrol, and machines are named so before:
//! `vol-7` is to be the seventh. Where many enrol at once the order is anybody's, so each enrols
//! into a folder of its own, which then is given to the machine whose name it got.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use anyhow::{Context as _, anyhow, bail};

use super::{COMMAND, Volunteer, World};

/// How many enrol at once. Chosen: each waits for the network most of the time where its line is slow,
/// and beyond this 100 volunteers behind ADSL are not faster.
const AT_ONCE: usize = 16;

impl World {
    /// Enrols every volunteer that has not joined yet with its coordinator, with a fresh token each.
    pub fn enrol(&self) -> anyhow::Result<()> {
        for server in &self.servers {
            let own = self.volunteers.iter().filter(|v| v.coordinator == server.name());
            let new: Vec<&Volunteer> = own.filter(|v| !v.state_dir().exists()).collect();
            if new.is_empty() {
                continue;
            }
            let tokens = server.tokens(new.len())?;
            let work: Vec<(&Volunteer, &String)> = new.iter().copied().zip(&tokens).collect();
            // What a machine gives is said when it enrols: names are exchanged among equals only.
            for alike in work.chunk_by(|(a, _), (b, _)| a.cores == b.cores) {
                self.enrol_alike(alike)?;
            }
        }
        Ok(())
    }

    fn enrol_alike(&self, work: &[(&Volunteer, &String)]) -> anyhow::Result<()> {
        let agent = self.program("agent");
        let queue = Mutex::new(work.iter());
        let names: Mutex<Vec<(PathBuf, String)>> = Mutex::new(Vec::new());
        let enrol_some = || -> anyhow::Result<()> {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((volunteer, token)) = next else { return Ok(()) };
                let joined = join(volunteer, token, &agent)?;
                names.lock().unwrap_or_else(PoisonError::into_inner).push(joined);
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..AT_ONCE.min(work.len())).map(|_| scope.spawn(enrol_some)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("enrolling panicked"))?)
        })?;
        for (folder, name) in names.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let machine = work.iter().map(|(volunteer, _)| volunteer).find(|v| v.host == name);
            let Some(machine) = machine else {
                bail!(
                    "the coordinator named a node {name}, and there is no such machine left to \
                     enrol: its data directory was not empty"
                );
            };
            std::fs::rename(&folder, machine.state_dir())
                .with_context(|| format!("cannot give {} its state", machine.host))?;
        }
        Ok(())
    }
}

/// Runs `agent join` on a machine; returns the folder that was enrolled into, and the name it got.
fn join(volunteer: &Volunteer, token: &str, agent: &Path) -> anyhow::Result<(PathBuf, String)> {
    let folder = volunteer.place.dir.join("enrolled");
    let state = folder.display().to_string();
    let args = ["join", token, "--state", &state, "--cores", &volunteer.cores.to_string()];
    let finished = volunteer.place.expect("join", agent, args, COMMAND)?;
    let name = finished.stdout.lines().next_back().context("`agent join` printed no name")?;
    Ok((folder, name.trim().to_owned()))
}
