//! What a user asks for, checked: the admission rules.

use std::fmt;

use coordinator_api::job::SubmitJob;
use overlay_core::Pattern;
use serde::{Deserialize, Serialize};

use crate::expression::Expression;
use crate::ids::{JobId, UnixMillis};
use crate::reader::Unreadable;
use crate::resources::{ResourceRefusal, Resources, walltime_text};

/// The longest command line, bytes. Chosen: half of Linux's limit for one argument (128 KiB).
pub(crate) const MAX_COMMAND: usize = 64 * 1024;

/// The longest name of a job or a project, bytes: they become parts of file names (limit 255).
const MAX_NAME: usize = 100;

/// An admitted submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Given to `sh -c`.
    pub command: String,
    /// The job's name.
    pub name: Option<String>,
    /// The project that is accounted for.
    pub project: Option<String>,
    /// Resources and walltime.
    pub resources: Resources,
    /// The condition on all of them: `-p`.
    #[serde(default)]
    pub properties: Option<Expression>,
    /// The queue.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// When it starts, for an advance reservation.
    #[serde(default)]
    pub reservation: Option<UnixMillis>,
    /// Jobs that must end first.
    #[serde(default)]
    pub dependencies: Vec<JobId>,
    /// It waits until its user lets it go.
    #[serde(default)]
    pub hold: bool,
    /// What kind of job it is.
    pub types: JobTypes,
    /// SHA-256 of the stage-in archive, 64 lower-case hexadecimal digits.
    pub stagein_sha256: Option<String>,
    /// The oarsub command line that asks for the same, but for the stage-in: everybody may read this line,
    /// and whoever knows the hash of an archive may use it.
    pub initial_request: String,
}

/// The most types of a submission. Chosen: several times those that exist.
const MAX_TYPES: usize = 64;

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

/// Why a submission is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefusal {
    /// No command.
    #[error("A job must have a script, a command (script_path) or must be a reservation!")]
    NoCommand,
    /// Too long, or with a NUL.
    #[error("the command is longer than 65536 bytes or holds a NUL")]
    Command,
    /// A name or project that cannot be part of a file name.
    #[error(
        "cannot use {0:?} as a name: at most 100 letters, digits or any of . _ + - @ and space"
    )]
    Name(String),
    /// Resources.
    #[error(transparent)]
    Resources(#[from] ResourceRefusal),
    /// A condition that cannot be read.
    #[error("cannot read the properties: {0}")]
    Properties(Unreadable),
    /// A queue that is not there.
    #[error("queue {0} does not exist: there are default and besteffort")]
    Queue(String),
    /// Not a date.
    #[error("cannot recognize the date {0:?}: write YYYY-MM-DD HH:MM:SS, in UTC")]
    Date(String),
    /// Not the number of a job.
    #[error("cannot recognize the job {0:?} that this one depends on: write its number")]
    Dependency(String),
    /// A reservation of what takes only what is left over.
    #[error("a best-effort job cannot be a reservation")]
    BestEffortReservation,
    /// More types than there are.
    #[error("{0} job types given: give each one once")]
    TooManyTypes(usize),
    /// A type that OAR has not either.
    #[error(
        "[ADMISSION RULE] Error: unknown job type: {0} (known: mesh, mesh=PATTERN, spmd, idempotent, besteffort, postpone=, deadline=, expire=, desktop_computing)"
    )]
    UnknownType(String),
    /// `mesh=` with a name that is no pattern.
    #[error(
        "[ADMISSION RULE] Error: unknown mesh pattern: {0} (known: mesh=all, mesh=ring, mesh=star, mesh=tree, mesh=grid)"
    )]
    UnknownPattern(String),
    /// Two patterns for the one network.
    #[error("[ADMISSION RULE] Error: {0} and {1}: a job has one network, give it one pattern")]
    TwoPatterns(String, String),
    /// A type of OAR that this server does not serve.
    #[error("[ADMISSION RULE] Error: the job type {0} is not supported on volunteers' machines")]
    UnsupportedType(String),
    /// Not a hash.
    #[error("cannot recognize the stage-in {0:?}: write sha256: and 64 hexadecimal digits")]
    Stagein(String),
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

