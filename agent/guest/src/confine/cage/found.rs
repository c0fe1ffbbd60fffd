//! Where this process may make control groups.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Cage, Group, NAME, name_of};

/// The group that the agent moves itself to: a group of version 2 that limits others holds no processes.
const OWN: &str = "clouds-agent";

/// The controllers of version 2 that jobs are limited by; the last is a courtesy.
const WANTED: [&str; 4] = ["memory", "cpu", "pids", "io"];

/// From the making of a group to the first process in it pass milliseconds; a minute is long enough on any machine.
const YOUNG: Duration = Duration::from_secs(60);

/// The folders in which groups of jobs can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cages {
    memory: Option<Group>,
    cpu: Option<Group>,
    tasks: Option<Group>,
    freezer: Option<Group>,
}

impl Cages {
    /// Tries what this process may do. Moves it to a group below its own when that is what version 2 needs.
    pub fn find() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::among(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    fn among(own: &str, mounts: &str) -> Self {
        let v1 = |controller: &str| {
            let path = folder(own, mounts, Some(controller))?;
            may_make_groups(&path).then_some(Group { v2: false, path })
        };
        let v2 = folder(own, mounts, None).filter(|path| may_make_groups(path));
        let delegated = v2.as_deref().map(delegate).unwrap_or_default();
        let of = |controller: &str| {
            let path = v2.clone().filter(|_| delegated.iter().any(|had| had == controller));
            path.map(|path| Group { v2: true, path }).or_else(|| v1(controller))
        };
        Self {
            memory: of("memory"),
            cpu: of("cpu"),
            tasks: of("pids"),
            // Every group of version 2 but the root has this.
            freezer: v2.clone().map(|path| Group { v2: true, path }).or_else(|| v1("freezer")),
        }
    }

    /// The groups of the launch with that folder. They may not exist.
    pub fn of(&self, folder: &Path) -> Cage {
        let name = name_of(folder);
        let below = |group: &Option<Group>| {
            group.as_ref().map(|Group { v2, path }| Group { v2: *v2, path: path.join(&name) })
        };
        Cage {
            memory: below(&self.memory),
            cpu: below(&self.cpu),
            tasks: below(&self.tasks),
            freezer: below(&self.freezer),
        }
    }

    /// Removes groups of jobs in which nothing is left: of a shim that was killed, and whose folder was deleted.
    /// Best effort; what holds processes stays, and so does what is young: another agent may be about to use it.
    pub fn sweep(&self) {
        let places = [&self.memory, &self.cpu, &self.tasks, &self.freezer];
        let places: BTreeSet<_> = places.into_iter().flatten().map(|group| &group.path).collect();
        for item in places.into_iter().filter_map(|path| fs::read_dir(path).ok()).flatten() {
            let Some(group) = item.ok().filter(is_old_group).map(|item| item.path()) else {
                continue;
            };
            // The kernel refuses where processes are.
            if fs::remove_dir(&group).is_ok() {
                tracing::info!(group = %group.display(), "removed what a killed job has left");
            }
        }
    }

    /// What limits what, and what takes the place of the rest: a line each.
    pub fn told(&self) -> Vec<(&'static str, Result<String, String>)> {
        let line = |name, group: &Option<Group>, without: &str| {
            let told = match group {
                Some(Group { v2: true, .. }) => Ok("cgroup v2".to_owned()),
                Some(Group { v2: false, .. }) => Ok("cgroup v1".to_owned()),
                None => Err(without.to_owned()),
            };
            (name, told)
        };
        vec![
            line("limit of memory", &self.memory, "the address space of each process (RLIMIT_AS)"),
            line("limit of processors", &self.cpu, "nothing: jobs can slow each other down"),
            line(
                "limit of processes",
                &self.tasks,
                "RLIMIT_NPROC, which does not hold for an agent of root's",
            ),
            line("pause", &self.freezer, "SIGSTOP, which programs notice"),
        ]
    }
}

/// The folder of this process's group, in the hierarchy of a controller of version 1 or in that of version 2.
fn folder(own: &str, mounts: &str, controller: Option<&str>) -> Option<PathBuf> {
    let group = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let is_it = match controller {
            None => names.is_empty(),
            Some(wanted) => names.split(',').any(|name| name == wanted),
        };
        is_it.then_some(path)
    })?;
    let (root, mounted) = mounts.lines().find_map(|line| {
        let (mount, rest) = line.split_once(" - ")?;
        let mut kind = rest.split(' ');
        let is_it = match controller {
            None => kind.next()? == "cgroup2",
            Some(wanted) => {
                kind.next()? == "cgroup" && kind.nth(1)?.split(',').any(|option| option == wanted)
            }
        };
        let mut fields = mount.split(' ').skip(3);
        is_it.then_some((fields.next()?, fields.next()?))
    })?;
    // In a container a part of the hierarchy is mounted.
    let below = Path::new(group).strip_prefix(root).unwrap_or(Path::new(group));
    let folder = Path::new(mounted).join(below.strip_prefix("/").unwrap_or(below));
    folder.is_dir().then_some(folder)
}

