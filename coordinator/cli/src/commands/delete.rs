//! `oardel`.

use clap::Parser;

use crate::failure::{EXIT_CODES, Failure};
use crate::{login, output};

/// Deletes jobs: those that run are killed.
#[derive(Debug, Parser)]
#[command(name = "oardel", version, after_help = EXIT_CODES)]
pub(crate) struct Del {
    /// The jobs' numbers
    #[arg(required = true, value_name = "ID")]
    jobs: Vec<u64>,
}

impl Del {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = login::client()?;
        let (mut registered, mut failures) = (Vec::new(), Vec::new());
        for id in &self.jobs {
            match client.delete(*id).await {
                Ok(_) => {
                    output::print(&format!("Deleting the job = {id} ...REGISTERED.\n"))?;
                    registered.push(id.to_string());
                }
                // The others would fare no better.
                Err(error) if error.status().is_none() => return Err(error.into()),
                Err(error) => {
                    output::print(&format!("Deleting the job = {id} ...ERROR.\n"))?;
                    eprintln!("oar: job {id}: {error}");
                    failures.push(error);
                }
            }
        }
        if !registered.is_empty() {
            let list = registered.join(" ");
            output::print(&format!("The job(s) [ {list} ] will be deleted in the near future.\n"))?;
        }
        match failures.len() {
            0 => Ok(()),
            failed => Err(Failure::NotAllDeleted { failed, asked: self.jobs.len() }),
        }
    }
}
