//! The figures, with what is required of them.

use super::super::figures::{Better, Figure};
use super::load::Result;

/// The most polls a second that OAR's API answered: 16 workers, 8 connections.
const OAR_POLLS: f64 = 91.0;

/// The most lists of 200 jobs a second.
const OAR_JOBS: f64 = 41.0;

/// The most lists of 329 resources a second.
const OAR_RESOURCES: f64 = 39.0;

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) crowd: Option<Result>,
    pub(super) crowd_size: usize,
    pub(super) crowd_rss_mib: Option<f64>,
    pub(super) polls: Option<Result>,
    pub(super) jobs: Option<Result>,
    pub(super) resources: Option<Result>,
    pub(super) ended: Option<Result>,
    pub(super) late_polls: Option<Result>,
    pub(super) late_jobs: Option<Result>,
    pub(super) late_ended: Option<Result>,
    pub(super) submissions: Option<Result>,
    pub(super) orders: Option<Result>,
    pub(super) passes: Vec<(usize, f64)>,
}

pub(super) fn figures(short: bool, measured: &Measured) -> Vec<Figure> {
    let m = measured;
    let rate = |result: &Option<Result>| result.as_ref().map(|result| result.rate);
    let ms = |result: &Option<Result>, share| Some(result.as_ref()?.quantile(share)? * 1_000.0);
    let of = |result: &Option<Result>, oar: f64| Some(rate(result)? / oar);
    let (crowd, waiting, history) =
        if short { ("1,000", "500", "10,000") } else { ("20,000", "5,000", "100,000") };
    let beside = |oar: f64| format!("OAR 2.5.9 at its best: {oar}/s");
    let once = |name: &str, unit, better, value| Figure::once(name, unit, better, value);
    let slower =
        |before: &Option<Result>, after: &Option<Result>| Some(ms(after, 0.5)? / ms(before, 0.5)?);
    let crowd_errors = m.crowd.as_ref().map(|result| {
        #[allow(clippy::cast_precision_loss, reason = "a count")]
        let errors = result.errors as f64;
        let note = result.first_error.clone().unwrap_or_default();
        once(&format!("{crowd} agents, errors"), "errors", Better::Lower, Some(errors))
            .hold(0.0)
            .note(note)
    });
    let polling = if short { "5 s" } else { "30 s" };
    let mut figures = vec![
        once(&format!("{crowd} agents polling every {polling}, 99th percentile"), "ms", Better::Lower, ms(&m.crowd, 0.99))
            .hold(100.0)
            .note(format!(
                "{} agents, HTTPS, a connection and a credential each, toLaunch and toKill, jobs that begin and end",
                m.crowd_size
            )),
        once(&format!("{crowd} agents, median"), "ms", Better::Lower, ms(&m.crowd, 0.5)),
    ];
    figures.extend(crowd_errors);
    figures.extend([
        once(
            &format!("{crowd} agents, the coordinator's memory"),
            "MiB",
            Better::Lower,
            m.crowd_rss_mib,
        )
        .hold(1_024.0),
        once("polls a second, of OAR's", "x", Better::Higher, of(&m.polls, OAR_POLLS))
            .hold(100.0)
            .note(beside(OAR_POLLS)),
        once("polls a second", "1/s", Better::Higher, rate(&m.polls)),
        once(
            "GET /jobs with 200 items a second, of OAR's",
            "x",
            Better::Higher,
            of(&m.jobs, OAR_JOBS),
        )
        .require(30.0, 100.0)
        .note(beside(OAR_JOBS)),
        once("GET /jobs with 200 items a second", "1/s", Better::Higher, rate(&m.jobs)),
        once(
            "GET /resources with 329 items a second, of OAR's",
            "x",
            Better::Higher,
            of(&m.resources, OAR_RESOURCES),
        )
        .require(30.0, 100.0)
        .note(beside(OAR_RESOURCES)),
        once("GET /resources with 329 items a second", "1/s", Better::Higher, rate(&m.resources)),
        once("submissions a second, durable", "1/s", Better::Higher, rate(&m.submissions))
            .hold(500.0),
        once(
            &format!("submission until an agent has the job, {waiting} waiting, median"),
            "ms",
            Better::Lower,
            ms(&m.orders, 0.5),
        )
        .hold(100.0),
        once(
            &format!("submission until an agent has the job, {waiting} waiting, 99th percentile"),
            "ms",
            Better::Lower,
            ms(&m.orders, 0.99),
        )
        .hold(500.0),
        once(
            &format!("GET /jobs with {history} ended jobs, of the time without"),
            "x",
            Better::Lower,
            slower(&m.jobs, &m.late_jobs),
        )
        .hold(2.0),
        once(
            &format!("polls with {history} ended jobs, of the time without"),
            "x",
            Better::Lower,
            slower(&m.polls, &m.late_polls),
        )
        .hold(2.0),
        once(
            &format!("a page of 200 of {history} ended jobs, median"),
            "ms",
            Better::Lower,
            ms(&m.late_ended, 0.5),
        ),
    ]);
    // Fewer agents say nothing of that many.
    let asked_for = if short { 1_000 } else { 20_000 };
    let of_crowd = format!("{crowd} agents");
    for figure in figures.iter_mut().filter(|figure| figure.name.starts_with(&of_crowd)) {
        figure.met = figure.met.map(|met| met && m.crowd_size >= asked_for);
    }
    let largest = m.passes.last().copied();
    figures.push(
        once(
            "scheduling pass, 10,000 resources and 10,000 waiting jobs",
            "ms",
            Better::Lower,
            largest.map(|(_, ms)| ms),
        )
        .hold(1_000.0),
    );
    figures.extend(m.passes.iter().rev().skip(1).rev().map(|(size, ms)| {
        once(
            &format!("scheduling pass, {size} resources and waiting jobs"),
            "ms",
            Better::Lower,
            Some(*ms),
        )
    }));
    // Of a linear cost it is the ratio of the sizes, 8.
    let growth = m.passes.first().zip(largest).map(|((_, small), (_, large))| large / small);
    figures.push(
        once("scheduling pass, from 1,250 to 10,000 of both", "x", Better::Lower, growth)
            .note("8x is linear in both together"),
    );
    figures
}
