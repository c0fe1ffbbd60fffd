//! What the API says of itself and of its server.

use serde::{Deserialize, Serialize};

use crate::list::Link;

/// `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Versions {
    /// The version of OAR that clients take this for.
    pub oar_version: String,
    /// The version of the REST API.
    pub api_version: String,
    /// The same again.
    pub apilib_version: String,
    /// The zone of dates that are texts.
    pub api_timezone: String,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// `GET /`: the versions, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Start {
    /// The versions.
    #[serde(flatten)]
    pub versions: Versions,
    /// The lists that there are.
    pub links: Vec<Link>,
}

/// `GET /whoami`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Whoami {
    /// The user's or node's name; empty for nobody.
    pub authenticated_user: String,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// `GET /timezone`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Timezone {
    /// The zone of dates that are texts.
    pub timezone: String,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// `GET /stress_factor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StressFactor {
    /// The server's load over a minute, as text: OAR's habit.
    #[serde(rename = "GLOBAL_STRESS")]
    pub global_stress: String,
    /// `self`.
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch.
    pub api_timestamp: u64,
}

/// An option of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Variable {
    /// Its name.
    pub id: String,
    /// Its value.
    pub value: String,
    /// `self`: one link, and no list of them, as in OAR.
    pub links: Link,
}

/// `GET /config/file`: all options as lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigFile {
    /// Where the options are set.
    pub path: String,
    /// `NAME="value"`, a line each.
    pub file: String,
}

/// An admission rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rule {
    /// Its number.
    pub id: u64,
    /// Its place in the order of rules.
    pub priority: u64,
    /// `YES` or `NO`.
    pub enabled: String,
    /// What it does, in words.
    pub rule: String,
    /// `self`: one link, and no list of them, as in OAR.
    pub links: Link,
}

/// An entry of `GET /media/ls/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// `d` for a folder, `f` for a file.
    #[serde(rename = "type")]
    pub kind: String,
    /// Kind and permissions, as in `stat`.
    pub mode: u32,
    /// Bytes, as text: OAR's habit.
    pub size: String,
    /// Last change, seconds since the Unix epoch.
    pub mtime: u64,
}

/// The answer to an upload (201).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileStored {
    /// `created`.
    pub status: String,
    /// `true`, as text: OAR's habit.
    pub success: String,
    /// `self`.
    pub links: Vec<Link>,
}

/// The answer to `GET /desktop/agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedIn {
    /// The new node's name.
    pub hostname: String,
}
