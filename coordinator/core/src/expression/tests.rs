use proptest::prelude::*;

use super::*;

const PROPERTIES: [(&str, &str); 4] =
    [("host", "vol-1"), ("mem", "2048"), ("gpu", "YES"), ("model", "it's 50%")];

fn property(name: &str) -> Option<&'static str> {
    PROPERTIES.iter().find(|(known, _)| *known == name).map(|&(_, value)| value)
}

fn holds(text: &str) -> bool {
    Expression::parse(text).expect(text).holds(&property)
}

#[test]
fn conditions_are_evaluated_as_sql_does() {
    for text in [
        "mem > 1000 AND host = 'vol-1'",
        "mem > 999.5 and NOT (gpu='NO')",
        "HOST='vol-1'",
        "\"host\" = \"vol-1\"",
        "mem >= '2048' AND mem <= 2048 AND mem == 2048",
        "mem < 10 OR mem > 10 AND gpu <> 'NO'",
        "host LIKE 'vol-%' AND host LIKE '_ol-_' AND host NOT LIKE 'x%'",
        "host IN ('a', 'vol-1') AND mem IN (1, 2048) AND mem NOT IN (3)",
        "mem BETWEEN 1000 AND 3000 AND host = 'vol-1'",
        "nosuch IS NULL AND host IS NOT NULL",
        "model = 'it''s 50%' AND model LIKE '%50\\%'",
        "((((mem=2048))))",
        "mem > -1 AND mem < 1e9",
    ] {
        assert!(holds(text), "{text}");
    }
}

#[test]
fn what_does_not_hold_does_not_hold() {
    for text in [
        "mem < 1000",
        "mem != 2048",
        "host = 'VOL-1'",
        "(mem = 1 OR mem = 2048) AND gpu = 'NO'",
        "host LIKE 'vol'",
        "host LIKE ''",
        "mem > 10000 OR mem < '1000'",
        "mem BETWEEN 1 AND 2",
        // Nothing is known of a property that is not there.
        "nosuch = 1",
        "nosuch <> 1",
        "NOT nosuch = 1",
        "nosuch NOT IN (1)",
    ] {
        assert!(!holds(text), "{text}");
    }
}

#[test]
fn errors_point_at_the_column() {
    for (text, column, says) in [
        ("", 1, "property's name"),
        ("mem", 4, "comparison"),
        ("mem >", 6, "a number or a 'text'"),
        ("mem > AND host='x'", 7, "between quotes: 'AND'"),
        ("gpu = YES", 7, "between quotes: 'YES'"),
        ("mem > 1 AND", 12, "property's name, found the end"),
        ("mem > 1 AND AND", 13, "found AND"),
        ("mem > 1 host = 'a'", 9, "AND, OR or the end"),
        ("(mem > 1", 9, "`)`"),
        ("mem > 1)", 8, "found ')'"),
        ("host = 'abc", 8, "not closed"),
        ("host IN ()", 10, "a number or a 'text'"),
        ("host IN 'a'", 9, "`(`"),
        ("host NOT = 'a'", 10, "LIKE, IN or BETWEEN"),
        ("é = 1", 1, "property's name"),
        ("mem > 1; DROP TABLE jobs", 8, "found ';'"),
        ("mem > 1 -- and more", 9, "found '-'"),
        ("host = 'é' x", 12, "AND, OR or the end"),
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.message.contains(says), "{text}: {error}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = "(".repeat(1_000) + "mem=1";
    assert!(Expression::parse(&deep).unwrap_err().message.contains("deep"));
    let deep = "NOT ".repeat(1_000) + "mem=1";
    assert!(Expression::parse(&deep).unwrap_err().message.contains("deep"));
    let long = format!("host = '{}'", "x".repeat(MAX_EXPRESSION));
    assert!(Expression::parse(&long).unwrap_err().to_string().len() < 400);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_at_one_of_its_columns(text in "\\PC{0,60}") {
        if let Err(error) = Expression::parse(&text) {
            prop_assert!(error.column <= text.chars().count() + 1);
        }
    }

    #[test]
    fn any_words_are_read_or_refused(words in proptest::collection::vec(prop_oneof![
        Just("mem"), Just("("), Just(")"), Just("AND"), Just("OR"), Just("NOT"), Just("="), Just("LIKE"),
        Just("IN"), Just("'a%'"), Just("17"), Just(","), Just("IS"), Just("NULL"), Just("BETWEEN"), Just("'"),
    ], 0..20)) {
        let text = words.join(" ");
        if let Ok(expression) = Expression::parse(&text) {
            let again: Expression = serde_json::from_str(&serde_json::to_string(&expression).unwrap()).unwrap();
            prop_assert_eq!(again.holds(&property), expression.holds(&property));
        }
    }

    #[test]
    fn like_is_what_a_slow_matcher_says(text in "[ab]{0,8}", pattern in "[ab%_]{0,6}") {
        fn slow(text: &[u8], pattern: &[u8]) -> bool {
            match (text, pattern) {
                ([], []) => true,
                (_, [b'%', rest @ ..]) => (0..=text.len()).any(|from| slow(&text[from..], rest)),
                ([_, text @ ..], [b'_', rest @ ..]) => slow(text, rest),
                ([c, text @ ..], [d, rest @ ..]) => c == d && slow(text, rest),
                _ => false,
            }
        }
        prop_assert_eq!(is_like(&text, &pattern), slow(text.as_bytes(), pattern.as_bytes()));
    }
}
