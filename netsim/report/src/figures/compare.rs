//! Figures over several runs.

use serde_json::{Value, json};

use super::mesh_time::MeshTimes;
use super::{Figure, colour, layout, plain};
use crate::model::Run;
use crate::statistics::{ecdf, quantile};

/// A number of several runs over a parameter.
#[derive(Clone, Debug)]
pub struct Points {
    /// What is counted, with its unit.
    pub metric: String,
    /// For each value of the parameter: its label, and the runs' numbers.
    pub at: Vec<(String, Vec<f64>)>,
}

/// The times to mesh of several runs in one figure: by name.
pub fn mesh_times(runs: &[(String, Run)]) -> Option<Figure> {
    let times: Vec<(&str, MeshTimes)> =
        runs.iter().map(|(name, run)| (name.as_str(), MeshTimes::of(run))).collect();
    let longest = times.iter().flat_map(|(_, times)| &times.any).copied().fold(0.0, f64::max);
    if times.iter().all(|(_, times)| times.any.is_empty()) {
        return None;
    }
    let end = longest.max(0.001) * 1.05;
    let curve = |(index, (name, times)): (usize, &(&str, MeshTimes))| {
        let points = ecdf(times.any.clone(), times.pairs);
        let last = points.last().copied().unwrap_or_default();
        let points = std::iter::once((0.0, 0.0)).chain(points).chain([(end, last.1)]);
        let (x, y): (Vec<f64>, Vec<f64>) = points.unzip();
        let colour = colour::LINES[index % colour::LINES.len()];
        let dash = ["solid", "dash", "dot"][index / colour::LINES.len() % 3];
        json!({"type": "scatter", "mode": "lines", "name": plain(name), "x": x, "y": y,
               "line": {"shape": "hv", "color": colour, "width": 2, "dash": dash}})
    };
    let data = times.iter().enumerate().map(curve).collect();
    Some(Figure {
        id: "mesh-times",
        title: "Time to mesh".to_owned(),
        caption:
            "Empirical distribution of the time from a job's assignment until its pairs had a path."
                .to_owned(),
        data,
        layout: layout(
            400,
            json!({"title": {"text": "time since the assignment of the job's nodes (s)"},
                   "range": [0.0, end]}),
            json!({"title": {"text": "part of the ordered pairs"}, "range": [0, 1.02],
                   "tickformat": ".0%"}),
        ),
    })
}

/// Median and spread over a parameter. The identifier must be one of a page's own.
pub fn over_parameter(id: &'static str, parameter: &str, points: &Points) -> Option<Figure> {
    let labels: Vec<String> = points.at.iter().map(|(label, _)| plain(label)).collect();
    let of = |q: f64| -> Vec<Option<f64>> {
        points.at.iter().map(|(_, values)| quantile(values.clone(), q)).collect()
    };
    let middle = of(0.5);
    middle.iter().flatten().next()?;
    let apart = |high: &[Option<f64>], low: &[Option<f64>]| -> Vec<Value> {
        let apart = |(high, low): (&Option<f64>, &Option<f64>)| match (high, low) {
            (Some(high), Some(low)) => json!(high - low),
            _ => Value::Null,
        };
        high.iter().zip(low).map(apart).collect()
    };
    // Numbers stand where they belong, words side by side.
    let numbers: Option<Vec<f64>> = points.at.iter().map(|(label, _)| label.parse().ok()).collect();
    let x = numbers.map_or_else(|| json!(labels), |numbers| json!(numbers));
    let (each_x, each_y): (Vec<&Value>, Vec<f64>) = points
        .at
        .iter()
        .enumerate()
        .flat_map(|(at, (_, values))| values.iter().map(move |value| (at, *value)))
        .filter_map(|(at, value)| Some((x.get(at)?, value)))
        .unzip();
    let data = vec![
        json!({"type": "scatter", "mode": "markers", "name": "each run", "x": each_x, "y": each_y,
               "marker": {"color": colour::GREY, "size": 6}}),
        json!({"type": "scatter", "mode": "lines+markers", "name": "median, quartiles", "x": x,
               "y": middle, "line": {"color": colour::BLUE, "width": 2}, "marker": {"size": 8},
               "error_y": {"type": "data", "symmetric": false, "array": apart(&of(0.75), &middle),
                           "arrayminus": apart(&middle, &of(0.25)), "thickness": 1.5}}),
    ];
    let kind = if x.get(0).is_some_and(Value::is_number) { "linear" } else { "category" };
    Some(Figure {
        id,
        title: points.metric.clone(),
        caption: String::new(),
        data,
        layout: layout(
            320,
            // Also those without a number have their place: otherwise they come last.
            json!({"title": {"text": plain(parameter)}, "type": kind,
                   "categoryorder": "array", "categoryarray": labels}),
            json!({"title": {"text": plain(&points.metric)}, "rangemode": "tozero"}),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_whose_runs_broke_stands_where_it_was_given() {
        let at = |label: &str, values: &[f64]| (label.to_owned(), values.to_vec());
        let at = vec![at("adsl", &[]), at("wifi", &[2.0, 3.0]), at("lan", &[1.0])];
        let points = Points { metric: "round trip (ms)".to_owned(), at };

        let figure = over_parameter("metric-1", "volunteers.link", &points).unwrap();

        assert_eq!(figure.layout["xaxis"]["categoryarray"], json!(["adsl", "wifi", "lan"]));
        assert_eq!(figure.layout["xaxis"]["categoryorder"], "array");
        assert_eq!(figure.data[0]["x"], json!(["wifi", "wifi", "lan"]));
    }
}
