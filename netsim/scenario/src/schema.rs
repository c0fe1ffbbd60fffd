//! The format as a JSON schema, for editors.

use serde_json::Value;

use crate::file::Scenario;

/// The JSON schema of scenario files. `netsim/scenarios/scenario.schema.json` is this, pretty.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Scenario);
    schema.insert("title".to_owned(), "A scenario of Clouds@home's netsim".into());
    schema.to_value()
}
