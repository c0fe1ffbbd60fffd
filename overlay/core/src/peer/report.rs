//! How the peer's pairs stand, and which changes are worth a report.

use std::time::Duration;

use super::Peer;
use crate::candidates::OwnCandidates;
use crate::context::Context;
use crate::explain::explain;
use crate::ids::SessionKey;
use crate::io::{Output, PairState, Path};
use crate::path::Selected;
use crate::session::Session;

/// Changes of the round trip time below this are not reported.
const RTT_STEP: Duration = Duration::from_millis(1);

/// Of a pair that is not direct whose peer has nothing more to do.
const PART_ENDED: &str = "the peer's part of the job has ended";

impl Peer {
    /// Reports each pair whose state has changed since its last report.
    pub(crate) fn report_changes(&mut self, ctx: &mut Context<'_>) {
        let changed: Vec<_> = self
            .pairs(ctx.own)
            .filter(|(key, state)| {
                let reported = self.sessions.get(&key.mesh).and_then(|s| s.reported.as_ref());
                reported.is_none_or(|reported| matters(reported, state))
            })
            .collect();
        for (key, state) in changed {
            if let Some(session) = self.sessions.get_mut(&key.mesh) {
                session.reported = Some(state.clone());
            }
            ctx.outputs.push(Output::PairChanged(key, state));
        }
    }

    /// The state of each pair.
    pub(crate) fn pairs<'a>(
        &'a self,
        own: &'a OwnCandidates,
    ) -> impl Iterator<Item = (SessionKey, PairState)> + 'a {
        self.sessions.iter().map(|(mesh, session)| {
            (SessionKey { mesh: *mesh, peer: self.id }, self.pair_state(session, own))
        })
    }

    fn pair_state(&self, session: &Session, own: &OwnCandidates) -> PairState {
        let established = session.is_established();
        let selected = self.selected.as_ref().filter(|_| established);
        let path = selected.map(|selected| selected.primary);
        let is_direct = matches!(path, Some(Path::Direct(_)));
        let rtt = match path {
            Some(Path::Direct(endpoint)) => {
                self.search.trial(endpoint).and_then(|trial| trial.rtt())
            }
            Some(path @ Path::Relayed { .. }) => self.relays.rtt(path),
            None => None,
        };
        let sentence = match (&session.reported, selected) {
            _ if session.part_ended && is_direct => String::new(),
            // Why it was relayed while it mattered.
            (Some(PairState { path: Some(Path::Relayed { .. }), explain, .. }), _)
                if session.part_ended =>
            {
                explain.clone()
            }
            _ if session.part_ended => PART_ENDED.into(),
            (_, Some(selected)) if selected.is_doubted() => doubt(selected).into(),
            (_, Some(_)) if is_direct => String::new(),
            (_, Some(_)) => explain(&self.search.evidence(own)),
            (_, None) => self.explain_silence(),
        };
        let sentence = match self.search.activity().sentence().filter(|_| !session.part_ended) {
            None => sentence,
            Some(word) if sentence.is_empty() => word.into(),
            Some(word) => format!("{word}; {sentence}"),
        };
        PairState {
            established,
            settled: established && self.search.is_settled(),
            path,
            rtt_us: rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            established_after_ms: session
                .established_after()
                .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            explain: sentence,
            activity: self.search.activity(),
        }
    }

    /// Why the handshake has not been answered yet.
    fn explain_silence(&self) -> String {
        if self.relays.is_empty() {
            "no relay channel to the peer yet".into()
        } else if self.relays.best().is_none() {
            "the relay has not answered yet".into()
        } else {
            "the peer has not answered through the relay yet".into()
        }
    }
}

/// What the silence of the path in use means.
fn doubt(selected: &Selected) -> &'static str {
    match (selected.is_direct(), selected.also) {
        (true, Some(Path::Relayed { .. })) => {
            "the direct path does not answer; packets go through the relay, too"
        }
        (true, Some(Path::Direct(_)) | None) => "the direct path does not answer",
        (false, _) => "the peer does not answer, through the relay either",
    }
}

/// Whether a change is worth a report: everything but a small one of the round trip time, and counts
/// in the explanation.
fn matters(reported: &PairState, state: &PairState) -> bool {
    let rtt_matters = match (reported.rtt_us, state.rtt_us) {
        (Some(old), Some(new)) => {
            u128::from(old.abs_diff(new)) > RTT_STEP.as_micros().max(u128::from(old) / 4)
        }
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    };
    let rest =
        PairState { rtt_us: reported.rtt_us, explain: reported.explain.clone(), ..state.clone() };
    rtt_matters || rest != *reported || !words(&reported.explain).eq(words(&state.explain))
}

/// The sentence without its numbers.
fn words(sentence: &str) -> impl Iterator<Item = char> + '_ {
    sentence.chars().filter(|character| !character.is_ascii_digit())
}
