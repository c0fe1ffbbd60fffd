//! `oarsub`.

mod directives;

use std::path::{Path, PathBuf};

use clap::Parser;
use coordinator_api::job::{OneOrMany, SubmitJob, Submitted};
use coordinator_client::Client;
use coordinator_client::transfer::sha256_of_file;

use crate::failure::{EXIT_CODES, Failure};
use crate::progress::Display;
use crate::{login, output, pack};

/// Submits a job.
#[derive(Debug, Parser)]
#[command(name = "oarsub", version, after_help = EXIT_CODES)]
pub(crate) struct Sub {
    /// Resources, such as `nodes=6,walltime=1:30:00` (a bare number is hours); may be repeated
    #[arg(short = 'l', long = "resource", value_name = "LIST")]
    resource: Vec<String>,
    /// Job type: `mesh` (a private network; `mesh=ring`, `star`, `tree` or `grid` when only those ranks talk much: the job
    /// starts as soon as they can, others get their path with their first packet; $OAR_MESH_MEMBERS, $OAR_MESH_EVENTS and
    /// $OAR_MESH_MATRIX tell it of its network, see docs/mesh.md), `spmd` (a mesh, and the command runs on every node), `idempotent`
    /// (run again when a node is lost), `besteffort`, `postpone=DATE`, `deadline=DATE`, `expire=DATE`; may be repeated
    #[arg(short = 't', long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Condition on all resources, such as "mem > 1000 AND host = 'vol-1'"; see `oarnodes` for the properties
    #[arg(short = 'p', long = "property", value_name = "CONDITION")]
    property: Option<String>,
    /// Queue: `default`, or `besteffort` for jobs that make room for others
    #[arg(short = 'q', long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Reserve the resources from this date on: "YYYY-MM-DD HH:MM:SS", UTC
    #[arg(short = 'r', long, value_name = "DATE")]
    reservation: Option<String>,
    /// Wait for the end of this job; may be repeated
    #[arg(short = 'a', long = "anterior", value_name = "ID")]
    anterior: Vec<u64>,
    /// Hold the job until `oarresume`
    #[arg(long)]
    hold: bool,
    /// Name of the job
    #[arg(short = 'n', long, value_name = "NAME")]
    name: Option<String>,
    /// Project that is accounted for
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Folder whose content the job finds in its directory, or an archive of it (tar, gzip)
    #[arg(long, value_name = "DIR_OR_TGZ")]
    stagein: Option<PathBuf>,
    /// An array: so many jobs, told apart by OAR_ARRAY_INDEX (from 1)
    #[arg(long, value_name = "N", conflicts_with = "array_param_file")]
    array: Option<u32>,
    /// An array: a job for each line of this file, whose words the command gets as arguments (`#` begins a
    /// comment; `-` is the standard input)
    #[arg(long, value_name = "FILE")]
    array_param_file: Option<PathBuf>,
    /// Take the options that the command's script has on lines `#OAR OPTIONS`, too; those of the command line go
    /// before them
    #[arg(short = 'S', long)]
    scanscript: bool,
    /// Submit this job, which has ended, once more as it was
    #[arg(long, value_name = "ID", conflicts_with = "command")]
    resubmit: Option<u64>,
    /// Print the answer as JSON
    #[arg(short = 'J', long)]
    json: bool,
    /// The command, given to `sh -c`: one quoted text, or words that are joined with spaces
    #[arg(required_unless_present = "resubmit", trailing_var_arg = true)]
    command: Vec<String>,
}

impl Sub {
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        if self.scanscript {
            let script = directives::script_of(&self.command)?;
            let written = directives::read(&script)?;
            self.complete(written);
        }
        let client = login::client()?;
        if let Some(id) = self.resubmit {
            return show(&client.resubmit(id).await?, self.json);
        }
        let stagein = match &self.stagein {
            Some(path) => Some(send(&client, path).await?),
            None => None,
        };
        let param_file = self.array_param_file.as_deref().map(read_text).transpose()?;
        let job = SubmitJob {
            command: self.command.join(" "),
            resource: OneOrMany(self.resource),
            types: OneOrMany(self.types),
            property: self.property,
            queue: self.queue,
            reservation: self.reservation,
            anterior: OneOrMany(self.anterior.iter().map(u64::to_string).collect()),
            hold: self.hold.then_some(1),
            name: self.name,
            project: self.project,
            stagein: stagein.map(|hash| format!("sha256:{hash}")),
            array: self.array,
            param_file,
            ..SubmitJob::default()
        };
        show(&client.submit(&job).await?, self.json)
    }
}

impl Sub {
    /// Takes over what was not given.
    fn complete(&mut self, other: Self) {
        fn fill<T>(own: &mut Vec<T>, other: Vec<T>) {
            if own.is_empty() {
                *own = other;
            }
        }
        fill(&mut self.resource, other.resource);
        fill(&mut self.types, other.types);
        fill(&mut self.anterior, other.anterior);
        self.property = self.property.take().or(other.property);
        self.queue = self.queue.take().or(other.queue);
        self.reservation = self.reservation.take().or(other.reservation);
        self.name = self.name.take().or(other.name);
        self.project = self.project.take().or(other.project);
        self.stagein = self.stagein.take().or(other.stagein);
        // The two are one choice.
        if self.array.is_none() && self.array_param_file.is_none() {
            self.array = other.array;
            self.array_param_file = other.array_param_file;
        }
        self.hold |= other.hold;
        self.json |= other.json;
    }
}

/// Prints what the coordinator said, and the job's number however it said it.
fn show(submitted: &Submitted, json: bool) -> Result<(), Failure> {
    if json {
        return output::print_json(submitted);
    }
    let mut text = output::plain(submitted.cmd_output.trim_end());
    let line = format!("OAR_JOB_ID={}", submitted.id);
    if !text.lines().any(|printed| printed == line) {
        text = format!("{text}\n{line}");
    }
    output::print(&format!("{}\n", text.trim_start()))
}

/// A text file, or the standard input for `-`.
fn read_text(path: &Path) -> Result<String, Failure> {
    let read = match path.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(path),
    };
    read.map_err(Failure::file(path))
}

/// Sends the stage-in, unless the coordinator has it; answers its hash.
async fn send(client: &Client, path: &Path) -> Result<String, Failure> {
    let metadata = std::fs::metadata(path).map_err(Failure::file(path))?;
    let packed = if metadata.is_dir() {
        eprintln!("stage-in: packing {}", path.display());
        Some(pack::pack(path)?)
    } else if pack::is_archive(path)? {
        None
    } else {
        return Err(Failure::NoArchive { path: path.display().to_string() });
    };
    let archive = packed.as_ref().map_or(path, |packed| packed.path());
    let hash = sha256_of_file(archive).await?;
    let mut display = Display::new("stage-in");
    let sent = client.upload_stagein(archive, &hash, |progress| display.show(progress)).await;
    display.finish();
    sent?;
    Ok(hash)
}
