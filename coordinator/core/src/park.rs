//! The resources of a scheduling pass, numbered, with their properties; and the choice among them.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;

use crate::bits::Bits;
use crate::cluster::Cluster;
use crate::expression::Expression;
use crate::ids::NodeNumber;
use crate::node::Node;
use crate::plan::PlannedShare;
use crate::resources::{Count, Group, Level, MAX_NODES, NODE, RESOURCE};

/// Properties that differ between the resources of one node.
const OF_RESOURCES: [&str; 4] = [RESOURCE, "id", "core", "cpuset"];

/// Properties that every resource has.
pub(crate) const BUILT_IN: [&str; 14] = [
    NODE,
    "host",
    RESOURCE,
    "id",
    "core",
    "cpuset",
    "cpu",
    "mem",
    "cores",
    "type",
    "desktop_computing",
    "besteffort",
    "deploy",
    "drain",
];

/// Resources, numbered from 0, node by node.
pub(crate) struct Park<'c> {
    machines: Vec<Machine<'c>>,
    /// The machine of each resource.
    owners: Vec<u32>,
    filters: BTreeMap<&'c Expression, Bits>,
}

struct Machine<'c> {
    node: &'c Node,
    /// The number of its first resource in this pass.
    first: usize,
    /// Most passes ask for none of them.
    texts: OnceCell<MachineTexts>,
}

struct MachineTexts {
    address: String,
    number: String,
    mem: String,
    cores: String,
}

/// Whether there is such a property, of any node.
pub(crate) fn is_known(cluster: &Cluster, property: &str) -> bool {
    BUILT_IN.contains(&property)
        || cluster.nodes().any(|node| node.properties.contains_key(property))
}

impl<'c> Park<'c> {
    pub(crate) fn new(nodes: impl Iterator<Item = &'c Node>) -> Self {
        let mut park = Self { machines: Vec::new(), owners: Vec::new(), filters: BTreeMap::new() };
        for node in nodes {
            let owner = u32::try_from(park.machines.len()).unwrap_or(u32::MAX);
            park.machines.push(Machine { node, first: park.owners.len(), texts: OnceCell::new() });
            park.owners.extend(std::iter::repeat_n(owner, usize::from(node.cores)));
        }
        park
    }

    /// How many resources there are.
    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Bits {
        let mut all = Bits::empty(self.len());
        (0..self.len()).for_each(|resource| all.insert(resource));
        all
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&'c Node, usize)> + '_ {
        self.machines.iter().map(|machine| (machine.node, machine.first))
    }

    /// The numbers of some cores of a node; none of a node that is not here.
    pub(crate) fn numbers(&self, node: NodeNumber, cores: &[u16]) -> Vec<usize> {
        let found = self.machines.binary_search_by_key(&node, |machine| machine.node.number);
        let Ok(index) = found else { return Vec::new() };
        let machine = &self.machines[index];
        let here = cores.iter().filter(|core| **core < machine.node.cores);
        here.map(|core| machine.first + usize::from(*core)).collect()
    }

    /// What a launch gets: the cores of each node, in the order in which the nodes were chosen.
    pub(crate) fn shares(&self, resources: &[usize]) -> Vec<PlannedShare> {
        let mut shares: Vec<PlannedShare> = Vec::new();
        let mut places: BTreeMap<NodeNumber, usize> = BTreeMap::new();
        for &resource in resources {
            let machine = self.owner(resource);
            let core = u16::try_from(resource - machine.first).unwrap_or(u16::MAX);
            let number = machine.node.number;
            let place = *places.entry(number).or_insert_with(|| {
                shares.push(PlannedShare { node: number, cores: Vec::new() });
                shares.len() - 1
            });
            shares[place].cores.push(core);
        }
        shares.iter_mut().for_each(|share| share.cores.sort_unstable());
        shares
    }

    fn owner(&self, resource: usize) -> &Machine<'c> {
        &self.machines[self.owners[resource] as usize]
    }

    /// The resources that a condition accepts.
    pub(crate) fn accepted(&mut self, condition: &'c Expression) -> &Bits {
        if !self.filters.contains_key(condition) {
            let by_resource =
                condition.properties().iter().any(|property| OF_RESOURCES.contains(property));
            let mut accepted = Bits::empty(self.len());
            for machine in &self.machines {
                let cores = machine.first..machine.first + usize::from(machine.node.cores);
                if by_resource {
                    let holds = |&resource: &usize| {
                        let own = self.texts(resource);
                        condition.holds(&|name| own.get(name).or_else(|| machine.property(name)))
                    };
                    cores.filter(holds).for_each(|resource| accepted.insert(resource));
                } else if condition.holds(&|name| machine.property(name)) {
                    cores.for_each(|resource| accepted.insert(resource));
                }
            }
            self.filters.insert(condition, accepted);
        }
        &self.filters[condition]
    }

