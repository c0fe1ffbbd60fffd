//! The committed JSON schema is the one that the types make, and shipped scenarios fulfil it.

use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use netsim_scenario::schema;
use serde_json::Value;

/// What the schema says about documents.
struct Validator(Schemas, SchemaIndex);

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("scenario.schema.json", schema()).expect("it is new");
        let index = compiler.compile("scenario.schema.json", &mut schemas);
        let index = index.expect("it is a schema");
        Self(schemas, index)
    }

    fn fault(&self, text: &str) -> Option<String> {
        let value: Value = toml::from_str(text).expect("it is TOML");
        self.0.validate(&value, self.1).err().map(|error| format!("{error:#}"))
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
}

#[test]
fn the_committed_schema_is_up_to_date() {
    let file = folder().join("scenario.schema.json");
    let made = format!("{:#}\n", schema());
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&file, &made).unwrap();
    } else {
        let is_same = committed == made;
        assert!(is_same, "{} is out of date: run this with UPDATE_SCHEMA=1", file.display());
    }
}

#[test]
fn every_shipped_scenario_fulfils_the_schema_and_names_it() {
    let validator = Validator::new();
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "toml")).collect();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let header = "#:schema scenario.schema.json\n";
        assert!(text.starts_with(header), "{}: begin with {header}", file.display());
        let fault = validator.fault(&text);
        assert_eq!(fault, None, "{}", file.display());
    }
}

#[test]
fn the_schema_refuses_what_the_program_refuses() {
    let validator = Validator::new();
    let is_right = |text: &str| validator.fault(text).is_none();
    let smallest = "[[volunteers]]\nbehind = \"home\"\n[[job]]\ncommand = \"true\"\n";
    assert!(is_right(smallest));
    assert!(is_right(&format!("{smallest}walltime = \"1m 30s\"")));
    for wrong in [
        "colour = 1".to_owned(),
        smallest.replace("home", "hom"),
        format!("{smallest}walltime = 5"),
        format!("{smallest}walltime = \"5\""),
        format!("{smallest}nodes = 0"),
        format!("{smallest}[[event]]\ndo = \"explode\""),
        format!("{smallest}[[routers]]\nname = \"a\"\nuplink = \"adls\""),
    ] {
        assert!(!is_right(&wrong), "{wrong}");
    }
}
