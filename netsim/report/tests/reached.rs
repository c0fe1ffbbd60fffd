//! How long pairs took, from the later of the two netmaps.

use netsim_report::model::Run;
use netsim_report::{Backend, Budget, PathKind, Recorder, Role, RunInfo, What, reached, read};

#[test]
fn times_begin_when_both_nodes_know_of_the_pair() {
    let dir = tempfile::tempdir().unwrap();
    let info = RunInfo::begin("two machines", "two.toml", 7, Backend::Lab);
    let recorder =
        Recorder::create(dir.path(), info, &serde_json::json!({}), "", Budget::default()).unwrap();
    for (node, behind) in [("vol-1", "home"), ("vol-2", "symmetric"), ("vol-3", "none")] {
        let (node, behind) = (node.to_owned(), behind.to_owned());
        let (role, router, region, cores) = (Role::Volunteer, None, None, None);
        recorder.record_at(
            0.0,
            What::Node { node, role, behind, router, region, coordinator: None, cores },
        );
    }
    let path = |t: f64, from: &str, to: &str, path| {
        let (from, to, explain) = (from.to_owned(), to.to_owned(), String::new());
        let what = What::Path { job: 1.into(), from, to, path, via: None, rtt_ms: None, explain };
        recorder.record_at(t, what);
    };
    path(2.0, "vol-1", "vol-2", PathKind::None);
    path(2.5, "vol-2", "vol-1", PathKind::None);
    path(2.75, "vol-1", "vol-2", PathKind::Relayed);
    path(3.0, "vol-2", "vol-1", PathKind::Relayed);
    path(3.5, "vol-1", "vol-2", PathKind::Direct);
    // Nobody has ever heard of it at the other end.
    path(2.0, "vol-1", "vol-3", PathKind::None);
    let (from, to) = ("vol-1".to_owned(), "vol-2".to_owned());
    let (best, by_guessing) = (PathKind::Direct, false);
    recorder.record_at(4.0, What::Predicted { from, to, path: best, by_guessing });
    recorder.finish(5.0, true, None).unwrap();

    let pairs = reached::of(&Run::of(read::read(dir.path()).unwrap()));

    let times: Vec<_> = pairs
        .iter()
        .map(|pair| (pair.from.as_str(), pair.first_byte_s, pair.direct_s, pair.path))
        .collect();
    let forth = ("home", Some(0.25), Some(1.0), PathKind::Direct);
    assert_eq!(times, [forth, ("symmetric", Some(0.5), None, PathKind::Relayed)]);
    assert!(pairs.iter().all(|pair| pair.predicted.is_some_and(|p| p.path == PathKind::Direct)));
}
