//! What differs between a recorded answer and ours.

use std::collections::BTreeSet;
use std::mem::discriminant;

use serde_json::Value;

use crate::Exchange;
use crate::replay::Answer;

/// Different in every answer: only the type is compared.
const CHANGING: [&str; 11] = [
    "GLOBAL_STRESS",
    "api_timestamp",
    "date",
    "event_id",
    "last_job_date",
    "mtime",
    "scheduled_start",
    "start_time",
    "stop_time",
    "submission",
    "submission_time",
];

/// The differences. A body is only compared where the status is the same.
pub(crate) fn compare(exchange: &Exchange, answer: &Answer) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if exchange.status != answer.status {
        found.insert(format!("status {}, here {}", exchange.status, answer.status));
    }
    if exchange.r#type != answer.kind {
        let ours = if answer.kind.is_empty() { "none" } else { &answer.kind };
        found.insert(format!("type {}, here {ours}", exchange.r#type));
    }
    if exchange.location.is_some() && exchange.location != answer.location {
        found.insert("location differs".to_owned());
    }
    if found.is_empty() && !exchange.answer.is_null() {
        let typed = exchange.r#type == "application/json";
        values(&mut found, "body", &exchange.answer, &answer.body, typed);
    }
    found
}

fn values(found: &mut BTreeSet<String>, at: &str, theirs: &Value, ours: &Value, typed: bool) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let at = format!("{at}.{key}");
                match ours.get(key) {
                    None => drop(found.insert(format!("{at} is missing"))),
                    Some(own) if CHANGING.contains(&key.as_str()) => {
                        if typed && discriminant(value) != discriminant(own) {
                            found.insert(format!("{at} is of another type"));
                        }
                    }
                    Some(own) => values(found, &at, value, own, typed),
                }
            }
            let more = ours.keys().filter(|key| !theirs.contains_key(*key));
            found.extend(more.map(|key| format!("{at}.{key} is more")));
        }
        (Value::Array(theirs), Value::Array(ours)) => arrays(found, at, theirs, ours, typed),
        (theirs, ours) if typed && theirs == ours => {}
        (theirs, ours) if !typed && text(theirs) == text(ours) => {}
        _ => drop(found.insert(format!("{at} differs"))),
    }
}

/// Links are told apart by where they lead, the resources of a job by their numbers (OAR has no order for
/// them), other items by their place.
fn arrays(found: &mut BTreeSet<String>, at: &str, theirs: &[Value], ours: &[Value], typed: bool) {
    let href = |item: &Value| item["href"].as_str().map(str::to_owned);
    let is_of_job = |item: &Value| item["status"].is_string() && !item["id"].is_null();
    let (mut theirs, mut ours) = (theirs.to_vec(), ours.to_vec());
    if theirs.iter().chain(&ours).all(is_of_job) {
        theirs.sort_by_key(|item| text(&item["id"]));
        ours.sort_by_key(|item| text(&item["id"]));
    }
    if theirs.iter().chain(&ours).any(|item| href(item).is_none()) {
        if theirs.len() != ours.len() {
            found.insert(format!("{at} has another length"));
        }
        for (theirs, ours) in theirs.iter().zip(&ours) {
            values(found, &format!("{at}[]"), theirs, ours, typed);
        }
        return;
    }
    for link in &theirs {
        let name = href(link).unwrap_or_default();
        match ours.iter().find(|own| own["href"] == link["href"]) {
            None => drop(found.insert(format!("{at} lacks {name}"))),
            Some(own) => values(found, &format!("{at}[{name}]"), link, own, typed),
        }
    }
    for own in ours.iter().filter(|own| !theirs.iter().any(|link| link["href"] == own["href"])) {
        found.insert(format!("{at} has {}", href(own).unwrap_or_default()));
    }
}

/// OAR's YAML has no types: a number is its digits.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
