//! What a user asks for, checked: the admission rules.

mod types;

use std::borrow::Cow;
use std::fmt;

use coordinator_api::job::SubmitJob;
use serde::{Deserialize, Serialize};

use crate::expression::Expression;
use crate::ids::{JobId, UnixMillis};
use crate::reader::Unreadable;
use crate::resources::{ResourceRefusal, Resources, walltime_text};

pub use self::types::JobTypes;
use self::types::parse_types;

/// The longest command line, bytes. Chosen: half of Linux's limit for one argument (128 KiB).
pub(crate) const MAX_COMMAND: usize = 64 * 1024;

/// The longest name of a job or a project, bytes: they become parts of file names (limit 255).
const MAX_NAME: usize = 100;

/// The line that ends a script within the command that writes it.
const SCRIPT_END: &str = "OAR_END_OF_SCRIPT";

/// What OAR's shipped rules let nobody ask for so many of.
const NO_LEVEL: &str = "cpuset";

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

/// Why a submission is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefusal {
    /// No command.
    #[error("A job must have a script, a command (script_path) or must be a reservation!")]
    NoCommand,
    /// Too long, or with a NUL.
    #[error("the command is longer than 65536 bytes or holds a NUL")]
    Command,
    /// A script with the line that would end it.
    #[error("a script cannot have the line {SCRIPT_END}")]
    Script,
    /// A name or project that cannot be part of a file name.
    #[error(
        "cannot use {0:?} as a name: at most 100 letters, digits or any of . _ + - @ and space"
    )]
    Name(String),
    /// Resources.
    #[error(transparent)]
    Resources(#[from] ResourceRefusal),
    /// A property that counts within a machine, and tells no resources apart.
    #[error("[ADMISSION RULE] '{0}' resource is not allowed")]
    NotAllowed(&'static str),
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

impl Request {
    /// Checks a submission. Whether its stage-in archive is there is for the caller to see.
    pub fn admit(submission: &SubmitJob) -> Result<Self, RequestRefusal> {
        let command = command_of(submission);
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
        if submission.script.as_deref().is_some_and(|text| text.lines().any(|it| it == SCRIPT_END))
        {
            return Err(RequestRefusal::Script);
        }
        let resources = Resources::parse(&submission.resource.0)?;
        let levels =
            resources.alternatives.iter().flat_map(|it| &it.groups).flat_map(|it| &it.levels);
        if levels.into_iter().any(|level| level.property == NO_LEVEL) {
            return Err(RequestRefusal::NotAllowed(NO_LEVEL));
        }
        Ok(Self {
            command: command.into_owned(),
            name: submission.name.as_deref().and_then(filled).map(check_name).transpose()?,
            project: submission.project.as_deref().and_then(filled).map(check_name).transpose()?,
            resources,
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
        for option in submission.left_out() {
            remarks += &format!(
                "[ADMISSION RULE] {option} means nothing on volunteers' machines: left out\n"
            );
        }
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

/// The command, or the one that writes the script to a file of the job's and runs it; arguments may follow.
pub(crate) fn command_of(submission: &SubmitJob) -> Cow<'_, str> {
    let command = submission.command.trim();
    match submission.script.as_deref().filter(|text| !text.trim().is_empty()) {
        Some(script) if command.is_empty() => {
            let end = if script.ends_with('\n') { "" } else { "\n" };
            Cow::Owned(format!(
                "cat > .oar-script <<'{SCRIPT_END}'\n{script}{end}{SCRIPT_END}\n\
                 chmod +x .oar-script && exec ./.oar-script"
            ))
        }
        Some(_) | None => Cow::Borrowed(command),
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
    let command = submission.command.trim();
    line + " " + if command.is_empty() { "script" } else { command }
}

#[cfg(test)]
mod tests;
