//! `#OAR` lines of a script that is submitted as text: oarsub's options, written where they are needed.

use coordinator_api::job::{OneOrMany, SubmitJob};
use serde_json::Value;

/// A line of a script is no list of options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the script: {reason}")]
pub struct DirectiveRefusal {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// The most lines of options. Chosen: more than a person writes.
const MAX_LINES: usize = 100;

/// The longest part of a line that a refusal repeats, characters.
const MAX_SHOWN: usize = 100;

/// With `scanscript`: the submission with the options of its script's `#OAR` lines. What the submission says
/// itself goes before; of several lines with one value the last one counts.
pub fn read_directives(mut submission: SubmitJob) -> Result<SubmitJob, DirectiveRefusal> {
    let scan = submission.scanscript.take().is_some_and(|value| is_on(&value));
    let script = submission.script.clone().filter(|_| scan).unwrap_or_default();
    let mut of_script = SubmitJob::default();
    let directive = |line: &str| line.strip_prefix("#OAR").map(str::to_owned);
    let lines = script.lines().enumerate().filter_map(|(at, line)| Some((at, directive(line)?)));
    for (count, (at, options)) in lines.filter(|(_, it)| it.starts_with([' ', '\t'])).enumerate() {
        let refuse = |reason: &str| DirectiveRefusal { line: at + 1, reason: reason.to_owned() };
        if count >= MAX_LINES {
            return Err(refuse("a script has at most 100 lines of options"));
        }
        let words = words(&options).ok_or_else(|| refuse("a quote has no end"))?;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, attached) = split(&word);
            let mut value = || {
                let value = attached.clone().or_else(|| words.next());
                value.ok_or_else(|| refuse(&format!("{} needs a value", shown(&name))))
            };
            set(&mut of_script, &name, &mut value)?
                .ok_or_else(|| refuse(&format!("{} is no option of a job", shown(&name))))?;
        }
    }
    Ok(merge(submission, of_script))
}

/// A switch of oarsub: "0" takes it away.
fn is_on(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_u64() != Some(0),
        Value::String(text) => !["", "0"].contains(&&**text),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// `--name=value`, `-lvalue`, or a name alone.
fn split(word: &str) -> (String, Option<String>) {
    if let Some((name, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
        return (name.to_owned(), Some(value.to_owned()));
    }
    let mut letters = word.char_indices();
    let is_short = word.starts_with('-') && !word.starts_with("--");
    match letters.nth(2).filter(|_| is_short) {
        Some((at, _)) => (word[..at].to_owned(), Some(word[at..].to_owned())),
        None => (word.to_owned(), None),
    }
}

/// Sets an option; none if there is none of that name.
fn set(
    job: &mut SubmitJob,
    name: &str,
    value: &mut impl FnMut() -> Result<String, DirectiveRefusal>,
) -> Result<Option<()>, DirectiveRefusal> {
    match name {
        "-l" | "--resource" => job.resource.0.push(value()?),
        "-t" | "--type" => job.types.0.push(value()?),
        "-a" | "--anterior" => job.anterior.0.push(value()?),
        "-p" | "--property" => job.property = Some(value()?),
        "-n" | "--name" => job.name = Some(value()?),
        "-q" | "--queue" => job.queue = Some(value()?),
        "-r" | "--reservation" => job.reservation = Some(value()?),
        "--project" => job.project = Some(value()?),
        "-h" | "--hold" => job.hold = Some(1),
        "-d" | "--directory" => job.directory = Some(Value::from(value()?)),
        "-O" | "--stdout" => job.stdout = Some(Value::from(value()?)),
        "-E" | "--stderr" => job.stderr = Some(Value::from(value()?)),
        "--notify" => job.notify = Some(Value::from(value()?)),
        "--checkpoint" => job.checkpoint = Some(Value::from(value()?)),
        "--signal" => job.signal = Some(Value::from(value()?)),
        _ => return Ok(None),
    }
    Ok(Some(()))
}

fn merge(own: SubmitJob, of_script: SubmitJob) -> SubmitJob {
    let list = |own: OneOrMany, other| if own.is_empty() { other } else { own };
    SubmitJob {
        resource: list(own.resource, of_script.resource),
        types: list(own.types, of_script.types),
        anterior: list(own.anterior, of_script.anterior),
        property: own.property.or(of_script.property),
        name: own.name.or(of_script.name),
        queue: own.queue.or(of_script.queue),
        reservation: own.reservation.or(of_script.reservation),
        project: own.project.or(of_script.project),
        hold: own.hold.or(of_script.hold),
        directory: own.directory.or(of_script.directory),
        stdout: own.stdout.or(of_script.stdout),
        stderr: own.stderr.or(of_script.stderr),
        notify: own.notify.or(of_script.notify),
        checkpoint: own.checkpoint.or(of_script.checkpoint),
        signal: own.signal.or(of_script.signal),
        ..own
    }
}

/// Words as a shell splits them, with '…' and "…"; none if a quote has no end.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(script: &str, more: &str) -> Result<SubmitJob, DirectiveRefusal> {
        let mut job: SubmitJob = serde_json::from_str(more).unwrap();
        job.script = Some(script.to_owned());
        read_directives(job)
    }

    #[test]
    fn options_of_the_script_are_the_jobs_where_it_has_none_itself() {
        let script = "#!/bin/sh\n#OAR -l nodes=2,walltime=1 -t mesh\n#OAR --type=spmd -n 'a b' -q besteffort\n#OAR -h\n\
                      echo '#OAR -n no'\n #OAR -n no\n#OARX -n no\n#OAR\t-nlast\n";
        let job = read(script, r#"{"scanscript":1,"queue":"default"}"#).unwrap();
        assert_eq!(job.resource.0, ["nodes=2,walltime=1"]);
        assert_eq!(job.types.0, ["mesh", "spmd"]);
        assert_eq!((job.name.as_deref(), job.hold), (Some("last"), Some(1)));
        assert_eq!(job.queue.as_deref(), Some("default"));
        assert!(job.left_out().is_empty());
    }

    #[test]
    fn nothing_is_read_when_it_is_not_asked_for() {
        for more in ["{}", r#"{"scanscript":"0"}"#, r#"{"scanscript":null}"#] {
            assert_eq!(read("#OAR -n x --nonsense\n", more).unwrap().name, None, "{more}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_refused_with_its_number() {
        for (line, reason) in [
            ("#OAR -n 'a", "a quote has no end"),
            ("#OAR -n", "-n needs a value"),
            ("#OAR --nonsense=1", "--nonsense is no option of a job"),
            ("#OAR words", "words is no option of a job"),
            ("#OAR -é1", "-é is no option of a job"),
        ] {
            let refusal = read(&format!("#!/bin/sh\n{line}\n"), r#"{"scanscript":true}"#);
            assert_eq!(refusal.unwrap_err().to_string(), format!("line 2 of the script: {reason}"));
        }
        let many = "#OAR -h\n".repeat(101);
        assert!(read(&many, r#"{"scanscript":1}"#).is_err());
    }
}
