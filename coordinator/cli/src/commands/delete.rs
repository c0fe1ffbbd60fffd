//! `oardel`.

use clap::Parser;
use coordinator_client::ClientError;

use crate::failure::{EXIT_CODES, Failure};
use crate::output::plain_line;
use crate::{login, output};

/// Deletes jobs: those that run are killed.
#[derive(Debug, Parser)]
#[command(name = "oardel", version, after_help = EXIT_CODES)]
pub(crate) struct Del {
    /// The jobs' numbers
    #[arg(required_unless_present = "array", value_name = "ID")]
    jobs: Vec<u64>,
    /// All jobs of this array; may be repeated
    #[arg(long, value_name = "ID")]
    array: Vec<u64>,
}

impl Del {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = login::client()?;
        let (mut registered, mut failures) = (Vec::new(), Vec::new());
        for array in &self.array {
            match client.delete_array(*array).await {
                Ok(said) => output::print(&output::plain(&said))?,
                Err(error) if error.status().is_none() => return Err(error.into()),
                Err(error) => {
                    eprintln!("oar: array {array}: {}", reason(&error));
                    failures.push(error);
                }
            }
        }
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
                    eprintln!("oar: {}", reason(&error));
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
            failed => {
                Err(Failure::NotAllDeleted { failed, asked: self.jobs.len() + self.array.len() })
            }
        }
    }
}

/// Why a deletion was refused: the coordinator's message begins with what is printed already.
fn reason(error: &ClientError) -> String {
    let text = error.to_string();
    let news = text.rsplit_once("...ERROR.").map_or(&*text, |(_, news)| news);
    plain_line(news.trim())
}
