//! The figures of the page, as plotly.js takes them: traces and a layout, in JSON.
//!
//! Text that comes from a scenario or a log passes `plain` on its way into a figure: plotly.js reads a
//! few tags of HTML in labels.

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::Run;

mod availability;
pub mod compare;
mod jobs;
mod matrix;
mod mesh_time;
mod paths;
mod throughput;

pub(crate) use mesh_time::MeshTimes;

/// The longest label. Longer names are cut: their ends are in the tables.
const LABEL: usize = 48;

/// The most points of an area: more than a screen has.
const MOST_POINTS: f64 = 1500.0;

/// The most faults that are marked in a figure; more would hide what they mark.
const MOST_MARKS: usize = 60;

/// Colours that people who see colours differently can tell apart (Okabe and Ito, 2008).
pub(crate) mod colour {
    pub(crate) const BLUE: &str = "#0072B2";
    pub(crate) const ORANGE: &str = "#E69F00";
    pub(crate) const GREEN: &str = "#009E73";
    pub(crate) const RED: &str = "#D55E00";
    pub(crate) const PURPLE: &str = "#CC79A7";
    pub(crate) const SKY: &str = "#56B4E9";
    pub(crate) const YELLOW: &str = "#F0E442";
    pub(crate) const GREY: &str = "#B8B8B8";
    pub(crate) const BLACK: &str = "#222222";
    /// For lines that mean nothing but themselves.
    pub(crate) const LINES: [&str; 8] = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, "#8C6D1F"];
}

/// A figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Its place in the page; also the name of the picture that is saved from it.
    pub id: &'static str,
    /// What it shows.
    #[serde(skip)]
    pub title: String,
    /// How to read it, and what it leaves out.
    #[serde(skip)]
    pub caption: String,
    /// plotly.js's traces.
    pub data: Vec<Value>,
    /// plotly.js's layout.
    pub layout: Value,
}

/// The figures of a run; those that have nothing to show are left out.
pub fn of(run: &Run) -> Vec<Figure> {
    let all = [
        paths::counts(run),
        paths::timeline(run),
        mesh_time::distribution(run),
        matrix::kinds(run),
        matrix::rtt(run),
        throughput::by_path(run),
        throughput::by_pair(run),
        jobs::by_state(run),
        jobs::gantt(run),
        jobs::by_node(run),
        availability::count(run),
        availability::bars(run),
    ];
    all.into_iter().flatten().collect()
}

/// Text as plotly.js shows it letter by letter.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for (at, letter) in text.chars().enumerate() {
        if at == LABEL {
            plain.push('…');
            break;
        }
        match letter {
            '&' => plain.push_str("&amp;"),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            // MathJax is not here, but its delimiters would be looked for.
            '$' => plain.push('＄'),
            letter if letter.is_control() => plain.push('�'),
            letter => plain.push(letter),
        }
    }
    plain
}

/// What all figures have in common.
pub(crate) fn layout(height: usize, x: Value, y: Value) -> Value {
    let axis = |own: Value| {
        let mut axis = json!({
            "automargin": true, "showline": true, "linecolor": "#444", "ticks": "outside",
            "gridcolor": "#e8e8e8", "zeroline": false,
        });
        merge(&mut axis, own);
        axis
    };
    json!({
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 34, "b": 50},
        "font": {"family": "Helvetica, Arial, sans-serif", "size": 13, "color": colour::BLACK},
        "paper_bgcolor": "white", "plot_bgcolor": "white",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left",
                   "traceorder": "normal"},
        "hoverlabel": {"namelength": -1},
        "xaxis": axis(x), "yaxis": axis(y),
    })
}

/// The axis of a run's time.
pub(crate) fn time_axis(run: &Run) -> Value {
    json!({"title": {"text": "time since the start of the run (s)"}, "range": [0.0, run.end.max(0.001)]})
}

/// An axis of names, the first on top.
pub(crate) fn name_axis(names: &[String]) -> Value {
    json!({
        "type": "category", "categoryorder": "array", "categoryarray": names,
        "range": [names.len() as f64 - 0.4, -0.6], "showgrid": false,
        "tickfont": {"size": if names.len() > 40 { 9 } else { 12 }}, "dtick": 1,
    })
}

/// Marks what the timeline did in a figure over time: numbered lines, as in the page's table.
pub(crate) fn mark_faults(run: &Run, layout: &mut Value) {
    let shown = run.faults.iter().take(MOST_MARKS);
    let lines: Vec<Value> = shown
        .clone()
        .map(|fault| {
            json!({"type": "line", "xref": "x", "yref": "paper", "x0": fault.at, "x1": fault.at,
                   "y0": 0, "y1": 1, "line": {"color": colour::RED, "width": 1, "dash": "dot"}})
        })
        .collect();
    let numbers: Vec<Value> = (1..)
        .zip(shown)
        .map(|(number, fault)| {
            json!({"x": fault.at, "y": 1, "xref": "x", "yref": "paper", "text": format!("{number}"),
                   "showarrow": false, "yanchor": "top", "xanchor": "left", "xshift": 1,
                   "bgcolor": "rgba(255,255,255,0.8)", "font": {"size": 10, "color": colour::RED}})
        })
        .collect();
    layout["shapes"] = Value::Array(lines);
    layout["annotations"] = Value::Array(numbers);
}

