//! What must hold for any bytes that a user sends: shared by the fuzzer's targets and by an ordinary test.
#![allow(dead_code, reason = "each target uses one of them")]

use coordinator_api::body::BodyKind;
use coordinator_api::job::SubmitJob;
use coordinator_core::{Array, Expression, MAX_ARRAY, Request, Resources, read_directives};

/// The longest refusal, bytes: it may repeat what it refuses, as far as that is read.
const MAX_REFUSAL: usize = 16 * 1024;

/// The value of a `-l`: no panic, and what is understood means the same when it is written back.
pub(crate) fn resources(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let requests: Vec<String> = text.split('\n').map(str::to_owned).collect();
    match Resources::parse(&requests) {
        Err(refusal) => assert!(refusal.to_string().len() <= MAX_REFUSAL, "{refusal}"),
        Ok(resources) => {
            for alternative in &resources.alternatives {
                let shown = alternative.to_string();
                let again = Resources::parse(std::slice::from_ref(&shown));
                let again = again.unwrap_or_else(|refusal| panic!("{shown}: {refusal}"));
                let again = again.first();
                assert_eq!(again.walltime_s, alternative.walltime_s, "{shown}");
                assert_eq!(again.size(), alternative.size(), "{shown}");
            }
        }
    }
}

/// The value of a `-p`: no panic, neither in reading nor in asking.
pub(crate) fn condition(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Expression::parse(text) {
        Err(refusal) => assert!(refusal.to_string().len() <= MAX_REFUSAL, "{refusal}"),
        Ok(expression) => {
            let named = expression.properties().len();
            let again = Expression::parse(&expression.to_string()).expect("it was read");
            assert_eq!(again.properties().len(), named, "{text}");
            for value in [None, Some(""), Some("7"), Some("abc"), Some("%_\\")] {
                assert_eq!(again.holds(&|_| value), expression.holds(&|_| value), "{text}");
            }
        }
    }
}

/// A parameter file: no panic, and never more jobs than an array may have.
pub(crate) fn parameters(bytes: &[u8]) {
    let file = Some(String::from_utf8_lossy(bytes).into_owned());
    let submission =
        SubmitJob { command: "./run".to_owned(), param_file: file, ..SubmitJob::default() };
    match Array::admit(&submission) {
        Err(refusal) => assert!(refusal.to_string().len() <= MAX_REFUSAL, "{refusal}"),
        Ok(array) => assert!((1..=MAX_ARRAY).contains(&array.len())),
    }
}

/// The body of a submission, in the format that the first byte chooses: no panic, and what is admitted can be
/// stored and read again.
pub(crate) fn submission(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let kind = match first {
        b'j' => BodyKind::Json,
        b'y' => BodyKind::Yaml,
        _ => BodyKind::Form,
    };
    let submission = match kind.read::<SubmitJob>(body) {
        Ok(submission) => submission,
        Err(refusal) => return assert!(refusal.words.len() <= MAX_REFUSAL, "{refusal}"),
    };
    let submission = match read_directives(submission) {
        Ok(submission) => submission,
        Err(refusal) => return assert!(refusal.to_string().len() <= MAX_REFUSAL, "{refusal}"),
    };
    if let Ok(array) = Array::admit(&submission) {
        assert!((1..=MAX_ARRAY).contains(&array.len()));
    }
    match Request::admit(&submission) {
        Err(refusal) => assert!(refusal.to_string().len() <= MAX_REFUSAL, "{refusal}"),
        Ok(request) => {
            let _ = request.remarks(&submission);
            let stored = serde_json::to_string(&request).expect("it can be stored");
            let again: Request = serde_json::from_str(&stored).expect("it was stored");
            assert_eq!(again, request);
        }
    }
}
