//! How long pairs and jobs took to find their paths.

use serde_json::{Value, json};

use super::{Figure, colour, layout};
use crate::event::PathKind;
use crate::model::Run;
use crate::statistics::ecdf;

/// The most points of a curve.
const MOST_POINTS: usize = 2000;

/// Times from the assignment of a job's nodes, seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct MeshTimes {
    /// Pairs until they had any path.
    pub(crate) any: Vec<f64>,
    /// Pairs until they had a direct one.
    pub(crate) direct: Vec<f64>,
    /// Jobs until all of their pairs had a path.
    pub(crate) open: Vec<f64>,
    /// All pairs, those that never got there included.
    pub(crate) pairs: usize,
}

impl MeshTimes {
    pub(crate) fn of(run: &Run) -> Self {
        let mut times = Self { pairs: run.pairs.len(), ..Self::default() };
        for job in &run.jobs {
            times.open.extend(job.opened.iter().map(|opened| opened.after));
        }
        for (key, pair) in &run.pairs {
            let begun = run.jobs.iter().find(|job| job.id == key.job).map(|job| job.assigned());
            let begun = begun.or_else(|| pair.history.first().map(|first| first.from));
            let Some(begun) = begun else { continue };
            let since = |t: f64| (t - begun).max(0.0);
            times.any.extend(pair.first(None).map(since));
            times.direct.extend(pair.first(Some(PathKind::Direct)).map(since));
        }
        times
    }
}

/// The distributions.
pub(super) fn distribution(run: &Run) -> Option<Figure> {
    let times = MeshTimes::of(run);
    if times.any.is_empty() && times.open.is_empty() {
        return None;
    }
    let curves = [
        ("pairs: first path", colour::ORANGE, "solid", &times.any, times.pairs),
        ("pairs: first direct path", colour::BLUE, "solid", &times.direct, times.pairs),
        ("jobs: mesh open", colour::BLACK, "dash", &times.open, times.open.len()),
    ];
    let longest = curves.iter().flat_map(|curve| curve.3).copied().fold(0.0, f64::max);
    let end = if longest > 0.0 { longest * 1.05 } else { 1.0 };
    let data: Vec<Value> = curves
        .iter()
        .filter(|(_, _, _, values, _)| !values.is_empty())
        .map(|(name, colour, dash, values, of)| {
            let mut points = ecdf((*values).clone(), *of);
            let step = points.len().div_ceil(MOST_POINTS).max(1);
            let last = points.last().copied().unwrap_or_default();
            points = points.into_iter().step_by(step).collect();
            points.insert(0, (0.0, 0.0));
            points.extend([last, (end, last.1)]);
            let (x, y): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
            json!({"type": "scatter", "mode": "lines", "name": format!("{name} (n = {of})"),
                   "x": x, "y": y, "line": {"shape": "hv", "color": colour, "width": 2, "dash": dash},
                   "hovertemplate": "%{y:.1%} within %{x:.3f} s"})
        })
        .collect();
    let layout = layout(
        360,
        json!({"title": {"text": "time since the assignment of the job's nodes (s)"},
               "range": [0.0, end]}),
        json!({"title": {"text": "part that is there"}, "range": [0, 1.02], "tickformat": ".0%"}),
    );
    Some(Figure {
        id: "mesh-time",
        title: "Time to mesh".to_owned(),
        caption: "Empirical distribution: the part of all ordered pairs that had a path, and a direct \
                  path, after this time; and of all launches whose mesh was open. A curve that stays \
                  below 100 % stops where no more pairs get there."
            .to_owned(),
        data,
        layout,
    })
}
