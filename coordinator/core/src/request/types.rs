//! Job types: what kind of job it is.

use overlay_core::Pattern;
use serde::{Deserialize, Serialize};

use super::{MAX_NAME, RequestRefusal, date};
use crate::ids::UnixMillis;

/// The most types of a submission. Chosen: several times those that exist.
pub(super) const MAX_TYPES: usize = 64;

/// The types that this server knows. Every node is a volunteer's: `desktop_computing` is always set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTypes {
    /// The nodes share a network.
    pub mesh: bool,
    /// Which pairs of that network are connected before the command starts: `mesh=ring` and the like.
    #[serde(default)]
    pub pattern: Pattern,
    /// The command runs on every node.
    pub spmd: bool,
    /// The job may be run again when it was interrupted.
    pub idempotent: bool,
    /// It takes what is left over, and makes room for others at once.
    #[serde(default)]
    pub besteffort: bool,
    /// It does not start before.
    #[serde(default)]
    pub postpone: Option<UnixMillis>,
    /// It ends in Error when it could not end before.
    #[serde(default)]
    pub deadline: Option<UnixMillis>,
    /// It ends in Error when it has not started by then.
    #[serde(default)]
    pub expire: Option<UnixMillis>,
}

impl JobTypes {
    /// OAR's names of the types that are set.
    pub fn names(self) -> Vec<&'static str> {
        let Self { mesh, pattern, spmd, idempotent, besteffort, postpone, deadline, expire } = self;
        let mesh_name = match pattern {
            Pattern::All => "mesh",
            Pattern::Ring => "mesh=ring",
            Pattern::Star => "mesh=star",
            Pattern::Tree => "mesh=tree",
            Pattern::Grid => "mesh=grid",
        };
        let named = [
            (mesh, mesh_name),
            (spmd, "spmd"),
            (idempotent, "idempotent"),
            (besteffort, "besteffort"),
            (postpone.is_some(), "postpone"),
            (deadline.is_some(), "deadline"),
            (expire.is_some(), "expire"),
        ];
        let set = named.into_iter().filter_map(|(set, name)| set.then_some(name));
        std::iter::once("desktop_computing").chain(set).collect()
    }
}

/// OAR's types that mean nothing on volunteers' machines.
const UNSUPPORTED_TYPES: [&str; 10] = [
    "container",
    "inner",
    "deploy",
    "cosystem",
    "placeholder",
    "allowed",
    "timesharing",
    "token",
    "noop",
    "state",
];

pub(super) fn parse_types(names: &[String]) -> Result<JobTypes, RequestRefusal> {
    if names.len() > MAX_TYPES {
        return Err(RequestRefusal::TooManyTypes(names.len()));
    }
    let mut types = JobTypes::default();
    let mut pattern: Option<(&str, Pattern)> = None;
    for name in names {
        match name.as_str() {
            "desktop_computing" => {}
            mesh if mesh == "mesh" || mesh.starts_with("mesh=") => {
                // The plain type means all pairs.
                let wanted = match mesh.strip_prefix("mesh=") {
                    Some(text) => {
                        text.parse().map_err(|_| RequestRefusal::UnknownPattern(shown(mesh)))?
                    }
                    None => Pattern::All,
                };
                if let Some((former, other)) = pattern.replace((mesh, wanted))
                    && other != wanted
                {
                    return Err(RequestRefusal::TwoPatterns(shown(former), shown(mesh)));
                }
                types.mesh = true;
                types.pattern = wanted;
            }
            "spmd" => types.spmd = true,
            "idempotent" => types.idempotent = true,
            "besteffort" => types.besteffort = true,
            other => {
                let dated = other.split_once('=').map(|(name, date)| (name.trim(), date));
                match dated {
                    Some(("postpone", text)) => types.postpone = Some(date(text)?),
                    Some(("deadline", text)) => types.deadline = Some(date(text)?),
                    Some(("expire", text)) => types.expire = Some(date(text)?),
                    _ => {}
                }
                if dated.is_some_and(|(name, _)| ["postpone", "deadline", "expire"].contains(&name))
                {
                    continue;
                }
                let known = other.split_once('=').map_or(other, |(name, _)| name);
                return Err(if UNSUPPORTED_TYPES.contains(&known) {
                    RequestRefusal::UnsupportedType(shown(other))
                } else {
                    RequestRefusal::UnknownType(shown(other))
                });
            }
        }
    }
    Ok(types)
}

/// As much of a bad type as a refusal repeats.
fn shown(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}