    fn texts(&self, resource: usize) -> ResourceTexts {
        let machine = self.owner(resource);
        let core = resource - machine.first;
        ResourceTexts {
            id: (machine.node.first_resource + core as u64).to_string(),
            cpuset: core.to_string(),
        }
    }

    /// A level's value of a resource.
    fn value(&self, property: &str, resource: usize) -> Option<Cow<'_, str>> {
        let machine = self.owner(resource);
        if OF_RESOURCES.contains(&property) {
            let texts = self.texts(resource);
            return texts.get(property).map(|text| Cow::Owned(text.to_owned()));
        }
        machine.property(property).map(Cow::Borrowed)
    }

    /// Finds the resources of all groups among the free ones; nodes in `avoid` come last.
    ///
    /// `universes` are the resources that each group may have at all, whether they are free or not.
    pub(crate) fn choose(
        &self,
        groups: &[Group],
        universes: &[Bits],
        free: &Bits,
        avoid: &dyn Fn(NodeNumber) -> bool,
    ) -> Option<Vec<usize>> {
        let mut free = Cow::Borrowed(free);
        let mut chosen = Vec::new();
        for (group, universe) in groups.iter().zip(universes) {
            let found = self.choose_group(group, universe, &free, avoid)?;
            if groups.len() > 1 {
                let rest = free.to_mut();
                found.iter().for_each(|&resource| rest.remove(resource));
            }
            chosen.extend(found);
        }
        let nodes = {
            let mut owners: Vec<u32> = chosen.iter().map(|&it| self.owners[it]).collect();
            owners.sort_unstable();
            owners.dedup();
            owners.len()
        };
        (nodes <= MAX_NODES).then_some(chosen)
    }

    /// How many resources the groups need at least: the product of the levels' numbers; of whole nodes, what
    /// the smallest of them have.
    pub(crate) fn least(&self, groups: &[Group], universes: &[Bits]) -> usize {
        let of_group = |(group, universe): (&Group, &Bits)| match group.levels.as_slice() {
            [Level { property, count: Count::Exactly(nodes) }] if property == NODE => {
                let all = |machine: &Machine<'_>| {
                    universe
                        .count_in(machine.first..machine.first + usize::from(machine.node.cores))
                };
                let mut sizes: Vec<usize> =
                    self.machines.iter().map(all).filter(|size| *size > 0).collect();
                sizes.sort_unstable();
                sizes.into_iter().take(*nodes as usize).sum()
            }
            _ => usize::try_from(group.size()).unwrap_or(usize::MAX),
        };
        groups.iter().zip(universes).map(of_group).fold(0, usize::saturating_add)
    }

    fn choose_group(
        &self,
        group: &Group,
        universe: &Bits,
        free: &Bits,
        avoid: &dyn Fn(NodeNumber) -> bool,
    ) -> Option<Vec<usize>> {
        match group.levels.as_slice() {
            [Level { property, count: Count::Exactly(nodes) }, below @ ..] if property == NODE => {
                let cores = match below {
                    [] => None,
                    [Level { property, count: Count::Exactly(cores) }]
                        if OF_RESOURCES.contains(&&**property) =>
                    {
                        Some(*cores as usize)
                    }
                    _ => return self.descend_all(&group.levels, universe, free, avoid),
                };
                self.choose_nodes(*nodes as usize, cores, universe, free, avoid)
            }
            [Level { property, count: Count::Exactly(count) }]
                if OF_RESOURCES.contains(&&**property) =>
            {
                let wanted = *count as usize;
                let available = free.intersection(universe);
                if available.count() < wanted {
                    return None;
                }
                let (mut clean, mut blamed) = (Vec::new(), Vec::new());
                for resource in available.iter() {
                    if avoid(self.owner(resource).node.number) {
                        blamed.push(resource);
                    } else {
                        clean.push(resource);
                        if clean.len() == wanted {
                            return Some(clean);
                        }
                    }
                }
                clean.extend(blamed);
                clean.truncate(wanted);
                (clean.len() == wanted).then_some(clean)
            }
            levels => self.descend_all(levels, universe, free, avoid),
        }
    }

    /// Whole nodes, or some cores of each.
    fn choose_nodes(
        &self,
        nodes: usize,
        cores: Option<usize>,
        universe: &Bits,
        free: &Bits,
        avoid: &dyn Fn(NodeNumber) -> bool,
    ) -> Option<Vec<usize>> {
        let available = free.intersection(universe);
        let (mut clean, mut blamed) = (Vec::new(), Vec::new());
        let mut from = 0;
        while let Some(first) = available.next_from(from) {
            let machine = self.owner(first);
            let all = machine.first..machine.first + usize::from(machine.node.cores);
            from = all.end;
            let (here, wanted) = match cores {
                Some(cores) => (available.count_in(all.clone()), cores),
                // All that it may have of the node is to be free.
                None => (available.count_in(all.clone()), universe.count_in(all.clone())),
            };
            if here < wanted {
                continue;
            }
            if !avoid(machine.node.number) {
                clean.push((all, wanted));
                if clean.len() == nodes {
                    break;
                }
            } else if blamed.len() < nodes {
                blamed.push((all, wanted));
            }
        }
        if clean.len() + blamed.len() < nodes {
            return None;
        }
        let shares = clean.into_iter().chain(blamed).take(nodes);
        let cores = |(all, wanted): (std::ops::Range<usize>, usize)| {
            all.filter(|&it| available.contains(it)).take(wanted).collect::<Vec<_>>()
        };
        Some(shares.flat_map(cores).collect())
    }

    fn descend_all(
        &self,
        levels: &[Level],
        universe: &Bits,
        free: &Bits,
        avoid: &dyn Fn(NodeNumber) -> bool,
    ) -> Option<Vec<usize>> {
        let (blamed, clean): (Vec<usize>, Vec<usize>) =
            universe.iter().partition(|&resource| avoid(self.owner(resource).node.number));
        self.descend(levels, &[clean, blamed].concat(), free)
    }

    /// What the levels want of these resources. Below the last level all of them are meant.
    fn descend(&self, levels: &[Level], scope: &[usize], free: &Bits) -> Option<Vec<usize>> {
        let Some((level, below)) = levels.split_first() else {
            let all = !scope.is_empty() && scope.iter().all(|&resource| free.contains(resource));
            return all.then(|| scope.to_vec());
        };
        let mut order: Vec<Vec<usize>> = Vec::new();
        let mut places: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
        for &resource in scope {
            let Some(value) = self.value(&level.property, resource) else { continue };
            let place = *places.entry(value).or_insert_with(|| {
                order.push(Vec::new());
                order.len() - 1
            });
            order[place].push(resource);
        }
        let existing = order.len();
        let mut fitting = order.iter().filter_map(|scope| self.descend(below, scope, free));
        let found: Vec<Vec<usize>> = match level.count {
            Count::Exactly(count) => fitting.take(count as usize).collect(),
            Count::All | Count::Best | Count::BestHalf => fitting.by_ref().collect(),
        };
        let wanted = match level.count {
            Count::Exactly(count) => count as usize,
            Count::All => existing.max(1),
            Count::Best => found.len().max(1),
            Count::BestHalf => found.len().div_ceil(2).max(1),
        };
        (found.len() >= wanted).then(|| found.into_iter().take(wanted).flatten().collect())
    }
}

struct ResourceTexts {
    id: String,
    cpuset: String,
}

impl ResourceTexts {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            "cpuset" => Some(&self.cpuset),
            // Resource numbers are given out once: they tell the cores of all nodes apart.
            "id" | "core" | RESOURCE => Some(&self.id),
            _ => None,
        }
    }
}

impl Machine<'_> {
    fn texts(&self) -> &MachineTexts {
        self.texts.get_or_init(|| MachineTexts {
            address: self.node.number.to_string(),
            number: self.node.number.0.to_string(),
            mem: self.node.memory_mib.to_string(),
            cores: self.node.cores.to_string(),
        })
    }

    fn property(&self, name: &str) -> Option<&str> {
        match name {
            NODE | "host" => Some(&self.texts().address),
            // A volunteer's machine is not known in more detail: it counts as one processor.
            "cpu" => Some(&self.texts().number),
            "mem" => Some(&self.texts().mem),
            "cores" => Some(&self.texts().cores),
            "type" => Some("default"),
            "desktop_computing" | "besteffort" => Some("YES"),
            "deploy" | "drain" => Some("NO"),
            name => self.node.properties.get(name).map(String::as_str),
        }
    }
}