impl Request {
    /// Checks a submission. Whether its stage-in archive is there is for the caller to see.
    pub fn admit(submission: &SubmitJob) -> Result<Self, RequestRefusal> {
        let command = submission.command.trim();
        if command.is_empty() && submission.reservation.as_deref().and_then(filled).is_none() {
            return Err(RequestRefusal::NoCommand);
        }
        let (mut types, reservation) =
            (parse_types(&submission.types.0)?, reservation(submission)?);
        let queue = queue(submission, &mut types)?;
        if types.besteffort && reservation.is_some() {
            return Err(RequestRefusal::BestEffortReservation);
        }
        let properties = submission.property.as_deref().and_then(filled).map(Expression::parse);
        if command.len() > MAX_COMMAND || command.contains('\0') {
            return Err(RequestRefusal::Command);
        }
        Ok(Self {
            command: command.to_owned(),
            name: submission.name.as_deref().and_then(filled).map(check_name).transpose()?,
            project: submission.project.as_deref().and_then(filled).map(check_name).transpose()?,
            resources: Resources::parse(&submission.resource.0)?,
            properties: properties.transpose().map_err(RequestRefusal::Properties)?,
            queue,
            reservation,
            dependencies: submission
                .anterior
                .0
                .iter()
                .map(|id| dependency(id))
                .collect::<Result<_, _>>()?,
            hold: submission.hold.is_some_and(|hold| hold != 0),
            types,
            stagein_sha256: submission.stagein.as_deref().map(parse_stagein).transpose()?,
            initial_request: initial_request(submission),
        })
    }

    /// The admission rules' remarks, as oarsub prints them.
    pub fn remarks(&self, submission: &SubmitJob) -> String {
        let mut remarks = String::new();
        if !submission.resource.0.iter().any(|text| text.contains("walltime=")) {
            let walltime = self.resources.first().walltime_s;
            remarks += &format!("[ADMISSION RULE] Set default walltime to {walltime}.\n");
        }
        if self.types.besteffort {
            remarks += "[ADMISSION RULE] Automatically redirect in the besteffort queue\n";
            remarks +=
                "[ADMISSION RULE] Automatically add the besteffort constraint on the resources\n";
        }
        remarks += "[ADMISSION RULE] Added automatically desktop_computing resource constraints\n";
        remarks += "[ADMISSION RULE] Modify resource description with type constraints\n";
        if submission.array.is_some_and(|jobs| jobs > 1) || submission.param_file.is_some() {
            remarks += "Simple array job submission is used\n";
        }
        remarks
    }

    /// The project; OAR's name for none is `default`.
    pub fn project(&self) -> &str {
        self.project.as_deref().unwrap_or("default")
    }
}

/// OAR's summary of a request, as in `R=2,W=0:5:0,J=B,N=life,T=mesh|spmd`.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.resources.first();
        let kind = if self.reservation.is_some() { "R" } else { "B" };
        write!(f, "R={},W={},J={kind}", first.size(), walltime_text(first.walltime_s))?;
        if let Some(name) = &self.name {
            write!(f, ",N={name}")?;
        }
        if let Some(project) = &self.project {
            write!(f, ",P={project}")?;
        }
        write!(f, ",T={}", self.types.names().join("|"))
    }
}

/// OAR drops an option whose value is empty.
fn filled(text: &str) -> Option<&str> {
    let text = text.trim();
    if text.is_empty() { None } else { Some(text) }
}

fn check_name(name: &str) -> Result<String, RequestRefusal> {
    let allowed = |c: char| c.is_alphanumeric() || "._+-@ ".contains(c);
    if name.len() <= MAX_NAME && name.chars().all(allowed) && !name.starts_with('.') {
        Ok(name.to_owned())
    } else {
        Err(RequestRefusal::Name(name.chars().take(MAX_NAME).collect()))
    }
}

