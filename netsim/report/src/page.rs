//! The page: one file that needs nothing else, neither a network nor a server.
//!
//! plotly.js is inside (MIT). What comes from scenarios and logs is text everywhere: maud escapes it in
//! HTML, `<` never occurs in the figures' JSON, and the page's own policy lets only the two scripts run
//! whose hashes it names, and nothing be loaded from anywhere.

use data_encoding::BASE64;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use crate::figures::Figure;

pub mod compare;
pub mod run;
mod tables;

/// Draws every figure into its place. `data-drawn` tells a test when all is done.
const DRAW: &str = r#"
const figures = JSON.parse(document.getElementById("figures").textContent);
const drawn = figures.map((figure) => Plotly.newPlot(figure.id, figure.data, figure.layout, {
  responsive: !figure.layout.width, displaylogo: false, displayModeBar: "hover",
  toImageButtonOptions: {format: "svg", filename: figure.id},
}));
Promise.all(drawn).then(() => { document.documentElement.dataset.drawn = drawn.length; });
"#;

const STYLE: &str = "
body { font: 15px/1.5 Helvetica, Arial, sans-serif; color: #222; max-width: 1100px; margin: 0 auto;
  padding: 1em 1.5em 4em; }
h1 { font-size: 1.6em; margin: .6em 0 .1em; } h2 { font-size: 1.2em; margin: 1.8em 0 .3em; }
h3 { font-size: 1em; margin: 1.2em 0 .3em; }
p.caption, .quiet { color: #555; font-size: .9em; } p.caption { margin: .2em 0; }
figure { margin: 1.6em 0; break-inside: avoid; } figcaption { margin-bottom: .3em; }
figcaption b { font-size: 1.05em; }
.plot { width: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9em; margin: .4em 0; }
th, td { text-align: left; padding: .15em .9em .15em 0; border-bottom: 1px solid #e4e4e4;
  vertical-align: top; overflow-wrap: break-word; }
th { border-bottom: 1px solid #444; font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.short { white-space: nowrap; }
.verdict { display: inline-block; padding: .1em .7em; border-radius: 4px; color: white;
  font-weight: 600; background: #666; }
.passed { background: #00795a; } .failed { background: #b84a00; }
.warning { border-left: 4px solid #D55E00; padding: .3em 1em; background: #fdf3ec; margin: 1em 0; }
.numbers { display: flex; flex-wrap: wrap; gap: .4em 2.2em; margin: 1em 0; }
.numbers div b { display: block; font-size: 1.35em; font-weight: 600; }
pre { background: #f6f6f6; padding: .8em 1em; overflow-x: auto; font-size: .85em; }
details summary { cursor: pointer; font-weight: 600; margin: .6em 0; }
@media print { body { max-width: none; } details { display: none; } }
";

/// A page around its content.
pub(crate) fn page(title: &str, content: &Markup, figures: &[Figure]) -> String {
    let plotly = plotly_js();
    let policy = format!(
        "default-src 'none'; script-src '{}' '{}'; style-src 'unsafe-inline'; img-src data: blob:; \
         base-uri 'none'; form-action 'none'",
        hash(&plotly),
        hash(DRAW)
    );
    let data = serde_json::to_string(figures).unwrap_or_else(|_| "[]".to_owned());
    // Neither an end tag nor a comment can begin without it.
    let data = data.replace('<', "\\u003c");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (content)
                script type="application/json" id="figures" { (PreEscaped(data)) }
                script { (PreEscaped(plotly)) }
                script { (PreEscaped(DRAW)) }
            }
        }
    };
    page.into_string()
}

/// A figure's place.
pub(crate) fn place(figure: &Figure) -> Markup {
    let height = figure.layout.get("height").and_then(serde_json::Value::as_u64).unwrap_or(300);
    html! {
        figure {
            figcaption { b { (figure.title) } p.caption { (figure.caption) } }
            div.plot id=(figure.id) style=(format!("min-height:{height}px")) {
                noscript { "This figure needs JavaScript; its numbers are in the CSV files." }
            }
        }
    }
}

/// As a content security policy names a script.
fn hash(script: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(script.as_bytes())))
}

/// plotly.js, as the crate `plotly` brings it along.
fn plotly_js() -> String {
    let sources = plotly::Plot::offline_js_sources();
    let script = sources.split_once('>').and_then(|(_, rest)| rest.split_once("</script>"));
    script.map(|(script, _)| script.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plots_library_is_here_and_cannot_end_its_element() {
        let script = plotly_js();
        assert!(script.contains("plotly.js v") && script.len() > 1_000_000, "{}", script.len());
        assert!(!script.contains("</script"));
        // Without the two megabytes of MathJax.
        assert!(script.len() < 5_000_000, "{}", script.len());
    }
}
