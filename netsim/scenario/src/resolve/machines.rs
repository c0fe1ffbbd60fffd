//! The machines: coordinator, scientists, volunteers.

use netsim_sim::topology::{HostSpec, RouterSpec};

use super::churn::Comings;
use super::network::{Network, link_at, own_router, with_firewall, with_ip};
use super::{MOST_VOLUNTEERS, mix};
use crate::fault::{Fault, at};
use crate::file::{self, Coordinator, Nat, Scenario, Volunteers};
use crate::folder::Folder;
use crate::preset::Preset;
use crate::resolved::{Relay, Scientist, Volunteer};

/// The most scientists. Chosen.
const MOST_SCIENTISTS: usize = 16;

/// The most relays that run alone: as many as a coordinator takes beside its own.
const MOST_RELAYS: usize = 15;

/// What one volunteer is behind.
enum Behind {
    /// Routers of its own, its own first.
    Own(String, Option<Preset>, Vec<RouterSpec>),
    /// The named router.
    Named(String),
}

impl Network {
    pub(super) fn add_coordinator(&mut self, written: &Coordinator) -> Result<(), Fault> {
        let below = |fault: Fault| fault.below(at!["coordinator"]);
        let link = link_at("link", written.link.as_ref()).map_err(below)?;
        let region = self.region(written.region.as_ref(), None).map_err(below)?;
        // Everybody reaches it, also those who have IPv6 only.
        let dual = |router| RouterSpec { ipv6: true, ..router };
        let routers = Preset::None.kinds().into_iter().map(dual).collect();
        self.add_behind_own("coordinator", routers, None, region, &link);
        Ok(())
    }

    /// Each stands in the public network, as `relay-1`, `relay-2`, ...
    pub(super) fn add_relays(&mut self, written: &[file::Relay]) -> Result<Vec<Relay>, Fault> {
        let mut relays = Vec::new();
        for (i, group) in written.iter().enumerate() {
            let below = |fault: Fault| fault.below(at!["relays", i]);
            let link = link_at("link", group.link.as_ref()).map_err(below)?;
            let region = self.region(group.region.as_ref(), None).map_err(below)?;
            for _ in 0..group.count.number() {
                let host = format!("relay-{}", relays.len() + 1);
                self.add_behind_own(&host, Preset::None.kinds(), None, region.clone(), &link);
                relays.push(Relay { host });
            }
        }
        if relays.len() > MOST_RELAYS {
            let message = format!("{} relays: at most {MOST_RELAYS} are possible", relays.len());
            return Err(Fault::new(at!["relays"], message));
        }
        Ok(relays)
    }

    pub(super) fn add_scientists(&mut self, scenario: &Scenario) -> Result<Vec<Scientist>, Fault> {
        let many = &scenario.scientists;
        let written = match (&scenario.scientist, many.is_empty()) {
            (Some(_), false) => {
                let message = "write [scientist] or [[scientists]], not both";
                return Err(Fault::new(at!["scientists"], message));
            }
            (Some(one), true) => vec![one.clone()],
            (None, true) => vec![Default::default()],
            (None, false) => many.clone(),
        };
        if written.len() > MOST_SCIENTISTS {
            let message = format!("there can be {MOST_SCIENTISTS} scientists at most");
            return Err(Fault::new(at!["scientists"], message));
        }
        let mut scientists: Vec<Scientist> = Vec::new();
        for (i, one) in written.into_iter().enumerate() {
            let below = |fault: Fault| match many.is_empty() {
                true => fault.below(at!["scientist"]),
                false => fault.below(at!["scientists", i]),
            };
            if scientists.iter().any(|other| other.user == one.name) {
                let message = format!("there are two scientists `{}`", one.name);
                return Err(below(Fault::new(at!["name"], message)));
            }
            if !is_login(&one.name) {
                let message = format!(
                    "`{}` is no user's name: 1 to 32 letters, digits, dots, dashes and underscores, \
                     and not `oar`",
                    one.name.escape_default()
                );
                return Err(below(Fault::new(at!["name"], message)));
            }
            if one.behind == Preset::ProxyOnly {
                let message = "the laboratory asks the API from there without a proxy: choose \
                               another network";
                return Err(below(Fault::new(at!["behind"], message)));
            }
            let host = if i == 0 { "scientist".to_owned() } else { format!("scientist-{}", i + 1) };
            let link = link_at("link", one.link.as_ref()).map_err(below)?;
            let region = self.region(one.region.as_ref(), None).map_err(below)?;
            self.add_behind_own(&host, one.behind.kinds(), None, region, &link);
            scientists.push(Scientist { user: one.name, host, behind: one.behind });
        }
        Ok(scientists)
    }

    pub(super) fn add_volunteers(
        &mut self,
        scenario: &Scenario,
        seed: u64,
        folder: &Folder,
    ) -> Result<Vec<Volunteer>, Fault> {
        if scenario.volunteers.is_empty() {
            let message = "there are no volunteers: add a [[volunteers]] group";
            return Err(Fault::new([], message));
        }
        let sum: u64 = scenario.volunteers.iter().map(|g| u64::from(g.count.number())).sum();
        if sum > MOST_VOLUNTEERS as u64 {
            let message = format!("{sum} volunteers: at most {MOST_VOLUNTEERS} are possible");
            return Err(Fault::new(at!["volunteers"], message));
        }
        let mut volunteers = Vec::new();
        for (i, group) in scenario.volunteers.iter().enumerate() {
            self.add_group(i, group, seed, folder, &mut volunteers)
                .map_err(|fault| fault.below(at!["volunteers", i]))?;
        }
        Ok(volunteers)
    }

