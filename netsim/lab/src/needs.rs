//! What a scenario needs of this machine, tried before it costs a run.

use std::collections::BTreeSet;

use anyhow::bail;
use netsim_scenario::Resolved;
use netsim_scenario::resolved::{JobFile, job_file};
use netsim_sim::topology::LinkSpec;

use crate::doctor::{self, Finding};
use crate::world::{Programs, proxies};

/// What the doctor calls the device that tunnels and user-space links need.
const TUN: &str = "/dev/net/tun";
/// What every run needs, as the doctor calls it.
const ALWAYS: [&str; 4] = ["user, mount, process and network namespaces", "nft", "ip", "bwrap"];

/// Tries what a run of that scenario needs. An error says what is missing and what to do about it.
///
/// # Safety
///
/// The process must have a single thread: the doctor forks.
pub unsafe fn check(scenario: &Resolved) -> anyhow::Result<()> {
    let is_needed = |what: &str| ALWAYS.contains(&what) || (what == TUN && wants_tun(scenario));
    // SAFETY: by this function's contract.
    let findings = unsafe { doctor::examine() };
    if let Some(missing) = sentence(&findings, is_needed) {
        bail!("this machine lacks what the scenario needs:{missing}");
    }
    if let Some(absent) = absent_program(scenario, &Programs::beside_this()?) {
        bail!(absent);
    }
    if wants_proxy(scenario) { proxies::installed().map(drop) } else { Ok(()) }
}

/// A program that jobs name as one of this project's, and that does not lie beside this one.
pub fn absent_program(scenario: &Resolved, programs: &Programs) -> Option<String> {
    let named = scenario.jobs.iter().flat_map(|job| &job.files);
    let bare: BTreeSet<&str> = named
        .filter_map(|file| match job_file(file) {
            JobFile::Program(name) => Some(name),
            JobFile::Companion => None,
        })
        .collect();
    let absent = bare.into_iter().find(|name| !programs.path(name).is_file())?;
    Some(format!(
        "there is no program `{absent}` beside netsim: build it, or write `./{absent}` for a file beside \
         the scenario"
    ))
}

fn sentence(findings: &[Finding], is_needed: impl Fn(&str) -> bool) -> Option<String> {
    let needed = findings.iter().filter(|finding| is_needed(finding.what));
    let missing = needed.filter_map(|f| Some(format!("\n  {}: {}", f.what, f.mend.as_ref()?)));
    let missing: String = missing.collect();
    (!missing.is_empty()).then_some(missing)
}

/// Whether jobs have networks of their own, or links are more than cables.
fn wants_tun(scenario: &Resolved) -> bool {
    let is_mesh = |kind: &String| matches!(&**kind, "mesh" | "spmd") || kind.starts_with("mesh=");
    let perfect = LinkSpec::default();
    let topology = &scenario.topology;
    scenario.jobs.iter().any(|job| job.types.iter().any(is_mesh))
        || topology.routers.iter().any(|router| router.uplink != perfect)
        || topology.hosts.iter().any(|host| host.link != perfect)
}

/// Whether some have no other way out.
fn wants_proxy(scenario: &Resolved) -> bool {
    scenario.topology.routers.iter().any(|router| proxies::proxy_of(router).is_some())
}

#[cfg(test)]
mod tests {
    use netsim_scenario::ScenarioFile;

    use super::*;

    #[test]
    fn only_what_is_needed_and_missing_is_said() {
        let finding = |what, mend: Option<&str>| Finding { what, mend: mend.map(str::to_owned) };
        let findings = [
            finding("nft", None),
            finding("ip", Some("install it")),
            finding(TUN, Some("load it")),
        ];

        let said = sentence(&findings, |what| what != TUN);

        assert_eq!(said.as_deref(), Some("\n  ip: install it"));
        assert_eq!(sentence(&findings, |what| what == "nft"), None);
    }

    fn resolved(volunteers: &str, job: &str) -> Resolved {
        let text = format!("[[volunteers]]\n{volunteers}\n[[job]]\ncommand = \"true\"\n{job}");
        let file = ScenarioFile::parse(std::path::Path::new("test.toml"), text).unwrap();
        file.resolve(None).unwrap()
    }

    #[test]
    fn a_proxy_is_for_those_who_have_nothing_else() {
        assert!(!wants_proxy(&resolved("behind = \"udp-blocked\"", "")));
        assert!(wants_proxy(&resolved("behind = \"proxy-only\"", "")));
    }

    #[test]
    fn a_tunnel_is_for_meshes_and_for_links_that_are_more_than_cables() {
        let wants = |volunteers: &str, job: &str| wants_tun(&resolved(volunteers, job));
        assert!(!wants("behind = \"home\"", ""));
        assert!(wants("behind = \"home\"", "types = [\"mesh\"]"));
        assert!(wants("behind = \"home\"\nlink = \"adsl\"", ""));
    }
}
