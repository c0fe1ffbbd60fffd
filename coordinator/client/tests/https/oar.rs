//! A plain OAR server: its faults, one by one.

use coordinator_api::agent::{ReportedState, SetState};
use coordinator_client::client::Wanted;
use coordinator_client::transfer::TransferError;
use coordinator_client::{Client, ClientError, OarLogin};

use crate::server::{Answer, Server, answer, head};

fn client(server: &Server) -> Client {
    let login = OarLogin::Password { user: "volunteer".into(), password: "secret".into() };
    Client::for_oar(&server.url, "vol-1", &login, std::slice::from_ref(&server.root)).unwrap()
}

/// Apache's own, when a worker has ended.
fn spurious() -> Answer {
    answer("500 Internal Server Error", "<html>Internal Server Error</html>")
}

fn details(state: &str, node: &str) -> Answer {
    answer(
        "200 OK",
        &format!(
            r#"{{"id":7,"name":null,"state":"{state}","owner":"alice","command":"true","types":[],
                "resources":[{{"id":1,"network_address":"{node}"}},{{"id":2,"network_address":"vol-9"}}]}}"#
        ),
    )
}

fn list() -> Answer {
    answer("200 OK", r#"{"items":[{"id":7,"links":[],"api_timestamp":1}],"total":1,"offset":0}"#)
}

fn said(state: ReportedState) -> SetState {
    SetState { state, generation: 0, exit_code: Some(0), fault: None, message: None }
}

#[tokio::test]
async fn an_answer_of_a_worker_that_has_ended_is_asked_for_again() {
    let server =
        Server::start(vec![spurious(), spurious(), list(), details("toLaunch", "vol-1"), list()]);
    let client = client(&server);
    let orders = client.node_jobs("vol-1", Wanted::ToLaunch).await.unwrap();
    assert_eq!((orders[0].id, orders[0].generation), (7, 0));
    // Whose first node it is was asked once.
    assert_eq!(client.node_jobs("vol-1", Wanted::ToKill).await.unwrap().len(), 1);
    let requests = server.requests();
    assert!(requests[4].starts_with("get /oarapi/resources/nodes/vol-1/jobs.json?state=tokill "));
    // printf volunteer:secret | base64, in lower case as the heads are kept.
    let shown = "authorization: basic dm9sdw50zwvyonnly3jlda==\r\n";
    assert!(requests.iter().all(|head| head.contains(shown)), "{requests:?}");
}

#[tokio::test]
async fn three_in_a_row_are_believed() {
    let server = Server::start(vec![spurious(), spurious(), spurious()]);
    let error = client(&server).node_jobs("vol-1", Wanted::ToLaunch).await.unwrap_err();
    assert_eq!(error.status(), Some(500));
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_job_belongs_to_its_first_node() {
    let server = Server::start(vec![list(), details("toLaunch", "vol-0")]);
    assert!(client(&server).node_jobs("vol-1", Wanted::ToLaunch).await.unwrap().is_empty());
}

#[tokio::test]
async fn whether_there_is_a_stage_in_is_asked() {
    for (status, expected) in [("200 OK", true), ("404 Not Found", false)] {
        let server = Server::start(vec![details("toLaunch", "vol-1"), head(status, "X-Y: z")]);
        let job = client(&server).job(7).await.unwrap();
        assert_eq!(job.assignment.unwrap().stagein, expected);
        assert!(server.requests()[1].starts_with("head /oarapi/jobs/7/stageinhead.tgz "));
    }
}

#[tokio::test]
async fn a_report_that_was_not_taken_is_no_report() {
    let ok = || answer("200 OK", "");
    for (reported, state, expected) in [
        (ReportedState::Running, "Running", None),
        (ReportedState::Running, "toLaunch", Some(true)),
        // Deleted meanwhile: nothing is to be run.
        (ReportedState::Running, "Error", Some(false)),
        (ReportedState::Terminated, "Terminated", None),
        (ReportedState::Terminated, "Error", None),
        (ReportedState::Error, "Running", Some(true)),
    ] {
        let server = Server::start(vec![ok(), details(state, "vol-1")]);
        let told = client(&server).set_state(7, &said(reported)).await;
        let again = told.err().map(|error| matches!(error, ClientError::BadAnswer { .. }));
        assert_eq!(again, expected, "{reported:?} and {state}");
    }
}

#[tokio::test]
async fn results_go_as_a_form_with_zeros_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a.tgz");
    std::fs::write(&archive, b"archive").unwrap();
    let server = Server::start(vec![answer("200 OK", "")]);
    client(&server).upload_stageout(7, 0, &archive).await.unwrap();
    let body = server.body();
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("name=\"myfile\"; filename=\"7.tgz\""), "{text}");
    let at = body.windows(7).position(|window| window == b"archive").unwrap() + 7;
    let zeros = body[at..].iter().take_while(|byte| **byte == 0).count();
    assert_eq!(zeros, 16 << 10, "twice what a worker keeps to itself");
}

#[tokio::test]
async fn a_server_that_fails_at_nothing_but_the_results_is_not_asked_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a.tgz");
    std::fs::write(&archive, b"archive").unwrap();
    let answers = (0..4).flat_map(|_| [spurious(), details("Running", "vol-1")]);
    let server = Server::start(answers.collect());
    let error = client(&server).upload_stageout(7, 0, &archive).await.unwrap_err();
    assert!(matches!(error, TransferError::NotTaken { length: 7, .. }), "{error}");
    assert!(error.to_string().contains("FcgidMaxRequestLen"), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_server_that_is_away_altogether_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("a.tgz");
    std::fs::write(&archive, b"archive").unwrap();
    let down = || answer("503 Service Unavailable", "");
    let server = Server::start(vec![spurious(), down()]);
    let error = client(&server).upload_stageout(7, 0, &archive).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn only_https_and_http_are_ways_and_strangers_are_told_nothing() {
    let login = OarLogin::Trusted { user: "volunteer".into() };
    for url in ["ftp://host/oarapi", "host/oarapi", "http://"] {
        assert!(matches!(
            Client::for_oar(url, "vol-1", &login, &[]),
            Err(ClientError::BadUrl { .. })
        ));
    }
    let server = Server::start(vec![Answer::new()]);
    let stranger = Client::for_oar(&server.url, "vol-1", &login, &[]).unwrap();
    let error = stranger.whoami().await.unwrap_err();
    assert!(matches!(error, ClientError::NotTheCoordinator { .. }), "{error}");
    assert!(server.requests().is_empty());
}
