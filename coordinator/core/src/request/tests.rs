//! What is admitted, and what is not.

use coordinator_api::job::OneOrMany;

use overlay_core::Pattern;

use super::types::MAX_TYPES;
use super::*;

fn submission(types: &[&str]) -> SubmitJob {
    SubmitJob {
        command: "nqueens 15".to_owned(),
        types: OneOrMany(types.iter().map(|&name| name.to_owned()).collect()),
        ..SubmitJob::default()
    }
}

#[test]
fn every_job_is_a_desktop_computing_job() {
    let request = Request::admit(&submission(&["mesh", "spmd"])).unwrap();
    assert_eq!(request.types.names(), ["desktop_computing", "mesh", "spmd"]);
    assert_eq!(request.to_string(), "R=1,W=2:0:0,J=B,T=desktop_computing|mesh|spmd");
}

#[test]
fn unknown_types_are_refused_with_oars_words() {
    let refusal = Request::admit(&submission(&["nosuchtype"])).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "[ADMISSION RULE] Error: unknown job type: nosuchtype (known: mesh, mesh=PATTERN, spmd, idempotent, besteffort, postpone=, deadline=, expire=, desktop_computing)"
    );
    let refusal = Request::admit(&submission(&["inner=5"])).unwrap_err();
    assert_eq!(refusal, RequestRefusal::UnsupportedType("inner=5".to_owned()));
}

#[test]
fn a_mesh_may_have_a_pattern() {
    for (name, pattern) in [
        ("mesh", Pattern::All),
        ("mesh=ring", Pattern::Ring),
        ("mesh=star", Pattern::Star),
        ("mesh=tree", Pattern::Tree),
        ("mesh=grid", Pattern::Grid),
    ] {
        let types = Request::admit(&submission(&[name, "spmd", name])).unwrap().types;
        assert_eq!((types.mesh, types.pattern), (true, pattern));
        assert_eq!(types.names(), ["desktop_computing", name, "spmd"]);
        let stored = serde_json::to_string(&types).unwrap();
        assert_eq!(serde_json::from_str::<JobTypes>(&stored).unwrap(), types);
    }
    let all = Request::admit(&submission(&["mesh=all"])).unwrap();
    assert_eq!(all.types.names(), ["desktop_computing", "mesh"]);
    assert_eq!(all.initial_request, "oarsub --type=mesh=all nqueens 15");
    let same = Request::admit(&submission(&["mesh", "mesh=all"])).unwrap();
    assert_eq!(same.types.pattern, Pattern::All, "the plain type says the same");
    for plain in [["mesh", "mesh=ring"], ["mesh=ring", "mesh"]] {
        let refusal = Request::admit(&submission(&plain)).unwrap_err();
        let [first, second] = plain.map(str::to_owned);
        assert_eq!(refusal, RequestRefusal::TwoPatterns(first, second));
    }
}

#[test]
fn types_that_were_stored_before_there_were_patterns_mean_all() {
    let stored = r#"{"mesh":true,"spmd":false,"idempotent":false}"#;
    assert_eq!(serde_json::from_str::<JobTypes>(stored).unwrap().pattern, Pattern::All);
}

#[test]
fn unknown_and_contradictory_patterns_are_refused() {
    for bad in ["mesh=torus", "mesh=", "mesh=Ring", "mesh=ring "] {
        let refusal = Request::admit(&submission(&[bad])).unwrap_err();
        assert_eq!(refusal, RequestRefusal::UnknownPattern(bad.to_owned()));
    }
    assert_eq!(
        Request::admit(&submission(&["mesh=torus"])).unwrap_err().to_string(),
        "[ADMISSION RULE] Error: unknown mesh pattern: mesh=torus (known: mesh=all, mesh=ring, mesh=star, mesh=tree, mesh=grid)"
    );
    let refusal = Request::admit(&submission(&["mesh=ring", "mesh=star"])).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "[ADMISSION RULE] Error: mesh=ring and mesh=star: a job has one network, give it one pattern"
    );
}

