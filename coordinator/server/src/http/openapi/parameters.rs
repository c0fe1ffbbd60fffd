//! Parameters and bodies that routes read by themselves: what they are described by.

#![expect(dead_code, reason = "the fields describe and are not read")]

use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// Which page of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Paging {
    /// The most items of the page; 5,000 at most, 500 when not given.
    #[param(maximum = 9007199254740991_u64)]
    limit: Option<u64>,
    /// The index of its first item.
    #[param(maximum = 9007199254740991_u64)]
    offset: Option<u64>,
}

/// Which jobs. With none of these: those that have not ended.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct JobFilters {
    /// States with commas between, as in `Running,Waiting`.
    state: Option<String>,
    /// The owner.
    user: Option<String>,
    /// Seconds since the Unix epoch: jobs that had not ended before.
    #[param(maximum = 9007199254740991_u64)]
    from: Option<u64>,
    /// Seconds since the Unix epoch: jobs that had begun by then.
    #[param(maximum = 9007199254740991_u64)]
    to: Option<u64>,
    /// Numbers with colons between, as in `1:2:3`; 1,000 at most.
    #[param(pattern = "^[0-9]{1,18}(:[0-9]{1,18})*$")]
    ids: Option<String>,
    /// The number of an array.
    #[param(maximum = 9007199254740991_u64)]
    array: Option<u64>,
}

/// Which days.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Period {
    /// Seconds since the Unix epoch.
    #[param(maximum = 9007199254740991_u64)]
    from: Option<u64>,
    /// Seconds since the Unix epoch.
    #[param(maximum = 9007199254740991_u64)]
    to: Option<u64>,
}

/// How much of a file.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Tail {
    /// The last lines alone, so many.
    #[param(maximum = 9007199254740991_u64)]
    tail: Option<u64>,
}

/// Which output, and how much of it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct OutputOf {
    /// `stdout` when not given.
    #[param(inline)]
    stream: Option<Stream>,
    /// The node's rank; 0 when not given.
    #[param(maximum = 65535)]
    rank: Option<u16>,
    /// The last lines alone, so many; without `offset`.
    #[param(maximum = 9007199254740991_u64)]
    tail: Option<u64>,
    /// What follows so many bytes.
    #[param(maximum = 9007199254740991_u64)]
    offset: Option<u64>,
}

/// Where a piece of a job's output belongs.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct PieceOf {
    /// `stdout` when not given.
    #[param(inline)]
    stream: Option<Stream>,
    /// The launch of the job.
    #[param(maximum = 4294967295_u64)]
    generation: u32,
    /// How many bytes the coordinator has of it; 0 when not given.
    #[param(maximum = 9007199254740991_u64)]
    offset: Option<u64>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Stream {
    Stdout,
    Stderr,
}

/// What an agent asks for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Poll {
    /// `toLaunch` and `toKill` are the node's orders; else states with commas between.
    state: Option<String>,
    /// With the node's own credential: to hold an empty answer back for so many seconds, 25 at most.
    #[param(maximum = 9007199254740991_u64)]
    wait: Option<u64>,
}

/// Whose results.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Launch {
    /// The launch of the job.
    generation: Option<u32>,
}

/// What OAR would ask its database.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Sql {
    /// SQL, from `FROM` on.
    query: String,
}

/// A form with a file.
#[derive(ToSchema)]
pub(in crate::http) struct Upload {
    /// The file.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// A form with a job's results, as the agents of old send them.
#[derive(ToSchema)]
pub(in crate::http) struct Results {
    /// The archive.
    #[schema(value_type = String, format = Binary)]
    myfile: Vec<u8>,
}

/// What works on a resource: its jobs, as [`ResourceJob`](coordinator_api::resource::ResourceJob). Of a property
/// `{"PROPERTY": value, "jobs": [1]}` for each of its values, and neither a total nor an offset.
#[derive(ToSchema)]
pub(in crate::http) struct JobsOn {
    /// The jobs, or the values.
    items: Vec<Value>,
    /// How many there are.
    #[schema(nullable = false)]
    total: Option<u64>,
    /// 0.
    #[schema(nullable = false)]
    offset: Option<u64>,
    /// `self`.
    links: Vec<coordinator_api::Link>,
    /// Seconds since the Unix epoch. Absent from an empty list.
    #[schema(nullable = false)]
    api_timestamp: Option<u64>,
}