/// A job's group that was made some time ago.
fn is_old_group(item: &DirEntry) -> bool {
    let is_ours = item.file_name().to_str().is_some_and(|name| name.starts_with(NAME));
    let made = item.metadata().and_then(|found| found.modified());
    is_ours && made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > YOUNG))
}

fn may_make_groups(folder: &Path) -> bool {
    let probe = folder.join(format!("clouds-probe-{}", std::process::id()));
    fs::create_dir(&probe).is_ok() && fs::remove_dir(&probe).is_ok()
}

/// Lets the groups below `folder` have the controllers; which of them they have then.
fn delegate(folder: &Path) -> Vec<String> {
    let list = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    let there = list("cgroup.controllers");
    let missing = |given: Vec<String>| -> Vec<String> {
        let is_missing = |wanted: &&&str| {
            there.iter().any(|it| it == **wanted) && !given.iter().any(|it| it == **wanted)
        };
        WANTED.iter().filter(is_missing).map(|wanted| format!("+{wanted}")).collect()
    };
    let enable =
        |missing: &[String]| fs::write(folder.join("cgroup.subtree_control"), missing.join(" "));
    let lacking = missing(list("cgroup.subtree_control"));
    if !lacking.is_empty()
        && enable(&lacking).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
    {
        let own = folder.join(OWN);
        let moved = fs::create_dir(&own)
            .or_else(|error| if own.is_dir() { Ok(()) } else { Err(error) })
            .and_then(|()| fs::write(own.join("cgroup.procs"), "0"));
        if moved.is_ok() && enable(&lacking).is_err() {
            // Others are in the group as well: it is not this agent's to divide.
            let _ = fs::write(folder.join("cgroup.procs"), "0");
            let _ = fs::remove_dir(&own);
        }
    }
    list("cgroup.subtree_control")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn folders_are_found_in_both_versions_and_in_containers() {
        let mounted = tempfile::tempdir().unwrap();
        let base = mounted.path();
        fs::create_dir_all(base.join("a/b")).unwrap();
        let mounts = format!(
            "30 20 0:26 / {0} rw - cgroup2 cgroup2 rw,nsdelegate\n\
             31 20 0:27 /docker/x {0} rw - cgroup cgroup rw,cpu,cpuacct\n",
            base.display()
        );
        let own = "5:cpu,cpuacct:/docker/x/a\n0::/a/b\n";
        assert_eq!(folder(own, &mounts, None), Some(base.join("a/b")));
        assert_eq!(folder(own, &mounts, Some("cpu")), Some(base.join("a")));
        assert_eq!(folder(own, &mounts, Some("memory")), None);
        // The group is not below what is mounted here.
        assert_eq!(folder("0::/elsewhere\n", &mounts, None), None);
    }

    #[test]
    fn old_empty_groups_are_swept_and_others_stay() {
        let mounted = tempfile::tempdir().unwrap();
        let base = mounted.path();
        let make = |name: &str, age: Duration| {
            let path = base.join(name);
            fs::create_dir_all(&path).unwrap();
            fs::File::open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        };
        let old = 2 * YOUNG;
        // As little as a group with processes can this one be removed.
        fs::create_dir_all(base.join("clouds-job-used/child")).unwrap();
        make("clouds-job-used", old);
        make("clouds-job-left", old);
        make("clouds-job-new", Duration::ZERO);
        make("system.slice", old);
        let place = Some(Group { v2: true, path: base.to_owned() });
        let cages =
            Cages { memory: place.clone(), cpu: None, tasks: place.clone(), freezer: place };
        cages.sweep();
        let mut left: Vec<_> =
            fs::read_dir(base).unwrap().map(|item| item.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["clouds-job-new", "clouds-job-used", "system.slice"]);
    }

    #[test]
    fn without_groups_nothing_is_found_and_all_of_it_said() {
        let none = Cages::among("", "");
        assert_eq!(none.of(Path::new("/jobs/7.1")), Cage::default());
        assert!(none.told().iter().all(|(_, told)| told.is_err()));
    }
}
