//! OAR request and response types, error bodies, agent routes.
//!
//! The shapes follow OAR 2.5.9's REST API; what OAR has no word for stands under `assignment` (for the
//! agent that runs the job), in `mesh`, and on the routes of [`enrolment`].

pub mod accounting;
pub mod agent;
pub mod enrolment;
pub mod error;
pub mod job;
pub mod list;
pub mod mesh;
pub mod resource;

pub use error::ErrorBody;
pub use list::{Link, List};
