//! The fuzzer's harness over a fixed corpus: every text cut at every length, with every byte replaced by the
//! letters that mean something, and random ones put together from pieces of the grammars.

#[path = "../fuzz/harness.rs"]
mod harness;

use proptest::collection::vec;
use proptest::prelude::*;

type Harness = fn(&[u8]);

const TARGETS: [(&str, Harness); 4] = [
    ("resources", harness::resources),
    ("condition", harness::condition),
    ("parameters", harness::parameters),
    ("submission", harness::submission),
];

/// What the grammars are made of.
const PIECES: &[&str] = &[
    "/",
    "+",
    ",",
    "{",
    "}",
    "(",
    ")",
    "=",
    "'",
    "\"",
    "\\",
    "%",
    "_",
    " ",
    "\n",
    "\t",
    "#",
    "&",
    ":",
    "-",
    "[",
    "]",
    "nodes",
    "core",
    "host",
    "mem",
    "resource_id",
    "network_address",
    "walltime",
    "ALL",
    "BEST",
    "BESTHALF",
    "AND",
    "OR",
    "NOT",
    "LIKE",
    "IN",
    "IS NULL",
    "<>",
    ">=",
    "0",
    "1",
    "7",
    "4294967296",
    "1:00:00",
    "é",
    "command: x",
    "\u{0}",
];

/// Byte strings that were worth keeping: one file each, as the fuzzer writes them.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/").to_owned() + target;
    let files = std::fs::read_dir(&folder).expect("the corpus is a part of this repository");
    let read = |file: std::io::Result<std::fs::DirEntry>| std::fs::read(file?.path());
    let kept: Vec<_> = files.map(|file| read(file).expect("a file of the corpus")).collect();
    assert!(kept.len() >= 4, "{target}: {}", kept.len());
    kept
}

#[test]
fn the_kept_corpus_does_no_harm_whole_and_cut_at_every_length() {
    for (target, harness) in TARGETS {
        for bytes in kept(target) {
            (0..=bytes.len()).for_each(|length| harness(&bytes[..length]));
        }
    }
}

#[test]
fn the_kept_corpus_does_no_harm_with_any_byte_replaced() {
    for (target, harness) in TARGETS {
        for mut bytes in kept(target) {
            for at in 0..bytes.len() {
                let before = bytes[at];
                for letter in *b"\0/+,{}='\"\\%&\n -0:\xff" {
                    bytes[at] = letter;
                    harness(&bytes);
                }
                bytes[at] = before;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn pieces_of_the_grammars_do_no_harm_in_any_order(
        pieces in vec(prop::sample::select(PIECES), 0..40),
        kind in prop::sample::select(&["j", "y", "f"][..]),
    ) {
        let text = pieces.concat();
        for (_, harness) in &TARGETS[..3] {
            harness(text.as_bytes());
        }
        harness::submission(format!("{kind}{text}").as_bytes());
        harness::submission(format!("{kind}command=x&resource={text}").as_bytes());
        let job = serde_json::json!({ "command": "x", "resource": text, "property": text });
        harness::submission(format!("j{job}").as_bytes());
    }
}