/// Horizontal bars from a time to another.
pub(crate) struct Bars<'a> {
    pub(crate) name: &'a str,
    pub(crate) colour: &'a str,
    /// Row, from, to, and what is shown beside the mouse.
    pub(crate) bars: Vec<(String, f64, f64, String)>,
}

impl Bars<'_> {
    pub(crate) fn trace(self) -> Value {
        let (mut rows, mut from, mut length, mut text) = (vec![], vec![], vec![], vec![]);
        for (row, begin, end, hover) in self.bars {
            rows.push(row);
            from.push(begin);
            length.push((end - begin).max(0.0));
            text.push(hover);
        }
        json!({
            "type": "bar", "orientation": "h", "name": self.name,
            "y": rows, "base": from, "x": length, "width": 0.8,
            "hovertext": text, "hoverinfo": "text",
            "marker": {"color": self.colour, "line": {"width": 0}},
        })
    }
}

/// Counts that change at moments, as areas on top of each other: each series in order of time.
pub(crate) fn stacked(name: &str, colour: &str, series: &[(f64, f64)]) -> Value {
    let (x, y): (Vec<f64>, Vec<f64>) = series.iter().copied().unzip();
    json!({
        "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "stackgroup": "one",
        "line": {"width": 0, "color": colour, "shape": "hv"}, "fillcolor": colour,
    })
}

/// How many of several things are in each of several states over time, from the moments when one enters
/// (+1) or leaves (-1) it. The moments are the same for all, as plotly.js needs them to stack areas;
/// they are thinned to about [`MOST_POINTS`].
pub(crate) fn counts_over_time(states: &[Vec<(f64, i64)>], end: f64) -> Vec<Vec<(f64, f64)>> {
    let mut steps: Vec<(f64, usize, i64)> = Vec::new();
    for (state, of) in states.iter().enumerate() {
        steps.extend(of.iter().map(|(t, step)| (t.clamp(0.0, end), state, *step)));
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let apart = end / MOST_POINTS;
    let mut now = vec![0_i64; states.len()];
    let mut counts: Vec<Vec<(f64, f64)>> = vec![Vec::new(); states.len()];
    let mut last = f64::NEG_INFINITY;
    let mut show = |t: f64, now: &[i64]| {
        for (of, count) in counts.iter_mut().zip(now) {
            if t - last < apart {
                // What follows closely takes the place of what was there for a moment only.
                of.pop();
            }
            let at = if t - last < apart { last } else { t };
            of.push((at, *count as f64));
        }
        last = if t - last < apart { last } else { t };
    };
    show(0.0, &now);
    for (at, (t, state, step)) in steps.iter().enumerate() {
        now[*state] += step;
        // Together with all that happens at the same moment.
        if steps.get(at + 1).is_none_or(|next| next.0 > *t) {
            show(*t, &now);
        }
    }
    for (of, count) in counts.iter_mut().zip(&now) {
        of.push((end, *count as f64));
    }
    counts
}

pub(crate) fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        for (name, value) in from {
            into.insert(name, value);
        }
    }
}

/// A duration or moment for people.
pub(crate) fn seconds(t: f64) -> String {
    if t < 1.0 { format!("{:.0} ms", t * 1e3) } else { format!("{t:.2} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_neither_tags_nor_formulas() {
        let label = plain("<a href=\"x\">vol & $x$\u{1b}");
        assert_eq!(label, "&lt;a href=\"x\"&gt;vol &amp; ＄x＄�");
        assert_eq!(plain(&"x".repeat(100)).chars().count(), LABEL + 1);
    }

    #[test]
    fn counts_are_kept_when_they_are_thinned() {
        let enter = (0..9000).map(|at| (f64::from(at), 1)).collect();
        let leave = (0..9000).map(|at| (f64::from(at) + 500.0, 1)).collect();
        let counts = counts_over_time(&[enter, leave], 10_000.0);
        assert!(counts[0].len() < 1600, "{}", counts[0].len());
        assert_eq!(counts[0].last(), Some(&(10_000.0, 9000.0)));
        assert!(counts[0].windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 <= two[1].1));
        let moments = |of: usize| counts[of].iter().map(|(t, _)| *t).collect::<Vec<_>>();
        assert_eq!(moments(0), moments(1));
    }
}
