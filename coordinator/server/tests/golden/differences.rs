//! Where the coordinator answers other than OAR 2.5.9, and why.

/// Why an answer is not OAR's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// OAR lets through what it should refuse.
    Strictness,
    /// OAR breaks.
    Fault,
    /// There is more here than in OAR.
    Extension,
    /// Not built yet; the row goes when it is.
    Missing,
}

/// One recorded exchange that is answered differently.
pub(crate) struct Difference {
    pub(crate) exchange: u32,
    pub(crate) kind: Kind,
    pub(crate) reason: &'static str,
    /// All that differs, as the comparison words it.
    pub(crate) found: &'static [&'static str],
}

const fn row(
    exchange: u32,
    kind: Kind,
    reason: &'static str,
    found: &'static [&'static str],
) -> Difference {
    Difference { exchange, kind, reason, found }
}

const NO_ROUTES: &str =
    "links lead only to routes that there are: configuration and rules come later";
const API_REFUSES: &str = "in OAR the web server asks for the password and refuses with a page; here the API does, in its format";
const ANYTHING: &str =
    "an Accept that allows JSON is refused by OAR: curl and every browser would need a suffix";

pub(crate) const DIFFERENCES: &[Difference] = &[
    row(
        1,
        Kind::Missing,
        NO_ROUTES,
        &["body.links lacks /oarapi/config", "body.links lacks /oarapi/admission_rules"],
    ),
    row(
        2,
        Kind::Missing,
        NO_ROUTES,
        &["body.links lacks /oarapi/config", "body.links lacks /oarapi/admission_rules"],
    ),
    row(
        3,
        Kind::Missing,
        NO_ROUTES,
        &["body.links lacks /oarapi/config.html", "body.links lacks /oarapi/admission_rules.html"],
    ),
    row(
        4,
        Kind::Extension,
        "the url that the coordinator prints and logins carry has no slash: it shows the start page",
        &["status 404, here 200"],
    ),
    row(22, Kind::Extension, API_REFUSES, &["type text/html, here application/json"]),
    row(23, Kind::Extension, API_REFUSES, &["type text/html, here application/json"]),
    row(
        29,
        Kind::Strictness,
        "users are the coordinator's own, known by tokens: there is no unix user to look for",
        &["body.message differs"],
    ),
    row(
        33,
        Kind::Fault,
        ANYTHING,
        &["status 406, here 200", "type text/yaml, here application/json"],
    ),
    row(
        34,
        Kind::Fault,
        ANYTHING,
        &["status 406, here 200", "type text/yaml, here application/json"],
    ),
    row(
        41,
        Kind::Strictness,
        "OAR's other structure has memory addresses for resources and 0 for jobs: it is refused by name",
        &["status 200, here 406"],
    ),
    row(
        42,
        Kind::Fault,
        "OAR breaks on an empty list of resources",
        &["status 500, here 200", "type text/html, here application/json"],
    ),
];
