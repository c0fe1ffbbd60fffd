//! What differs between a recorded answer and ours.

use std::mem::discriminant;

use serde_json::Value;

use crate::Exchange;
use crate::replay::Answer;

/// Different in every answer: only the type is compared.
const CHANGING: [&str; 2] = ["api_timestamp", "GLOBAL_STRESS"];

/// The differences, in a fixed order. A body is only compared where the status is the same.
pub(crate) fn compare(exchange: &Exchange, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if exchange.status != answer.status {
        found.push(format!("status {}, here {}", exchange.status, answer.status));
    }
    if exchange.r#type != answer.kind {
        found.push(format!("type {}, here {}", exchange.r#type, answer.kind));
    }
    if found.is_empty() && !exchange.answer.is_null() {
        let typed = exchange.r#type == "application/json";
        values(&mut found, "body", &exchange.answer, &answer.body, typed);
    }
    found
}

fn values(found: &mut Vec<String>, at: &str, theirs: &Value, ours: &Value, typed: bool) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let at = format!("{at}.{key}");
                match ours.get(key) {
                    None => found.push(format!("{at} is missing")),
                    Some(own) if CHANGING.contains(&key.as_str()) => {
                        if typed && discriminant(value) != discriminant(own) {
                            found.push(format!("{at} is of another type"));
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
        _ => found.push(format!("{at} differs")),
    }
}

/// Links are told apart by where they lead, other items by their place.
fn arrays(found: &mut Vec<String>, at: &str, theirs: &[Value], ours: &[Value], typed: bool) {
    let href = |item: &Value| item["href"].as_str().map(str::to_owned);
    if theirs.iter().chain(ours).any(|item| href(item).is_none()) {
        if theirs.len() != ours.len() {
            found.push(format!("{at} has another length"));
        }
        for (place, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
            values(found, &format!("{at}[{place}]"), theirs, ours, typed);
        }
        return;
    }
    for link in theirs {
        let name = href(link).unwrap_or_default();
        match ours.iter().find(|own| own["href"] == link["href"]) {
            None => found.push(format!("{at} lacks {name}")),
            Some(own) => values(found, &format!("{at}[{name}]"), link, own, typed),
        }
    }
    for own in ours.iter().filter(|own| !theirs.iter().any(|link| link["href"] == own["href"])) {
        found.push(format!("{at} has {}", href(own).unwrap_or_default()));
    }
}

/// OAR's YAML has no types: a number is its digits.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
