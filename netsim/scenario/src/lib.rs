//! Scenario files: what a run of the laboratory consists of, and what must hold in the end.
//!
//! [`ScenarioFile::load`] reads a TOML file into a [`Scenario`], which is what is written there;
//! [`ScenarioFile::resolve`] decides everything that is left open and gives a [`Resolved`], which has every
//! machine and router by name. Both back ends take the latter. Unknown keys are refused; an error names
//! the file, the line and the column, and suggests what may have been meant. The smallest useful file:
//!
//! ```toml
//! [[volunteers]]
//! behind = "home"
//!
//! [[job]]
//! command = "echo hello"
//! ```

#![forbid(unsafe_code)]

pub mod file;
pub mod queens;
pub mod resolve;
pub mod resolved;
pub mod text;

mod fault;
mod folder;
mod load;
mod preset;
mod schema;
mod setting;

pub use file::{Metric, Scenario};
pub use folder::{Folder, names};
pub use load::{LoadError, ScenarioError, ScenarioFile};
pub use preset::Preset;
pub use resolved::Resolved;
pub use schema::schema;
pub use setting::{Setting, SettingError};
