//! What all operations share, added to what their handlers say.

use serde_json::{Map, Value, json};

/// Refusals that come before any handler: status, and when.
const EVERYWHERE: [(&str, &str); 4] = [
    ("401", "Nobody is named, or nobody who may do this"),
    ("406", "The format that is asked for, or the body's, is not known"),
    ("429", "The user, or the address without a login, asks too often"),
    ("503", "The server cannot answer now: `Retry-After` says when to try again"),
];

/// The formats of an answer that is a value.
const FORMATS: [&str; 2] = ["application/json", "text/yaml"];

/// The formats of a body that is a value.
const BODIES: [&str; 3] = ["application/json", "text/yaml", "application/x-www-form-urlencoded"];

/// Completes the description.
pub(super) fn finish(mut description: Value) -> Value {
    let Some(paths) = description["paths"].as_object_mut() else { return description };
    // A path's tail is a parameter like others, here.
    let names: Vec<String> = paths.keys().filter(|path| path.contains("{*")).cloned().collect();
    for name in names {
        let item = paths.remove(&name).unwrap_or_default();
        paths.insert(name.replace("{*", "{"), item);
    }
    let mut refusals = Map::new();
    for (path, item) in paths.iter_mut() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            operation["operationId"] = json!(operation_id(method, path));
            complete(operation, &mut refusals);
        }
    }
    description["components"]["responses"] = Value::Object(refusals);
    description["components"]["schemas"]["ErrorBody"] = error_schema();
    description["components"]["securitySchemes"] = json!({
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "A user's token: a part of the login string",
        },
        "password": { "type": "http", "scheme": "basic", "description": "A user's name and password" },
        "credential": {
            "type": "http",
            "scheme": "bearer",
            "description": "What a node was given when it joined",
        },
    });
    description
}

/// `post /jobs/{id}/holds/new`: `postJobsIdHoldsNew`.
fn operation_id(method: &str, path: &str) -> String {
    let mut id = method.to_owned();
    for word in path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let (first, rest) = word.split_at(1);
        id += &first.to_ascii_uppercase();
        id += rest;
    }
    id
}

/// `refusals` are kept in one place: their body is the same everywhere.
fn complete(operation: &mut Value, refusals: &mut Map<String, Value>) {
    let body = operation.pointer_mut("/requestBody/content");
    // Who names several formats has no others.
    if let Some(content) = body.and_then(Value::as_object_mut).filter(|it| it.len() == 1) {
        repeat(content, &BODIES);
    }
    // A handler that says nothing of success refuses everybody.
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, when) in EVERYWHERE {
        responses.entry(status).or_insert_with(|| json!({ "description": when }));
    }
    for (status, response) in responses.iter_mut() {
        let is_refusal = status.starts_with(['4', '5']);
        if is_refusal && response.get("content").is_none() {
            let schema = json!({ "$ref": "#/components/schemas/ErrorBody" });
            response["content"] = json!({ "application/json": { "schema": schema } });
        }
        if let Some(content) = response.get_mut("content").and_then(Value::as_object_mut) {
            repeat(content, &FORMATS);
            if content.contains_key(FORMATS[0]) {
                content.insert("text/html".to_owned(), json!({ "schema": { "type": "string" } }));
            }
        }
        if is_refusal && response.get("headers").is_none() {
            let name = format!("Refusal{status}");
            let shared = json!({ "$ref": format!("#/components/responses/{name}") });
            refusals.insert(name, std::mem::replace(response, shared));
        }
    }
}

/// What is there in JSON is there in the other formats, too.
fn repeat(content: &mut Map<String, Value>, formats: &[&str]) {
    let Some(json) = content.get(formats[0]).cloned() else { return };
    for format in formats {
        content.entry(*format).or_insert_with(|| json.clone());
    }
}

fn error_schema() -> Value {
    use utoipa::PartialSchema;
    serde_json::to_value(coordinator_api::ErrorBody::schema()).unwrap_or_default()
}
