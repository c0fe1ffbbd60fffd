//! The API's description: committed as it is generated, served, and read by people.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use crate::site::Site;

/// As it is committed.
fn committed() -> Value {
    serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap()
}

#[test]
fn the_committed_description_is_the_generated_one() {
    let is_same = committed() == *coordinator::http::description();
    assert!(is_same, "docs/openapi.json is of yesterday: coordinator openapi > docs/openapi.json");
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
    let description = coordinator::http::description();
    let mut references = Vec::new();
    collect(description, &mut references);
    assert!(references.len() > 100, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference}");
    }
    let operations = description["paths"].as_object().unwrap().values();
    let operations = operations.flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<&str> =
        operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{ids:?}");
}

fn collect<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            references.extend(object.get("$ref").and_then(Value::as_str));
            object.values().for_each(|value| collect(value, references));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn the_description_is_served_to_everybody_as_data_and_as_a_page() {
    let site = Site::start().await;
    let (status, described) = site.send(Method::GET, "/openapi.json", None, None).await;
    assert_eq!((status.as_u16(), described["openapi"].as_str()), (200, Some("3.1.0")));
    assert_eq!(described, committed());

    let page = site.request(Method::GET, "/openapi.html", None).send().await.unwrap();
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = page.text().await.unwrap();
    for path in described["paths"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("<code>{path}</code>")), "{path}");
    }
    // It is all in one: nothing is fetched, and nothing runs.
    for foreign in ["<script", "src=", "http://", "https://", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}
