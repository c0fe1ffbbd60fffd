//! OAR request and response types, error bodies, agent routes.
//!
//! The shapes follow OAR 2.5.9's REST API; what OAR has no word for stands under `assignment` (for the
//! agent that runs the job), in `mesh`, and on the routes of [`enrolment`].

pub mod accounting;
pub mod action;
pub mod agent;
#[cfg(feature = "bodies")]
pub mod body;
pub mod enrolment;
pub mod error;
pub mod job;
pub mod list;
pub mod mesh;
mod number;
pub mod resource;
pub mod server;

pub use error::ErrorBody;
pub use list::{Link, List};
