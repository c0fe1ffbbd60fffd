//! `oar completions` and `oar man`: what is installed beside the program, made from its own options.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;

use super::{Oar, accounting, delete, hold, nodes, nodesetting, property, stat, submit};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder, which is made if it is not there: `~/.local/share/man/man1` is looked into by `man`
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// The program under each of its names.
fn programs() -> [Command; 10] {
    [
        Oar::command(),
        submit::Sub::command(),
        stat::Stat::command(),
        delete::Del::command(),
        hold::Hold::command(),
        hold::Resume::command(),
        nodes::Nodes::command(),
        nodesetting::NodeSetting::command(),
        property::Property::command(),
        accounting::Accounting::command(),
    ]
}

impl Completions {
    /// One script for all the names.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        for mut program in programs() {
            let name = program.get_name().to_owned();
            clap_complete::generate(self.shell, &mut program, name, &mut script);
        }
        output::print(&String::from_utf8_lossy(&script))
    }
}

impl Man {
    /// One page for each name, and for each of `oar`'s commands.
    pub(crate) fn run(self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.folder).map_err(Failure::file(&self.folder))?;
        for program in programs() {
            clap_mangen::generate_to(program, &self.folder).map_err(Failure::file(&self.folder))?;
        }
        Ok(())
    }
}
