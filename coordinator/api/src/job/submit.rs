//! Submission, as OAR's clients write it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::number;

/// `POST /jobs`: the keys are oarsub's long options. Unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SubmitJob {
    /// The command line, given to `sh -c` on the first node (on every node with the type `spmd`).
    #[serde(default)]
    pub command: String,
    /// Resource requests such as `nodes=6,walltime=1:00:00`.
    #[serde(default, alias = "resources", skip_serializing_if = "OneOrMany::is_empty")]
    pub resource: OneOrMany,
    /// Job types such as `mesh`, `spmd`, `desktop_computing`, `idempotent`.
    #[serde(default, rename = "type", skip_serializing_if = "OneOrMany::is_empty")]
    pub types: OneOrMany,
    /// The job's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The project that is accounted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The stage-in archive (tar, gzip): `sha256:` and 64 hexadecimal digits, uploaded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stagein: Option<String>,
    /// The queue: `default` or `besteffort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The condition on all resources, such as `mem > 1000 AND host = 'vol-1'`.
    #[serde(default, alias = "properties", skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
    /// An advance reservation: `YYYY-MM-DD HH:MM:SS`, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// Jobs that must end first, by their numbers.
    #[serde(default, skip_serializing_if = "OneOrMany::is_empty")]
    pub anterior: OneOrMany,
    /// Other than 0: the job waits until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::number")]
    #[cfg_attr(feature = "openapi", schema(schema_with = number::unsigned))]
    pub hold: Option<u32>,
    /// An array: so many jobs, which differ in their index.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::number")]
    #[cfg_attr(feature = "openapi", schema(schema_with = number::unsigned))]
    pub array: Option<u32>,
    /// An array: the text of a parameter file. One job for each line, which its command gets as arguments.
    #[serde(
        default,
        alias = "array-param-file",
        alias = "array_param_file",
        skip_serializing_if = "Option::is_none"
    )]
    pub param_file: Option<String>,
    /// In place of a command: the text of a script, which begins with `#!`, or is one of `sh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Options of oarsub that mean nothing on volunteers' machines: taken, said, and left out.
    #[serde(default, skip_serializing)]
    pub directory: Option<Value>,
    /// See [`directory`](Self::directory): a job's outputs have OAR's usual names.
    #[serde(default, skip_serializing)]
    pub stdout: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, skip_serializing)]
    pub stderr: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, skip_serializing)]
    pub notify: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, skip_serializing)]
    pub checkpoint: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, skip_serializing)]
    pub signal: Option<Value>,
    /// Other than 0: the options in the script's lines `#OAR …` are the job's, where it has none itself.
    #[serde(default, skip_serializing)]
    pub scanscript: Option<Value>,
    /// See [`directory`](Self::directory).
    #[serde(default, rename = "use-job-key", alias = "use_job_key", skip_serializing)]
    pub use_job_key: Option<Value>,
}

impl SubmitJob {
    /// The names of those options that were given and are left out.
    pub fn left_out(&self) -> Vec<&'static str> {
        let options = [
            ("directory", &self.directory),
            ("stdout", &self.stdout),
            ("stderr", &self.stderr),
            ("notify", &self.notify),
            ("checkpoint", &self.checkpoint),
            ("signal", &self.signal),
            ("scanscript", &self.scanscript),
            ("use-job-key", &self.use_job_key),
        ];
        // OAR drops an option that is null or empty.
        let is_given = |value: &Value| !value.is_null() && value.as_str() != Some("");
        let given = options.into_iter().filter(|(_, value)| value.as_ref().is_some_and(is_given));
        given.map(|(name, _)| name).collect()
    }
}

/// OAR takes one string or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OneOrMany(pub Vec<String>);

impl OneOrMany {
    /// No value was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_unit<E>(self) -> Result<OneOrMany, E> {
                Ok(OneOrMany::default())
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }

            fn visit_u64<E>(self, number: u64) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![number.to_string()]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<OneOrMany, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(OneOrMany(values))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Schema, Type};
    use utoipa::{PartialSchema, ToSchema};

    use super::OneOrMany;

    impl PartialSchema for OneOrMany {
        fn schema() -> RefOr<Schema> {
            let of = |kind: Type| ObjectBuilder::new().schema_type(kind).build();
            let one = AnyOfBuilder::new()
                .item(of(Type::String))
                .item(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build())
                .item(of(Type::Null))
                .item(ArrayBuilder::new().items(of(Type::String)));
            Schema::from(one.build()).into()
        }
    }

    impl ToSchema for OneOrMany {}
}
