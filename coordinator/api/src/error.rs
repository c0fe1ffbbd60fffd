//! OAR's error body.

use serde::{Deserialize, Serialize};

/// The body of every answer with a status of 400 or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// The HTTP status again.
    pub code: u16,
    /// What went wrong, in a few words.
    pub title: String,
    /// What happened, to what, and what to do.
    pub message: String,
}
