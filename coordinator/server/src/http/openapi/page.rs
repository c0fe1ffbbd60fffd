//! The description as a page: all in one, nothing is fetched, nothing runs.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

/// The page's looks.
const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; color: #1c2230; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ccd2dd; }
nav a { margin-right: 1rem; } p { white-space: pre-line; }
details { border: 1px solid #ccd2dd; border-radius: 4px; margin: .4rem 0; padding: .3rem .7rem; }
summary { cursor: pointer; } summary b { display: inline-block; width: 4.5rem; }
code, pre { font: 13px/1.4 ui-monospace, monospace; } pre { overflow: auto; background: #f4f6fa; padding: .6rem; }
table { border-collapse: collapse; margin: .5rem 0; } td, th { text-align: left; padding: .15rem .8rem .15rem 0; \
vertical-align: top; }
.get { color: #1a6b3c; } .post { color: #8a4b00; } .put { color: #6a3fa0; } .delete { color: #a02020; }
@media (prefers-color-scheme: dark) { body { background: #14181f; color: #dfe4ee; } pre { background: #1d232d; } \
a { color: #8ab4ff; } }
";

/// The page.
pub(super) fn page(description: &Value) -> Markup {
    let info = &description["info"];
    let tags = description["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (text(&info["title"])) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (text(&info["title"])) }
                p { "Version " (text(&info["version"])) ", OpenAPI " (text(&description["openapi"])) ". As data: "
                    a href="openapi.json" { "openapi.json" } ", " a href="openapi.yaml" { "openapi.yaml" } "." }
                p { (text(&info["description"])) }
                nav {
                    @for tag in tags { a href={ "#" (text(&tag["name"])) } { (text(&tag["name"])) } }
                    a href="#schemas" { "Schemas" }
                }
                @for tag in tags {
                    h2 id=(text(&tag["name"])) { (text(&tag["name"])) }
                    p { (text(&tag["description"])) }
                    @for (path, method, operation) in operations(description, &tag["name"]) {
                        (shown(description, path, method, operation))
                    }
                }
                h2 id="schemas" { "Schemas" }
                @for (name, schema) in description["components"]["schemas"].as_object().into_iter().flatten() {
                    details id={ "schema-" (name) } { summary { code { (name) } } (schema_of(schema)) }
                }
            }
        }
    }
}

fn operations<'a>(
    description: &'a Value,
    tag: &'a Value,
) -> impl Iterator<Item = (&'a String, &'a String, &'a Value)> {
    let paths = description["paths"].as_object().into_iter().flatten();
    let all = paths.flat_map(|(path, item)| {
        let operations = item.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| (path, method, operation))
    });
    all.filter(move |(_, _, operation)| operation["tags"][0] == *tag)
}

fn shown(description: &Value, path: &str, method: &str, operation: &Value) -> Markup {
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    html! {
        details id=(text(&operation["operationId"])) {
            summary { b class=(method) { (method.to_uppercase()) } code { (path) } }
            p { (text(&operation["summary"])) }
            @if let Some(more) = operation["description"].as_str() { p { (more) } }
            @if let Some(who) = operation["security"].as_array() {
                p { "With a " @for (index, scheme) in who.iter().flat_map(Value::as_object).flatten().enumerate() {
                    @if index > 0 { " or " } (scheme.0)
                } "." }
            }
            @if !parameters.is_empty() {
                table {
                    @for parameter in parameters {
                        tr {
                            td { code { (text(&parameter["name"])) } }
                            td { (text(&parameter["in"])) }
                            td { (text(&parameter["description"])) }
                        }
                    }
                }
            }
            @if let Some(content) = operation["requestBody"]["content"].as_object() {
                p { "Body: " (kinds(content)) }
            }
            table {
                @for (status, response) in operation["responses"].as_object().into_iter().flatten() {
                    @let response = resolved(description, response);
                    tr {
                        td { (status) }
                        td { (text(&response["description"])) }
                        td { @if let Some(content) = response["content"].as_object() { (kinds(content)) } }
                    }
                }
            }
        }
    }
}

/// The media types, and what they hold.
fn kinds(content: &serde_json::Map<String, Value>) -> Markup {
    let schema = content.values().find_map(|kind| kind["schema"]["$ref"].as_str());
    html! {
        (content.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
        @if let Some(name) = schema.and_then(|path| path.rsplit('/').next()) {
            ": " a href={ "#schema-" (name) } { (name) }
        }
    }
}

fn schema_of(schema: &Value) -> Markup {
    let text = serde_json::to_string_pretty(schema).unwrap_or_default();
    html! { pre { (text) } }
}

/// What stands where the reference leads.
fn resolved<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| description.pointer(pointer)).unwrap_or(value)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
