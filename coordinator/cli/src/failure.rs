//! Why a command failed, and the exit code that says so.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use coordinator_client::ClientError;
use coordinator_client::token::ParseTokenError;
use coordinator_client::transfer::TransferError;

/// The exit codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the coordinator refused, or the job is not what the command needs
  2  wrong usage
  3  not logged in, or a damaged login string
  4  the coordinator cannot be reached
  5  somebody else answers in its place, or the answer is unusable
  6  a file or folder on this machine cannot be used";

/// A command that failed. One sentence for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no login yet: run `oar login LOGINSTRING` first (the administrator gives the string)")]
    NoLogin,
    #[error("{path} is damaged: run `oar login LOGINSTRING` again")]
    DamagedLogin { path: String },
    #[error(transparent)]
    LoginString(#[from] ParseTokenError),
    #[error(
        "the coordinator does not know this login any more: ask its administrator for a new one"
    )]
    LoginRefused,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error("cannot use {path}: {source}")]
    File { path: String, source: io::Error },
    #[error("{path} cannot be packed: {reason}")]
    Unpackable { path: String, reason: String },
    #[error("job {job} has no results yet: they come when it ends (`oar wait {job}`)")]
    NoResults { job: u64 },
    #[error("job {job} has ended and left no results: {message}")]
    LeftNoResults { job: u64, message: String },
    #[error("job {job} has had no network: `oarsub -t mesh` asks for one")]
    NoNetwork { job: u64 },
    #[error("there is no job {job}: `oarstat` lists those that have not ended")]
    NoJob { job: u64 },
    #[error("there is no node {name}: `oarnodes -s` lists all")]
    NoNode { name: String },
    #[error("no node has a property {name}: `oarproperty -l` lists all")]
    NoProperty { name: String },
    #[error("{path} is neither a folder nor an archive that `tar czf` makes")]
    NoArchive { path: String },
    #[error("{path}, line {line}: {reason}")]
    Directive { path: String, line: usize, reason: String },
    #[error("-S reads the script that the command begins with, and there is none")]
    NoScript,
    #[error("{failed} of {asked} jobs were not deleted")]
    NotAllDeleted { failed: usize, asked: usize },
    /// Whoever reads the output has gone, as in `oarstat | head`.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

impl Failure {
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { path: path.clone(), source }
    }

    /// For answers about one job, which need not exist.
    pub(crate) fn of_job(job: u64) -> impl Fn(ClientError) -> Self {
        move |error| {
            let title = "Job not found";
            match matches!(&error, ClientError::Refused { title: said, .. } if said == title) {
                true => Self::NoJob { job },
                false => Self::Client(error),
            }
        }
    }

    /// A closed pipe is no news.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// See [`EXIT_CODES`].
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Client(error) | Self::Transfer(TransferError::Client(error)) => of_client(error),
            Self::Transfer(TransferError::NotTaken { .. })
            | Self::NoResults { .. }
            | Self::LeftNoResults { .. }
            | Self::NoNetwork { .. }
            | Self::NoJob { .. }
            | Self::NoNode { .. }
            | Self::NoProperty { .. }
            | Self::NotAllDeleted { .. } => 1,
            // Wrong usage, as clap has it.
            Self::Directive { .. } | Self::NoScript => 2,
            Self::NoLogin
            | Self::DamagedLogin { .. }
            | Self::LoginString(_)
            | Self::LoginRefused => 3,
            Self::Transfer(TransferError::Damaged { .. } | TransferError::TooLarge { .. }) => 5,
            Self::Transfer(TransferError::File { .. } | TransferError::Changed { .. })
            | Self::File { .. }
            | Self::NoArchive { .. }
            | Self::Unpackable { .. }
            | Self::Output(_) => 6,
        })
    }
}

fn of_client(error: &ClientError) -> u8 {
    match error {
        ClientError::Refused { .. } => 1,
        ClientError::BadUrl { .. } | ClientError::BadCredential => 3,
        ClientError::Unreachable { .. } => 4,
        ClientError::NotTheCoordinator { .. } | ClientError::BadAnswer { .. } => 5,
    }
}
