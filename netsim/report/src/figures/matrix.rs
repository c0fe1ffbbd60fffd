//! Round trip times between all nodes, and paths between all kinds of networks.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Figure, colour, layout, plain};
use crate::event::PathKind;
use crate::model::{Pair, Run};
use crate::statistics::median;

/// The most rows and columns: more cannot be told apart.
const MOST: usize = 150;

/// Up to here the cells hold their numbers.
const MOST_WITH_NUMBERS: usize = 14;

/// The matrix.
pub(super) fn rtt(run: &Run) -> Option<Figure> {
    let mut cells: BTreeMap<(&str, &str), Vec<&Pair>> = BTreeMap::new();
    for (key, pair) in &run.pairs {
        cells.entry((&key.from, &key.to)).or_default().push(pair);
    }
    let takes_part = |name: &str| cells.keys().any(|(from, to)| *from == name || *to == name);
    let known: Vec<&str> = run.nodes.iter().map(|node| node.name.as_str()).collect();
    let mut names: Vec<&str> = known.into_iter().filter(|name| takes_part(name)).collect();
    let all = names.len();
    names.truncate(MOST);
    let mut times: Vec<Vec<Option<f64>>> = Vec::new();
    let mut hover: Vec<Vec<String>> = Vec::new();
    for from in &names {
        let (mut row, mut told) = (Vec::new(), Vec::new());
        for to in &names {
            let pairs = cells.get(&(*from, *to)).map_or(&[][..], Vec::as_slice);
            let time = median(pairs.iter().filter_map(|pair| pair.median_rtt()).collect());
            let path = pairs.last().map_or("", |pair| pair.settled().name());
            let number = time.map_or_else(|| "not measured".to_owned(), |ms| format!("{ms:.2} ms"));
            told.push(format!("{} → {}<br>{number}, {path}", plain(from), plain(to)));
            row.push(time);
        }
        times.push(row);
        hover.push(told);
    }
    times.iter().flatten().flatten().next()?;
    let labels: Vec<String> = names.iter().map(|name| plain(name)).collect();
    let mut trace = json!({
        "type": "heatmap", "x": labels, "y": labels, "z": times, "colorscale": "Viridis",
        "reversescale": true, "hovertext": hover, "hoverinfo": "text", "hoverongaps": false,
        "xgap": if names.len() > 40 { 0 } else { 1 }, "ygap": if names.len() > 40 { 0 } else { 1 },
        "colorbar": {"title": {"text": "RTT (ms)", "side": "right"}, "thickness": 14}, "zmin": 0,
    });
    if names.len() <= MOST_WITH_NUMBERS {
        let number = |time: &Option<f64>| match time {
            Some(ms) if *ms < 10.0 => json!(format!("{ms:.1}")),
            Some(ms) => json!(format!("{ms:.0}")),
            None => json!(""),
        };
        let numbers: Vec<Vec<Value>> =
            times.iter().map(|row| row.iter().map(number).collect()).collect();
        trace["text"] = json!(numbers);
        trace["texttemplate"] = json!("%{text}");
    }
    let size = (200 + 34 * names.len()).clamp(320, 760);
    let font = json!({"size": if names.len() > 40 { 8 } else { 12 }});
    let mut layout = layout(
        size,
        json!({"title": {"text": "to"}, "type": "category", "tickfont": font, "showgrid": false,
               "constrain": "domain", "tickangle": if names.len() > 8 { -90 } else { 0 }}),
        json!({"title": {"text": "from"}, "type": "category", "autorange": "reversed",
               "tickfont": font, "showgrid": false, "scaleanchor": "x", "constrain": "domain"}),
    );
    layout["width"] = json!(size + 160);
    let left_out = match all - names.len() {
        0 => String::new(),
        _ => format!(" The first {} of {all} nodes are shown; pairs.csv has all.", names.len()),
    };
    Some(Figure {
        id: "rtt-matrix",
        title: "Round trip times".to_owned(),
        caption: format!(
            "Median round trip time of each ordered pair on its last path, milliseconds. White: no \
             pair, or not measured.{left_out}"
        ),
        data: vec![trace],
        layout,
    })
}

/// How many pairs of each two kinds of networks ended on a direct path.
pub(super) fn kinds(run: &Run) -> Option<Figure> {
    let behind: BTreeMap<&str, &str> =
        run.nodes.iter().map(|node| (node.name.as_str(), node.behind.as_str())).collect();
    // In the order of their first node.
    let mut kinds: Vec<&str> = Vec::new();
    let mut found: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    let takes_part = |name: &str| run.pairs.keys().any(|key| key.from == name || key.to == name);
    for node in run.nodes.iter().filter(|node| takes_part(&node.name)) {
        if !kinds.contains(&node.behind.as_str()) {
            kinds.push(&node.behind);
        }
    }
    if kinds.len() < 2 || kinds.len() > MOST {
        return None;
    }
    for (key, pair) in &run.pairs {
        let of = |name: &str| behind.get(name).copied();
        let (Some(from), Some(to)) = (of(&key.from), of(&key.to)) else { continue };
        let (direct, all) = found.entry((from, to)).or_default();
        *direct += u64::from(pair.settled() == PathKind::Direct);
        *all += 1;
    }
    let (mut part, mut text, mut hover) = (Vec::new(), Vec::new(), Vec::new());
    for from in &kinds {
        let (mut parts, mut texts, mut hovers) = (Vec::new(), Vec::new(), Vec::new());
        for to in &kinds {
            let known = found.get(&(*from, *to)).copied();
            let (direct, all) = known.unwrap_or_default();
            let names = format!("{} → {}", plain(from), plain(to));
            parts.push(known.map(|(direct, all)| direct as f64 / all as f64));
            texts.push(known.map_or_else(String::new, |_| format!("{direct}/{all}")));
            hovers.push(format!("{names}<br>{direct} of {all} ordered pairs ended direct"));
        }
        part.push(parts);
        text.push(texts);
        hover.push(hovers);
    }
    let labels: Vec<String> = kinds.iter().map(|kind| plain(kind)).collect();
    let trace = json!({
        "type": "heatmap", "x": labels, "y": labels, "z": part, "zmin": 0, "zmax": 1,
        "colorscale": [[0, colour::ORANGE], [0.5, "#f2f2f2"], [1, colour::BLUE]],
        "hovertext": hover, "hoverinfo": "text", "hoverongaps": false, "xgap": 2, "ygap": 2,
        "text": text, "texttemplate": "%{text}",
        "colorbar": {"title": {"text": "part direct", "side": "right"}, "thickness": 14,
                     "tickformat": ".0%"},
    });
    let size = (240 + 42 * kinds.len()).clamp(340, 900);
    let mut layout = layout(
        size,
        json!({"title": {"text": "to a node behind"}, "type": "category", "showgrid": false,
               "constrain": "domain", "tickangle": -45}),
        json!({"title": {"text": "from a node behind"}, "type": "category",
               "autorange": "reversed", "showgrid": false, "scaleanchor": "x",
               "constrain": "domain"}),
    );
    layout["width"] = json!(size + 200);
    Some(Figure {
        id: "kind-matrix",
        title: "Who meets directly".to_owned(),
        caption:
            "Of the ordered pairs of nodes behind these kinds of networks, so many ended on a \
                  direct path. The others were relayed or had none. White: no such pair."
                .to_owned(),
        data: vec![trace],
        layout,
    })
}