fn parse_types(names: &[String]) -> Result<JobTypes, RequestRefusal> {
    if names.len() > MAX_TYPES {
        return Err(RequestRefusal::TooManyTypes(names.len()));
    }
    let mut types = JobTypes::default();
    let mut pattern: Option<&str> = None;
    for name in names {
        match name.as_str() {
            "desktop_computing" => {}
            "mesh" => types.mesh = true,
            mesh if mesh.starts_with("mesh=") => {
                let former = pattern.replace(mesh).filter(|former| *former != mesh);
                if let Some(former) = former {
                    return Err(RequestRefusal::TwoPatterns(shown(former), shown(mesh)));
                }
                types.mesh = true;
                types.pattern = mesh["mesh=".len()..]
                    .parse()
                    .map_err(|_| RequestRefusal::UnknownPattern(shown(mesh)))?;
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

fn default_queue() -> String {
    "default".to_owned()
}

/// The queue besteffort and the type besteffort imply each other: OAR's shipped admission rules.
fn queue(submission: &SubmitJob, types: &mut JobTypes) -> Result<String, RequestRefusal> {
    match submission.queue.as_deref().and_then(filled) {
        Some("besteffort") => types.besteffort = true,
        None | Some("default") => {}
        Some(other) => return Err(RequestRefusal::Queue(other.chars().take(MAX_NAME).collect())),
    }
    Ok(if types.besteffort { "besteffort".to_owned() } else { default_queue() })
}

fn reservation(submission: &SubmitJob) -> Result<Option<UnixMillis>, RequestRefusal> {
    submission.reservation.as_deref().and_then(filled).map(date).transpose()
}

fn date(text: &str) -> Result<UnixMillis, RequestRefusal> {
    crate::date::parse(text)
        .ok_or_else(|| RequestRefusal::Date(text.chars().take(MAX_NAME).collect()))
}

fn dependency(text: &str) -> Result<JobId, RequestRefusal> {
    let refusal = || RequestRefusal::Dependency(text.chars().take(MAX_NAME).collect());
    text.trim().parse().map(JobId).map_err(|_| refusal())
}

fn parse_stagein(text: &str) -> Result<String, RequestRefusal> {
    let refusal = || RequestRefusal::Stagein(text.chars().take(MAX_NAME).collect());
    let hash = text.strip_prefix("sha256:").ok_or_else(refusal)?;
    if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(hash.to_ascii_lowercase())
    } else {
        Err(refusal())
    }
}

fn initial_request(submission: &SubmitJob) -> String {
    let mut line = String::from("oarsub");
    let options = [
        ("name", &submission.name),
        ("project", &submission.project),
        ("queue", &submission.queue),
    ];
    for (option, value) in options {
        if let Some(value) = value.as_deref().and_then(filled) {
            line += &format!(" --{option}={value}");
        }
    }
    for resource in &submission.resource.0 {
        line += &format!(" --resource={resource}");
    }
    if let Some(properties) = submission.property.as_deref().and_then(filled) {
        line += &format!(" --property={properties}");
    }
    if let Some(date) = submission.reservation.as_deref().and_then(filled) {
        line += &format!(" --reservation={date}");
    }
    if submission.hold.is_some_and(|hold| hold != 0) {
        line += " --hold";
    }
    for name in &submission.types.0 {
        line += &format!(" --type={name}");
    }
    if let Some(array) = submission.array {
        line += &format!(" --array={array}");
    }
    if submission.param_file.is_some() {
        line += " --array-param-file=-";
    }
    line + " " + submission.command.trim()
}

#[cfg(test)]
mod tests {
    use coordinator_api::job::OneOrMany;

    use super::*;

    fn submission(types: &[&str]) -> SubmitJob {
        SubmitJob {
            command: "nqueens 15".to_owned(),
            types: OneOrMany(types.iter().map(|&name| name.to_owned()).collect()),
            ..SubmitJob::default()
        }
    }

    #[test]
    fn every_job_is_a_desktop_computing_job() {
        let request = Request::admit(&submission(&["mesh", "spmd"])).unwrap();
        assert_eq!(request.types.names(), ["desktop_computing", "mesh", "spmd"]);
        assert_eq!(request.to_string(), "R=1,W=2:0:0,J=B,T=desktop_computing|mesh|spmd");
    }

    #[test]
    fn unknown_types_are_refused_with_oars_words() {
        let refusal = Request::admit(&submission(&["nosuchtype"])).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "[ADMISSION RULE] Error: unknown job type: nosuchtype (known: mesh, mesh=PATTERN, spmd, idempotent, besteffort, postpone=, deadline=, expire=, desktop_computing)"
        );
        let refusal = Request::admit(&submission(&["inner=5"])).unwrap_err();
        assert_eq!(refusal, RequestRefusal::UnsupportedType("inner=5".to_owned()));
    }

    #[test]
    fn a_mesh_may_have_a_pattern() {
        for (name, pattern) in [
            ("mesh", Pattern::All),
            ("mesh=ring", Pattern::Ring),
            ("mesh=star", Pattern::Star),
            ("mesh=tree", Pattern::Tree),
            ("mesh=grid", Pattern::Grid),
        ] {
            let types = Request::admit(&submission(&[name, "spmd", name])).unwrap().types;
            assert_eq!((types.mesh, types.pattern), (true, pattern));
            assert_eq!(types.names(), ["desktop_computing", name, "spmd"]);
            let stored = serde_json::to_string(&types).unwrap();
            assert_eq!(serde_json::from_str::<JobTypes>(&stored).unwrap(), types);
        }
        let all = Request::admit(&submission(&["mesh=all"])).unwrap();
        assert_eq!(all.types.names(), ["desktop_computing", "mesh"]);
        assert_eq!(all.initial_request, "oarsub --type=mesh=all nqueens 15");
        let plain = Request::admit(&submission(&["mesh", "mesh=ring"])).unwrap();
        assert_eq!(plain.types.pattern, Pattern::Ring, "the plain type says less");
    }

    #[test]
    fn types_that_were_stored_before_there_were_patterns_mean_all() {
        let stored = r#"{"mesh":true,"spmd":false,"idempotent":false}"#;
        assert_eq!(serde_json::from_str::<JobTypes>(stored).unwrap().pattern, Pattern::All);
    }

    #[test]
    fn unknown_and_contradictory_patterns_are_refused() {
        for bad in ["mesh=torus", "mesh=", "mesh=Ring", "mesh=ring "] {
            let refusal = Request::admit(&submission(&[bad])).unwrap_err();
            assert_eq!(refusal, RequestRefusal::UnknownPattern(bad.to_owned()));
        }
        assert_eq!(
            Request::admit(&submission(&["mesh=torus"])).unwrap_err().to_string(),
            "[ADMISSION RULE] Error: unknown mesh pattern: mesh=torus (known: mesh=all, mesh=ring, mesh=star, mesh=tree, mesh=grid)"
        );
        let refusal = Request::admit(&submission(&["mesh=ring", "mesh=star"])).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "[ADMISSION RULE] Error: mesh=ring and mesh=star: a job has one network, give it one pattern"
        );
    }

    #[test]
    fn what_is_kept_of_a_request_is_bounded() {
        let many = ["spmd"; MAX_TYPES + 1];
        let refusal = Request::admit(&submission(&many)).unwrap_err();
        assert_eq!(refusal, RequestRefusal::TooManyTypes(MAX_TYPES + 1));
        let resource = OneOrMany(vec![format!("{}nodes=1", " ".repeat(100_000))]);
        let long = SubmitJob { resource, ..submission(&[]) };
        assert!(matches!(Request::admit(&long), Err(RequestRefusal::Resources(_))));
    }

    #[test]
    fn a_job_without_a_command_is_refused() {
        let empty = SubmitJob { command: "  ".to_owned(), ..SubmitJob::default() };
        assert_eq!(Request::admit(&empty), Err(RequestRefusal::NoCommand));
    }

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        for name in ["../x", "a/b", ".hidden", "a\nb", "a\0b"] {
            let bad = SubmitJob { name: Some(name.to_owned()), ..submission(&[]) };
            assert!(matches!(Request::admit(&bad), Err(RequestRefusal::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn a_stage_in_is_named_by_its_hash() {
        let hash = "AB".repeat(32);
        let good = SubmitJob { stagein: Some(format!("sha256:{hash}")), ..submission(&[]) };
        let request = Request::admit(&good).unwrap();
        assert_eq!(request.stagein_sha256, Some(hash.to_lowercase()));
        assert!(!request.initial_request.contains(&hash), "{}", request.initial_request);
        for bad in ["", "abc", "sha256:12", "md5:00", &format!("sha256:{}", "z".repeat(64))] {
            let bad = SubmitJob { stagein: Some(bad.to_owned()), ..submission(&[]) };
            assert!(matches!(Request::admit(&bad), Err(RequestRefusal::Stagein(_))));
        }
    }

    #[test]
    fn the_initial_request_is_the_command_line_that_asks_for_the_same() {
        let submission = SubmitJob {
            resource: OneOrMany(vec!["nodes=2".to_owned()]),
            name: Some("q".to_owned()),
            ..submission(&["mesh"])
        };
        let request = Request::admit(&submission).unwrap();
        assert_eq!(
            request.initial_request,
            "oarsub --name=q --resource=nodes=2 --type=mesh nqueens 15"
        );
    }
}
