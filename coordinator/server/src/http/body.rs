//! Request bodies, read as their `Content-Type` says and refused in OAR's words.

use std::fmt::Display;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::ApiError;
use super::format::essence;

/// The most of a reader's own words that is repeated, characters: they may quote a key of any length.
const MAX_WORDS: usize = 500;

/// The most fields of a form. Chosen: far more than a submission has options.
const MAX_FIELDS: usize = 1_000;

/// A body in JSON, YAML or as an HTML form. The suffix says nothing of it: YAML in, JSON out is fine.
pub(super) struct Sent<T>(pub T);

impl<S, T> FromRequest<S> for Sent<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let read = match essence(kind.unwrap_or_default()).to_ascii_lowercase().as_str() {
            "application/json" => json,
            "text/yaml" => yaml,
            "application/x-www-form-urlencoded" => form,
            _ => return Err(no_format()),
        };
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            ApiError::new(rejection.status(), "Body not understood", rejection.body_text())
        })?;
        if bytes.is_empty() { Err(no_format()) } else { read(&bytes).map(Self) }
    }
}

/// OAR's words; it takes forms too and does not say so.
fn no_format() -> ApiError {
    let title = "Job description must be in YAML or JSON";
    let message = "The correct format for a job request is text/yaml or application/json. ";
    ApiError::new(StatusCode::NOT_ACCEPTABLE, title, message)
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| refuse("JSON data not understood", &error))
}

fn yaml<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_norway::from_slice(bytes).map_err(|error| refuse("YAML data not understood", &error))
}

/// A field that was left empty was not filled in; one that stands there several times is a list.
fn form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let title = "Form data not understood";
    let mut fields = Map::new();
    for (count, (key, value)) in form_urlencoded::parse(bytes).enumerate() {
        if count >= MAX_FIELDS {
            return Err(refuse(title, &format!("a form has at most {MAX_FIELDS} fields")));
        }
        if key.contains(char::REPLACEMENT_CHARACTER) || value.contains(char::REPLACEMENT_CHARACTER)
        {
            return Err(refuse(title, &"a field is not UTF-8"));
        }
        if value.is_empty() {
            continue;
        }
        let value = Value::String(value.into_owned());
        match fields.get_mut(&*key) {
            None => drop(fields.insert(key.into_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| refuse(title, &error))
}

fn refuse(title: &'static str, error: &dyn Display) -> ApiError {
    let message: String = error.to_string().chars().take(MAX_WORDS).collect();
    ApiError::new(StatusCode::BAD_REQUEST, title, message)
}

#[cfg(test)]
mod tests {
    use coordinator_api::job::SubmitJob;

    use super::*;

    #[test]
    fn a_job_is_the_same_in_all_three() {
        let text = r#"{"command":"true","type":["mesh","spmd"],"resource":"nodes=2"}"#;
        let job: SubmitJob = json(text.as_bytes()).unwrap();
        // `true` is a word here, as it is for OAR's Perl.
        let text = "---\ncommand: true\ntype:\n  - mesh\n  - spmd\nresource: nodes=2\n";
        assert_eq!(yaml::<SubmitJob>(text.as_bytes()).unwrap(), job);
        let text = "command=true&type=mesh&name=&type=spmd&resource=nodes%3D2";
        assert_eq!(form::<SubmitJob>(text.as_bytes()).unwrap(), job);
    }

    #[test]
    fn aliases_and_depth_do_not_multiply() {
        let mut laughs = "a0: &a0 [x]\n".to_owned();
        for level in 1..20 {
            let alias = format!("*a{},", level - 1).repeat(9);
            laughs += &format!("a{level}: &a{level} [{alias}]\n");
        }
        assert!(yaml::<Value>(laughs.as_bytes()).is_err());
        assert!(yaml::<Value>("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_said_shortly() {
        let long = format!("command=x&{}=1", "k".repeat(100_000));
        for (read, text) in [
            (yaml::<SubmitJob> as fn(&[u8]) -> _, "command: [".to_owned()),
            (yaml, "--- \ncommand: a\n--- \ncommand: b\n".to_owned()),
            (form, "command=%ff".to_owned()),
            (form, "a=1&".repeat(1_001)),
            (form, long),
            (json, "{".to_owned()),
        ] {
            let refusal: Result<SubmitJob, ApiError> = read(text.as_bytes());
            let shown = format!("{:?}", refusal.unwrap_err());
            assert!(shown.contains("not understood") && shown.len() < 1_000, "{shown}");
        }
    }
}
