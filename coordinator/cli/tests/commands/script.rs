//! `#OAR` lines, and logins in the environment.

use serde_json::json;

use crate::Desk;
use crate::server::Server;

const SCRIPT: &str = "#!/bin/sh\n#OAR -l nodes=2,walltime=1:0:0 -n written\n#OAR -t mesh -p \"mem > 10\"\n\
                      #OARNOT -q nothing\necho '#OAR -q late' \n";

#[test]
fn options_are_read_from_the_script_and_the_command_line_goes_before() {
    let server = Server::start();
    let desk = Desk::logged_in(&server);
    std::fs::write(desk.path("job.sh"), SCRIPT).unwrap();
    desk.output("oarsub", &["-S", "-n", "given", "./job.sh", "1"]);
    let job = server.seen.lock().unwrap().submitted.remove(0);
    assert_eq!(job["command"], "./job.sh 1");
    assert_eq!((&job["name"], &job["property"]), (&json!("given"), &json!("mem > 10")));
    assert_eq!(job["resource"], json!(["nodes=2,walltime=1:0:0"]));
    assert_eq!(job["type"], json!(["mesh"]));
    assert!(job.get("queue").is_none(), "{job}");
    desk.output("oarsub", &["./job.sh"]);
    let job = server.seen.lock().unwrap().submitted.remove(0);
    assert!(job.get("name").is_none(), "without -S the script is not read: {job}");
}

#[test]
fn a_line_that_is_wrong_is_named() {
    let desk = Desk::new();
    for (line, says) in [
        ("#OAR --nosuchoption", "job.sh, line 2: unexpected argument '--nosuchoption'"),
        ("#OAR -n 'a", "job.sh, line 2: a quote has no end"),
        ("#OAR rm -rf x", "job.sh, line 2: "),
        ("#OAR --resubmit 3", "job.sh, line 2: "),
    ] {
        std::fs::write(desk.path("job.sh"), format!("#!/bin/sh\n{line}\n")).unwrap();
        let text = desk.refusal(2, "oarsub", &["-S", "./job.sh"]);
        assert!(text.contains(says), "{line}: {text}");
    }
    assert!(desk.refusal(6, "oarsub", &["-S", "./missing"]).contains("./missing"));
}

#[test]
fn a_login_in_the_environment_goes_before_the_stored_one() {
    let server = Server::start();
    let desk = Desk::new();
    let whole = server.login.to_string();
    let run = |variables: &[(&str, &str)]| {
        let mut tool = desk.tool("oarsub");
        tool.arg("true").envs(variables.iter().copied());
        let done = tool.assert();
        let output = done.get_output();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(run(&[]).0, Some(3), "no login");
    assert_eq!(run(&[("OAR_TOKEN", "only-a-token")]).0, Some(3), "of which coordinator?");
    let (code, text) = run(&[("OAR_TOKEN", &whole)]);
    assert_eq!(code, Some(0), "{text}");

    let mut elsewhere = server.login.clone();
    let url = std::mem::replace(&mut elsewhere.url, "https://127.0.0.1:1/oarapi".to_owned());
    elsewhere.token = "another".to_owned();
    std::fs::write(desk.path("oar.json"), json!({"login": elsewhere.to_string()}).to_string())
        .unwrap();
    assert_eq!(run(&[]).0, Some(4), "nobody is there");
    assert_eq!(run(&[("OAR_API", &url)]).0, Some(1), "it is there, and knows no such token");
    let (code, text) = run(&[("OAR_API", &url), ("OAR_TOKEN", &server.login.token)]);
    assert_eq!(code, Some(0), "{text}");
}
