//! A picture of some figures: one bar each, as SVG.

use std::fmt;

use super::figures::{Better, Figure};

const WIDTH: usize = 720;
/// Where the bars begin, and how long the longest is.
const LEFT: usize = 240;
const LONGEST: f64 = 380.0;
const HEAD: usize = 48;
const LINE: usize = 26;
const BAR: usize = 18;

/// The figures whose names begin alike, as bars with what differs in their names.
pub struct Chart<'a> {
    title: String,
    bars: Vec<(&'a str, f64, &'a str)>,
}

impl<'a> Chart<'a> {
    /// Those that have a value, the better ones first; none where there are none.
    pub fn new(title: impl Into<String>, figures: &'a [Figure], prefix: &str) -> Option<Self> {
        let bar = |figure: &'a Figure| {
            Some((figure.name.strip_prefix(prefix)?, figure.value?, figure.unit.as_str()))
        };
        let mut bars: Vec<_> = figures.iter().filter_map(bar).collect();
        bars.sort_by(|(_, a, _), (_, b, _)| b.total_cmp(a));
        let is_reversed = figures
            .iter()
            .any(|figure| figure.name.starts_with(prefix) && figure.better == Better::Lower);
        if is_reversed {
            bars.reverse();
        }
        (!bars.is_empty()).then(|| Self { title: title.into(), bars })
    }
}

impl fmt::Display for Chart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let height = HEAD + self.bars.len() * LINE + LINE / 2;
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" font-family="Helvetica, Arial, sans-serif" font-size="12">"#
        )?;
        let title = escaped(&self.title);
        writeln!(f, "<title>{title}</title>")?;
        writeln!(f, r##"<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>"##)?;
        writeln!(f, r#"<text x="12" y="28" font-size="15" font-weight="bold">{title}</text>"#)?;
        let most = self.bars.iter().map(|(_, value, _)| *value).fold(f64::MIN_POSITIVE, f64::max);
        for (row, (name, value, unit)) in self.bars.iter().enumerate() {
            let (top, long) = (HEAD + row * LINE, (value / most * LONGEST).max(1.0));
            let base = top + BAR - 5;
            let color = if name.starts_with("Clouds@home") { "#2b6cb0" } else { "#a0aec0" };
            let (right, behind) = (LEFT - 8, LEFT as f64 + long + 6.0);
            writeln!(
                f,
                r#"<text x="{right}" y="{base}" text-anchor="end">{}</text><rect x="{LEFT}" y="{top}" width="{long:.1}" height="{BAR}" fill="{color}"/><text x="{behind:.1}" y="{base}">{value:.2} {}</text>"#,
                escaped(name),
                escaped(unit)
            )?;
        }
        writeln!(f, "</svg>")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_order_and_as_long_as_their_values() {
        let figure = |name: &str, value| Figure::new(name, "Gbit/s", Better::Higher, vec![value]);
        let figures = [
            figure("TCP: a<b", 1.0),
            figure("UDP: other", 9.0),
            figure("TCP: Clouds@home", 2.0),
            Figure::new("TCP: absent", "Gbit/s", Better::Higher, Vec::new()),
        ];
        let text = Chart::new("TCP & all", &figures, "TCP: ").unwrap().to_string();
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
        assert!(
            at("Clouds@home") < at("a&lt;b") && at(r#"width="380.0""#) < at(r#"width="190.0""#)
        );
        assert!(!text.contains("other") && !text.contains("absent"));
        assert!(Chart::new("none", &figures, "SCTP: ").is_none());
    }
}
