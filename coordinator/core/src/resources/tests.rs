use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Resources, ResourceRefusal> {
    Resources::parse(&[text.to_owned()])
}

fn written(text: &str) -> String {
    parse(text).expect(text).wanted()
}

#[test]
fn requests_are_read_and_written_back_as_oar_does() {
    for (text, expected) in [
        ("nodes=6", "{type = 'default'}/network_address=6,walltime=2:0:0"),
        ("/nodes=6,walltime=1", "{type = 'default'}/network_address=6,walltime=1:0:0"),
        ("host=2/core=3", "{type = 'default'}/network_address=2/core=3,walltime=2:0:0"),
        ("core=4,walltime=0:5", "{type = 'default'}/core=4,walltime=0:5:0"),
        ("walltime=0:90:0", "{type = 'default'}/resource_id=1,walltime=1:30:0"),
        (
            " / switch = 2 / nodes=ALL , walltime = 1:2:3 ",
            "{type = 'default'}/switch=2/network_address=ALL,walltime=1:2:3",
        ),
        ("nodes=BEST", "{type = 'default'}/network_address=BEST,walltime=2:0:0"),
        (
            "/nodes=besthalf/cpu=1",
            "{type = 'default'}/network_address=BESTHALF/cpu=1,walltime=2:0:0",
        ),
        (
            "{mem > 5 AND x = '}'}/nodes=2/core=1+{gpu=1}gpu=1+core=1,walltime=1:00:00",
            "{(mem > 5 AND x = '}') AND type = 'default'}/network_address=2/core=1\
             +{(gpu=1) AND type = 'default'}/gpu=1+{type = 'default'}/core=1,walltime=1:0:0",
        ),
        ("{}/nodes=1", "{type = 'default'}/network_address=1,walltime=2:0:0"),
    ] {
        assert_eq!(written(text), format!("-l \"{expected}\" "), "{text}");
    }
}

#[test]
fn no_request_means_one_resource_for_two_hours() {
    let expected = "-l \"{type = 'default'}/resource_id=1,walltime=2:0:0\" ";
    assert_eq!(Resources::parse(&[]).unwrap().wanted(), expected);
}

#[test]
fn several_requests_are_alternatives() {
    let both = ["/nodes=2,walltime=0:01:00".to_owned(), "/nodes=1,walltime=0:02:00".to_owned()];
    let resources = Resources::parse(&both).unwrap();
    let walltimes: Vec<u64> = resources.alternatives.iter().map(|it| it.walltime_s).collect();
    assert_eq!(walltimes, [60, 120]);
    let many = vec!["nodes=1".to_owned(); MAX_PARTS + 1];
    assert_eq!(Resources::parse(&many), Err(ResourceRefusal::TooMany(MAX_PARTS + 1)));
}

#[test]
fn errors_point_at_the_column() {
    for (text, column, says) in [
        ("", 1, "a level"),
        ("nodes", 6, "`=`"),
        ("nodes=", 7, "a number, ALL"),
        ("nodes=abc", 7, "abc is no number"),
        ("nodes=0", 7, "0 is no number"),
        ("nodes=-1", 7, "-1 is no number"),
        ("nodes=1.5", 7, "1.5 is no number"),
        ("nodes=99999999", 7, "is no number"),
        ("//nodes=1", 2, "a level"),
        ("/nodes=1/", 10, "a level"),
        ("nodes=1+", 9, "a level"),
        ("nodes=1,foo=2", 9, "walltime=TIME"),
        ("nodes=1,walltime=0", 18, "no walltime"),
        ("nodes=1,walltime=", 18, "no walltime"),
        ("nodes=1,walltime=1:2:3:4", 18, "no walltime"),
        ("nodes=1,walltime=9999999", 18, "no walltime"),
        ("nodes=1,walltime=1,walltime=2", 19, "the end"),
        ("nodes=1;ls", 8, "found ';'"),
        ("{gpu='YES'/nodes=1", 1, "not closed"),
        ("{gpu=YES}/nodes=1", 6, "between quotes: 'YES'"),
        ("nodes=1+{ mem >}/core=1", 16, "a number or a 'text'"),
        ("{mem > 1} mem", 14, "`=`"),
    ] {
        match parse(text).expect_err(text) {
            ResourceRefusal::Unreadable(error) => {
                assert_eq!(error.column, column, "{text}: {error}");
                assert!(error.message.contains(says), "{text}: {error}");
            }
            other @ ResourceRefusal::TooMany(_) => panic!("{text}: {other}"),
        }
    }
    assert!(parse(&"x".repeat(MAX_REQUEST + 1)).unwrap_err().to_string().len() < 400);
    assert!(parse(&"a=1/".repeat(MAX_PARTS + 1)).unwrap_err().to_string().contains("levels"));
    assert!(parse(&"a=1+".repeat(MAX_PARTS + 1)).unwrap_err().to_string().contains("groups"));
}

#[test]
fn rows_of_the_first_version_are_understood() {
    let old = r#"{"nodes":2,"cores":3,"walltime_s":60}"#;
    let resources: Resources = serde_json::from_str(old).unwrap();
    assert_eq!(resources, parse("nodes=2/core=3,walltime=0:1").unwrap());
    let old = r#"{"nodes":1,"walltime_s":3600}"#;
    let resources: Resources = serde_json::from_str(old).unwrap();
    assert_eq!(resources, parse("nodes=1,walltime=1").unwrap());
    let new = serde_json::to_string(&parse("{mem > 5}/nodes=1").unwrap()).unwrap();
    let again: Resources = serde_json::from_str(&new).unwrap();
    assert_eq!(again, parse("{mem > 5}/nodes=1").unwrap());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_at_one_of_its_columns(text in "\\PC{0,60}") {
        if let Err(ResourceRefusal::Unreadable(error)) = parse(&text) {
            prop_assert!(error.column <= text.chars().count() + 1, "{}", error);
        }
    }

    #[test]
    fn what_is_read_is_read_again_as_it_is_written(words in proptest::collection::vec(prop_oneof![
        Just("nodes"), Just("core"), Just("="), Just("=2"), Just("=ALL"), Just("/"), Just("+"), Just(","),
        Just("walltime"), Just("=1:2"), Just("{mem > 5}"), Just("{"), Just("}"), Just("'"), Just(" "),
    ], 0..14)) {
        if let Ok(read) = parse(&words.concat()) {
            let first = read.first();
            let kept = first.groups.iter().map(|group| group.levels.clone()).collect::<Vec<_>>();
            let again = parse(&first.to_string()).unwrap();
            let levels = again.first().groups.iter().map(|group| group.levels.clone());
            prop_assert_eq!(levels.collect::<Vec<_>>(), kept);
            prop_assert_eq!(again.first().walltime_s, first.walltime_s);
        }
    }
}
