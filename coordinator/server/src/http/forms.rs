//! OAR's form for a new job. It has more of them, for resources and rules; nobody sends those here.

use axum::extract::Extension;
use axum::response::Response;

use super::answer::{self, ApiError};
use super::format::{Format, Negotiated};
use super::links::href;
use super::render;
use super::suffix::AskedPath;

/// The fields: what is asked, the option of oarsub, and what stands there already.
const FIELDS: [(&str, &str, &str); 7] = [
    ("Resources", "resource", "/nodes=1,walltime=0:30:00"),
    ("Name", "name", ""),
    ("Properties", "property", ""),
    ("Program to run", "command", ""),
    ("Types", "type", ""),
    ("Reservation dates", "reservation", ""),
    ("Directory", "directory", ""),
];

/// `GET /form.html`: the job's options, to fill in. There is no other format of it.
pub(super) async fn job(
    Extension(negotiated): Extension<Negotiated>,
    Extension(path): Extension<AskedPath>,
) -> Result<Response, ApiError> {
    match negotiated.format()? {
        Format::Html => Ok(render::form(&form())),
        Format::Json | Format::Yaml => Err(answer::no_route_to(&path)),
    }
}

fn form() -> String {
    let row = |(label, name, value): (&str, &str, &str)| {
        let input = format!("<INPUT TYPE=\"text\" SIZE=\"40\" NAME=\"{name}\" VALUE=\"{value}\">");
        format!("<TR>\n\n  <TD>{label}</TD>\n\n  <TD>{input}</TD>\n\n</TR>")
    };
    let action = href("/jobs.html");
    let rows: String = FIELDS.into_iter().map(row).collect();
    format!(
        "<FORM METHOD=\"post\" ACTION=\"{action}\">\n\n<TABLE>\n\n<CAPTION>Job submission</CAPTION>\n\n{rows}<TR>\n\n  \
         <TD></TD><TD><INPUT TYPE=\"submit\" VALUE=\"SUBMIT\"></TD>\n\n</TR>\n\n</TABLE>\n\n</FORM>"
    )
}