#[test]
fn what_is_kept_of_a_request_is_bounded() {
    let many = ["spmd"; MAX_TYPES + 1];
    let refusal = Request::admit(&submission(&many)).unwrap_err();
    assert_eq!(refusal, RequestRefusal::TooManyTypes(MAX_TYPES + 1));
    let resource = OneOrMany(vec![format!("{}nodes=1", " ".repeat(100_000))]);
    let long = SubmitJob { resource, ..submission(&[]) };
    assert!(matches!(Request::admit(&long), Err(RequestRefusal::Resources(_))));
}

#[test]
fn a_job_without_a_command_is_refused() {
    let empty = SubmitJob { command: "  ".to_owned(), ..SubmitJob::default() };
    assert_eq!(Request::admit(&empty), Err(RequestRefusal::NoCommand));
}

#[test]
fn names_that_would_leave_the_directory_are_refused() {
    for name in ["../x", "a/b", ".hidden", "a\nb", "a\0b"] {
        let bad = SubmitJob { name: Some(name.to_owned()), ..submission(&[]) };
        assert!(matches!(Request::admit(&bad), Err(RequestRefusal::Name(_))), "{name:?}");
    }
}

#[test]
fn a_stage_in_is_named_by_its_hash() {
    let hash = "AB".repeat(32);
    let good = SubmitJob { stagein: Some(format!("sha256:{hash}")), ..submission(&[]) };
    let request = Request::admit(&good).unwrap();
    assert_eq!(request.stagein_sha256, Some(hash.to_lowercase()));
    assert!(!request.initial_request.contains(&hash), "{}", request.initial_request);
    for bad in ["", "abc", "sha256:12", "md5:00", &format!("sha256:{}", "z".repeat(64))] {
        let bad = SubmitJob { stagein: Some(bad.to_owned()), ..submission(&[]) };
        assert!(matches!(Request::admit(&bad), Err(RequestRefusal::Stagein(_))));
    }
}

#[test]
fn the_initial_request_is_the_command_line_that_asks_for_the_same() {
    let submission = SubmitJob {
        resource: OneOrMany(vec!["nodes=2".to_owned()]),
        name: Some("q".to_owned()),
        ..submission(&["mesh"])
    };
    let request = Request::admit(&submission).unwrap();
    assert_eq!(
        request.initial_request,
        "oarsub --name=q --resource=nodes=2 --type=mesh nqueens 15"
    );
}

#[test]
fn what_counts_within_a_machine_is_no_level() {
    let resource = OneOrMany(vec!["/cpuset=1".to_owned()]);
    let refusal = Request::admit(&SubmitJob { resource, ..submission(&[]) }).unwrap_err();
    assert_eq!(refusal.to_string(), "[ADMISSION RULE] 'cpuset' resource is not allowed");
    let resource = OneOrMany(vec!["{cpuset < 2}/nodes=1".to_owned()]);
    assert!(Request::admit(&SubmitJob { resource, ..submission(&[]) }).is_ok());
}

#[test]
fn a_script_becomes_the_command_that_writes_and_runs_it() {
    let script = |text: &str| SubmitJob { script: Some(text.to_owned()), ..SubmitJob::default() };
    let request = Request::admit(&script("#!/bin/bash\necho 1")).unwrap();
    let expected = "cat > .oar-script <<'OAR_END_OF_SCRIPT'\n#!/bin/bash\necho 1\nOAR_END_OF_SCRIPT\n\
                    chmod +x .oar-script && exec ./.oar-script";
    assert_eq!(request.command, expected);
    assert_eq!(request.initial_request, "oarsub script");
    let end = Request::admit(&script("echo 1\nOAR_END_OF_SCRIPT\nrm x"));
    assert_eq!(end, Err(RequestRefusal::Script));
    let empty = Request::admit(&script(" \n"));
    assert_eq!(empty, Err(RequestRefusal::NoCommand));
}

#[test]
fn options_that_mean_nothing_here_are_said_and_left_out() {
    let text = r#"{"command":"true","directory":"/tmp","checkpoint":60,"notify":"","signal":null}"#;
    let submission: SubmitJob = serde_json::from_str(text).unwrap();
    let request = Request::admit(&submission).unwrap();
    let remarks = request.remarks(&submission);
    for (option, count) in [("directory", 1), ("checkpoint", 1), ("notify", 0), ("signal", 0)] {
        assert_eq!(remarks.matches(&format!("{option} means nothing")).count(), count, "{remarks}");
    }
}