    fn add_group(
        &mut self,
        index: usize,
        group: &Volunteers,
        seed: u64,
        folder: &Folder,
        volunteers: &mut Vec<Volunteer>,
    ) -> Result<(), Fault> {
        let behind = self.behind(index, group, seed)?;
        let link = link_at("link", group.link.as_ref())?;
        let outside = group.via.as_ref().or(group.router.as_ref());
        let region = self.region(group.region.as_ref(), outside)?;
        let comings = group.churn.as_ref().map(|churn| Comings::new(churn, folder));
        let comings = comings.transpose().map_err(|fault| fault.below(at!["churn"]))?;
        for (i, behind) in behind.into_iter().enumerate() {
            let host = format!("vol-{}", volunteers.len() + 1);
            let cores = group.cores.number();
            let mut volunteer =
                Volunteer { host, cores, behind: String::new(), preset: None, group: index };
            let added = match behind {
                Behind::Own(label, preset, routers) => {
                    (volunteer.behind, volunteer.preset) = (label, preset);
                    let via = group.via.as_deref();
                    self.add_behind_own(&volunteer.host, routers, via, region.clone(), &link)
                }
                Behind::Named(router) => {
                    volunteer.behind = router.clone();
                    let (name, behind, link) = (volunteer.host.clone(), Some(router), link.clone());
                    self.add_host(HostSpec { name, behind, link, ..HostSpec::default() })
                }
            };
            if let Some(comings) = &comings {
                let churn = comings.of_machine(i);
                added.churn = Some(churn.map_err(|fault| fault.below(at!["churn"]))?);
            }
            volunteers.push(volunteer);
        }
        Ok(())
    }

    /// What each of a group is behind.
    fn behind(&self, index: usize, group: &Volunteers, seed: u64) -> Result<Vec<Behind>, Fault> {
        let given: Vec<&str> = [
            group.behind.map(|_| "behind"),
            group.mix.as_ref().map(|_| "mix"),
            group.nat.map(|_| "nat"),
            group.router.as_ref().map(|_| "router"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let count = group.count.number();
        let several =
            |make: &dyn Fn() -> Result<Behind, Fault>| (0..count).map(|_| make()).collect();
        if let (Some(router), [_]) = (&group.router, given.as_slice()) {
            self.check_named(router).map_err(|message| Fault::new(at!["router"], message))?;
            let own = [
                ("firewall", group.firewall.is_some()),
                ("ipv6", group.ipv6.is_some()),
                ("via", group.via.is_some()),
            ];
            if let Some((key, _)) = own.into_iter().find(|(_, is_given)| *is_given) {
                let message = format!(
                    "`{key}` is for routers of their own; these are behind `{router}`: say it there"
                );
                return Err(Fault::new(at![key], message));
            }
            return several(&|| Ok(Behind::Named(router.clone())));
        }
        if let Some(via) = &group.via {
            self.check_named(via).map_err(|message| Fault::new(at!["via"], message))?;
        }
        match (group.behind, &group.mix, &group.nat, given.as_slice()) {
            (Some(preset), _, _, [_]) => several(&|| Ok(own(group, preset))),
            (_, Some(mix), _, [_]) if mix.is_empty() => {
                Err(Fault::new(at!["mix"], "a mix of nothing: write { home = 6, symmetric = 1 }"))
            }
            (_, Some(mix), _, [_]) => {
                let presets = mix::share_out(mix, count, seed, index);
                Ok(presets.into_iter().map(|preset| own(group, preset)).collect())
            }
            (_, _, Some(nat), [_]) => several(&|| {
                let (firewall, ip) = (group.firewall.unwrap_or_default(), group.ipv6);
                let router = own_router(nat, firewall, ip.unwrap_or_default())?;
                let label = match nat {
                    Nat::Preset(preset) => serde_json::to_string(preset).unwrap_or_default(),
                    Nat::Axes(_) => "axes".to_owned(),
                };
                let label = label.trim_matches('"').to_owned();
                Ok(Behind::Own(label, None, vec![router]))
            }),
            (_, _, _, []) => {
                let message = "what are they behind? Write behind = \"home\", or `mix`, `nat` or \
                               `router`";
                Err(Fault::new([], message))
            }
            (_, _, _, [.., last]) => {
                let message = format!("{}: one of them only", given.join(" and "));
                let key = if *last == "router" { "router" } else { "behind" };
                Err(Fault::new(at![key], message))
            }
        }
    }
}

/// As the coordinator has it.
fn is_login(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=32).contains(&name.len()) && name.chars().all(allowed) && name != "oar"
}

/// A preset, with what the group says of firewalls and IPv6.
fn own(group: &Volunteers, preset: Preset) -> Behind {
    let adapt = |router| with_ip(with_firewall(router, group.firewall), group.ipv6);
    let is_plain = group.firewall.is_none() && group.ipv6.is_none();
    let routers: Vec<RouterSpec> = preset.kinds().into_iter().map(adapt).collect();
    Behind::Own(preset.name().to_owned(), is_plain.then_some(preset), routers)
}
