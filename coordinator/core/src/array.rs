//! Arrays: many jobs of one submission.

use coordinator_api::job::SubmitJob;

use crate::request::{MAX_COMMAND, command_of};

/// The most jobs of an array. Chosen: a campaign's parameter file, and rows that one transaction can hold.
pub const MAX_ARRAY: usize = 10_000;

/// The longest parameter file, bytes: the API's limit for a body (512 KiB) is lower for most.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// What the jobs of a submission run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Array {
    /// A single job.
    One,
    /// So many jobs with the same command: `--array`.
    Same(u32),
    /// One job for each text, which its command gets as arguments: `--array-param-file`.
    Parameters(Vec<String>),
}

/// Why there is no such array.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArrayRefusal {
    /// Both ways at once.
    #[error("give a number of jobs or a parameter file for the array, not both")]
    Both,
    /// No job at all.
    #[error("an array has 1 job or more")]
    Empty,
    /// Only comments and empty lines.
    #[error("the parameter file has no line with parameters")]
    NoParameters,
    /// Too many jobs.
    #[error("an array has at most {MAX_ARRAY} jobs, here are {0}: submit several arrays")]
    TooMany(usize),
    /// More text than is looked at.
    #[error("the parameter file has {0} bytes, at most {MAX_FILE} are taken")]
    TooLong(usize),
    /// The command and the line together are too long, or hold a NUL.
    #[error(
        "line {0} of the parameter file makes a command of more than {MAX_COMMAND} bytes, or with a NUL"
    )]
    Line(usize),
}

impl Array {
    /// Reads `array` and `param_file` of a submission.
    pub fn admit(submission: &SubmitJob) -> Result<Self, ArrayRefusal> {
        match (submission.array, submission.param_file.as_deref()) {
            (None, None) => Ok(Self::One),
            (Some(_), Some(_)) => Err(ArrayRefusal::Both),
            (Some(0), None) => Err(ArrayRefusal::Empty),
            (Some(1), None) => Ok(Self::One),
            (Some(count), None) => match usize::try_from(count) {
                Ok(jobs) if jobs <= MAX_ARRAY => Ok(Self::Same(count)),
                _ => Err(ArrayRefusal::TooMany(usize::try_from(count).unwrap_or(usize::MAX))),
            },
            (None, Some(text)) => parameters(text, command_of(submission).len()),
        }
    }

    /// How many jobs there are.
    pub fn len(&self) -> usize {
        match self {
            Self::One => 1,
            Self::Same(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            Self::Parameters(lines) => lines.len(),
        }
    }

    /// Never: an array without jobs is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The command of the job with that index, from 0.
    pub(crate) fn command(&self, command: &str, index: usize) -> String {
        match self {
            Self::Parameters(lines) => match lines.get(index) {
                Some(line) => format!("{command} {line}"),
                None => command.to_owned(),
            },
            Self::One | Self::Same(_) => command.to_owned(),
        }
    }
}

/// One job for each line that is neither empty nor a comment, as oarsub reads it.
fn parameters(text: &str, command: usize) -> Result<Array, ArrayRefusal> {
    if text.len() > MAX_FILE {
        return Err(ArrayRefusal::TooLong(text.len()));
    }
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if command + 1 + line.len() > MAX_COMMAND || line.contains('\0') {
            return Err(ArrayRefusal::Line(number + 1));
        }
        lines.push(line.to_owned());
    }
    match lines.len() {
        0 => Err(ArrayRefusal::NoParameters),
        1..=MAX_ARRAY => Ok(Array::Parameters(lines)),
        more => Err(ArrayRefusal::TooMany(more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(array: Option<u32>, param_file: Option<&str>) -> Result<Array, ArrayRefusal> {
        let param_file = param_file.map(str::to_owned);
        Array::admit(&SubmitJob {
            command: "run".to_owned(),
            array,
            param_file,
            ..SubmitJob::default()
        })
    }

    #[test]
    fn a_parameter_file_is_a_job_a_line_without_comments() {
        let array = admit(None, Some("a 1\n# comment\n\n  b 2\r\n\"c d\" 3")).unwrap();
        assert_eq!(array.len(), 3);
        let commands: Vec<String> = (0..3).map(|index| array.command("run", index)).collect();
        assert_eq!(commands, ["run a 1", "run b 2", "run \"c d\" 3"]);
    }

    #[test]
    fn arrays_that_cannot_be_are_refused_with_the_reason() {
        assert_eq!(admit(Some(2), Some("a")), Err(ArrayRefusal::Both));
        assert_eq!(admit(Some(0), None), Err(ArrayRefusal::Empty));
        assert_eq!(admit(Some(10_001), None), Err(ArrayRefusal::TooMany(10_001)));
        assert_eq!(admit(None, Some("# nothing\n \n")), Err(ArrayRefusal::NoParameters));
        assert_eq!(admit(None, Some("a\n\0")), Err(ArrayRefusal::Line(2)));
        let long = "x".repeat(MAX_COMMAND);
        assert_eq!(admit(None, Some(&long)), Err(ArrayRefusal::Line(1)));
        assert_eq!(admit(None, Some(&"a\n".repeat(10_001))), Err(ArrayRefusal::TooMany(10_001)));
        let huge = "#".repeat(MAX_FILE + 1);
        assert_eq!(admit(None, Some(&huge)), Err(ArrayRefusal::TooLong(MAX_FILE + 1)));
    }

    #[test]
    fn an_array_of_one_is_a_single_job() {
        assert_eq!(admit(Some(1), None), Ok(Array::One));
        assert_eq!(admit(Some(3), None).map(|array| array.len()), Ok(3));
    }
}
