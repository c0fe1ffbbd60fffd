//! `oarhold` and `oarresume`.

use clap::Parser;

use crate::failure::{EXIT_CODES, Failure};
use crate::{login, output};

/// Holds jobs that wait: they do not start until they are resumed.
#[derive(Debug, Parser)]
#[command(name = "oarhold", version, after_help = EXIT_CODES)]
pub(crate) struct Hold {
    /// The jobs' numbers
    #[arg(required_unless_present = "array", value_name = "ID")]
    jobs: Vec<u64>,
    /// All jobs of this array; may be repeated
    #[arg(long, value_name = "ID")]
    array: Vec<u64>,
}

impl Hold {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = login::client()?;
        for id in self.array {
            output::print(&output::plain(&client.hold_array(id).await?))?;
        }
        for id in self.jobs {
            output::print(&output::plain(&client.hold(id).await?))?;
        }
        Ok(())
    }
}

/// Lets held jobs go on.
#[derive(Debug, Parser)]
#[command(name = "oarresume", version, after_help = EXIT_CODES)]
pub(crate) struct Resume {
    /// The jobs' numbers
    #[arg(required_unless_present = "array", value_name = "ID")]
    jobs: Vec<u64>,
    /// All jobs of this array; may be repeated
    #[arg(long, value_name = "ID")]
    array: Vec<u64>,
}

impl Resume {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = login::client()?;
        for id in self.array {
            output::print(&output::plain(&client.resume_array(id).await?))?;
        }
        for id in self.jobs {
            output::print(&output::plain(&client.resume(id).await?))?;
        }
        Ok(())
    }
}
