//! The drawing as an SVG picture: plain shapes and text, no scripts, nothing from elsewhere.

use std::fmt::{self, Display, Formatter};

use super::tree::Node;
use super::{Drawing, LEGEND, Region};

/// The width of a picture, unless one tree is wider. Sizes are pixels.
const WIDTH: usize = 1_260;
const COLUMN: usize = 150;
const BOX_WIDTH: usize = 132;
const BOX_HEIGHT: usize = 46;
/// Between a box and the one inside of it: room for a link's name.
const GAP: usize = 34;
const MARGIN: usize = 24;
const BAR: usize = 28;
const HEAD: usize = 48;
const LINE: usize = 17;
/// Characters that fit into a box, beside a line, and into a line of the picture.
const BOX_TEXT: usize = 20;
const LINK_TEXT: usize = 22;
const LINE_TEXT: usize = 150;
/// The most events that are told.
const MOST_EVENTS: usize = 20;

const ROUTER: &str = "#fdf0d5";
/// Volunteers, by the place of their coordinator.
const MACHINES: [&str; 5] = ["#e3f1e3", "#fbe3d6", "#d9f0f4", "#f7dfee", "#eeeecb"];
const OWN: &str = "#e8e6f5";
const PUBLIC: &str = "#dbe7f5";
const NETWORK: &str = "#f6f6f6";
const EDGE: &str = "#666666";
const MARK: &str = "#c0392b";

/// A drawing that displays as an SVG document.
#[derive(Clone, Copy, Debug)]
pub struct Svg<'a>(pub &'a Drawing);

impl Display for Svg<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let drawing = self.0;
        let nodes = drawing.regions.iter().flat_map(|region| &region.nodes);
        let widest = nodes.map(|node| columns(node) * COLUMN).max().unwrap_or(0);
        let width = WIDTH.max(widest + 2 * MARGIN);
        let rows: Vec<(&Region, Vec<&[Node]>)> =
            drawing.regions.iter().map(|region| (region, rows(&region.nodes, width))).collect();
        let notes = notes(drawing);
        let bands = rows.iter().flat_map(|(_, rows)| rows).map(|row| row_height(row));
        let height = HEAD + bands.sum::<usize>() + LINE * (notes.len() + LEGEND.len()) + MARGIN;
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" font-family="Helvetica, Arial, sans-serif" font-size="12">"#
        )?;
        let title = if drawing.title.is_empty() { "a scenario's network" } else { &drawing.title };
        let title = Escaped(title, LINE_TEXT);
        writeln!(f, "<title>{title}</title>")?;
        writeln!(f, r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##)?;
        writeln!(
            f,
            r#"<text x="{MARGIN}" y="30" font-size="16" font-weight="bold">{title}</text>"#
        )?;
        let mut top = HEAD;
        for (region, rows) in rows {
            for row in rows {
                draw_row(f, drawing, region, row, (top, width))?;
                top += row_height(row);
            }
        }
        for note in notes.iter().map(String::as_str).chain(LEGEND) {
            top += LINE;
            let note = Escaped(note, LINE_TEXT + 40);
            writeln!(f, r##"<text x="{MARGIN}" y="{top}" fill="#444444">{note}</text>"##)?;
        }
        writeln!(f, "</svg>")
    }
}

/// What is written below the picture: ways and events.
fn notes(drawing: &Drawing) -> Vec<String> {
    let mut notes: Vec<String> = drawing.ways.clone();
    if drawing.coordinators > 1 {
        notes.push("volunteers of different coordinators have different colours".to_owned());
    }
    for (index, event) in drawing.events.iter().enumerate().take(MOST_EVENTS) {
        notes.push(format!("({}) {}: {}", index + 1, event.when, event.what));
    }
    if drawing.events.len() > MOST_EVENTS {
        notes.push(format!("and {} more events", drawing.events.len() - MOST_EVENTS));
    }
    notes
}

/// The columns that a node needs.
fn columns(node: &Node) -> usize {
    node.inside.iter().map(columns).sum::<usize>().max(1)
}

/// The boxes in a column of it, from the outermost.
fn depth(node: &Node) -> usize {
    1 + node.inside.iter().map(depth).max().unwrap_or(0)
}

/// The nodes in rows that fit.
fn rows(nodes: &[Node], width: usize) -> Vec<&[Node]> {
    let most = (width - 2 * MARGIN) / COLUMN;
    let (mut rows, mut start, mut used) = (Vec::new(), 0, 0);
    for (index, node) in nodes.iter().enumerate() {
        let needed = columns(node);
        if used + needed > most && index > start {
            rows.push(&nodes[start..index]);
            (start, used) = (index, 0);
        }
        used += needed;
    }
    rows.push(&nodes[start..]);
    rows
}

fn row_height(row: &[Node]) -> usize {
    let boxes = row.iter().map(depth).max().unwrap_or(0);
    BAR + boxes * (BOX_HEIGHT + GAP) + GAP / 2 + 8
}

/// The public network as a bar, and what hangs on it.
fn draw_row(
    f: &mut Formatter<'_>,
    drawing: &Drawing,
    region: &Region,
    row: &[Node],
    (top, width): (usize, usize),
) -> fmt::Result {
    let bar = width - 2 * MARGIN;
    writeln!(
        f,
        r##"<rect x="{MARGIN}" y="{top}" width="{bar}" height="{BAR}" rx="14" fill="{PUBLIC}" stroke="#7a9cc6"/>"##
    )?;
    let (x, y) = (width / 2, top + BAR / 2 + 4);
    let title = Escaped(&region.title(), LINE_TEXT).to_string();
    writeln!(f, r##"<text x="{x}" y="{y}" text-anchor="middle" fill="#27496d">{title}</text>"##)?;
    let mut left = MARGIN;
    for node in row {
        draw(f, drawing, node, (left, top + BAR), None)?;
        left += columns(node) * COLUMN;
    }
    Ok(())
}

/// A node and what is inside, in its columns from `left`; the line outwards comes from above, from
/// the middle of `outside` if that is not the node's own.
fn draw(
    f: &mut Formatter<'_>,
    drawing: &Drawing,
    node: &Node,
    (left, from): (usize, usize),
    outside: Option<usize>,
) -> fmt::Result {
    let x = left + columns(node) * COLUMN / 2;
    let top = from + GAP;
    let bottom = top + BOX_HEIGHT;
    if node.is_shared {
        let (width, height) = (columns(node) * COLUMN - 8, (depth(node) - 1) * (BOX_HEIGHT + GAP));
        let (left, top) = (left + 4, bottom + GAP / 2 - 8);
        let height = height - GAP / 2 + 16;
        writeln!(
            f,
            r##"<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="10" fill="{NETWORK}" stroke="#aaaaaa" stroke-dasharray="4 3"/>"##
        )?;
    }
    match outside {
        Some(other) if other != x => {
            let bend = from + GAP / 2 - 1;
            writeln!(
                f,
                r##"<path d="M{other} {from}V{bend}H{x}V{top}" fill="none" stroke="{EDGE}"/>"##
            )?;
        }
        Some(_) | None => {
            writeln!(f, r##"<path d="M{x} {from}V{top}" fill="none" stroke="{EDGE}"/>"##)?;
        }
    }
    if !node.link.is_empty() {
        let (x, y) = (x + 5, top - 6);
        let link = Escaped(&node.link, LINK_TEXT);
        writeln!(
            f,
            r##"<text x="{x}" y="{y}" font-size="10" font-style="italic" fill="#555555">{link}</text>"##
        )?;
    }
    draw_box(f, node, (x, top))?;
    draw_marks(f, drawing, node, (x, top))?;
    let mut left = left;
    for inner in &node.inside {
        draw(f, drawing, inner, (left, bottom), Some(x))?;
        left += columns(inner) * COLUMN;
    }
    Ok(())
}

fn draw_box(f: &mut Formatter<'_>, node: &Node, (x, top): (usize, usize)) -> fmt::Result {
    let left = x - BOX_WIDTH / 2;
    let is_volunteer = node.name.starts_with("vol-");
    let (fill, radius) = match (node.is_router, is_volunteer) {
        (true, _) => (ROUTER, 16),
        (false, true) => (MACHINES[node.cluster.unwrap_or(0) % MACHINES.len()], 4),
        (false, false) => (OWN, 4),
    };
    if node.count > 1 {
        // A second sheet behind the first: several.
        let (left, top) = (left + 5, top + 5);
        writeln!(
            f,
            r##"<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="{radius}" fill="{fill}" stroke="{EDGE}"/>"##
        )?;
    }
    writeln!(
        f,
        r##"<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="{radius}" fill="{fill}" stroke="{EDGE}"/>"##
    )?;
    let name = match node.count {
        1 => node.name.clone(),
        count => format!("{} × {count}", node.name),
    };
    for (text, y, style) in
        [(&name, top + 20, r#"font-weight="bold""#), (&node.text, top + 36, r#"font-size="11""#)]
    {
        let text = Escaped(text, BOX_TEXT);
        writeln!(f, r#"<text x="{x}" y="{y}" text-anchor="middle" {style}>{text}</text>"#)?;
    }
    Ok(())
}

/// The numbers of the events that happen to a node, at its corner.
fn draw_marks(
    f: &mut Formatter<'_>,
    drawing: &Drawing,
    node: &Node,
    (x, top): (usize, usize),
) -> fmt::Result {
    let numbers: Vec<String> = drawing
        .events
        .iter()
        .take(MOST_EVENTS)
        .enumerate()
        .filter(|(_, event)| event.node.as_deref() == Some(&node.name))
        .map(|(index, _)| (index + 1).to_string())
        .collect();
    if numbers.is_empty() {
        return Ok(());
    }
    let text = format!("({})", numbers.join(", "));
    let (x, y) = (x + BOX_WIDTH / 2, top - 3);
    let text = Escaped(&text, BOX_TEXT);
    writeln!(
        f,
        r##"<text x="{x}" y="{y}" text-anchor="end" font-size="11" font-weight="bold" fill="{MARK}">{text}</text>"##
    )
}

/// At most so many characters of a text, as XML wants them.
struct Escaped<'a>(&'a str, usize);
impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(text, most) = *self;
        let is_long = text.chars().count() > most;
        let shown = if is_long { most.saturating_sub(1) } else { most };
        for character in text.chars().take(shown) {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                // XML has no way to write most of them.
                '\0'..' ' | '\u{fffe}' | '\u{ffff}' => write!(f, "\u{fffd}")?,
                other => write!(f, "{other}")?,
            }
        }
        if is_long { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::drawing;
    use super::*;

    /// The texts of a document, after a look at its tags: each is closed in order.
    fn texts(document: &str) -> Vec<String> {
        let (mut open, mut texts) = (Vec::new(), Vec::new());
        for part in document.split('<').skip(1) {
            let (tag, text) = part.split_once('>').expect("a tag ends");
            let name = tag.split(' ').next().unwrap();
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{part}"),
                None if tag.ends_with('/') => {}
                None => open.push(name),
            }
            if !text.trim().is_empty() {
                texts.push(text.to_owned());
            }
        }
        assert_eq!(open, [""; 0]);
        texts
    }

    #[test]
    fn the_picture_names_every_machine_and_the_class_of_every_router() {
        let volunteers = "[[volunteers]]\nbehind = \"carrier\"\ncount = 20";
        let texts = texts(&Svg(&drawing(volunteers)).to_string());

        let shown = |wanted: &str| texts.iter().filter(|text| *text == wanted).count();
        for name in ["coordinator", "scientist", "vol-1", "vol-1-r1", "vol-20", "vol-20-r0"] {
            assert_eq!(shown(name), 1, "{name}");
        }
        assert_eq!((shown("EIM APDF"), shown("no NAT, IPv6")), (41, 1));
        assert_eq!(shown("public network"), 3, "one for each row");
    }

    #[test]
    fn text_from_the_file_is_text_in_the_picture() {
        let volunteers = "[[volunteers]]\nbehind = \"none\"";
        let title = "1 < 2 & \"3\" \u{1}</text><script>".to_owned();
        let document = Svg(&Drawing { title, ..drawing(volunteers) }).to_string();

        let texts = texts(&document);
        let escaped = "1 &lt; 2 &amp; &quot;3&quot; \u{fffd}&lt;/text&gt;&lt;script&gt;";
        assert_eq!(texts[0], escaped);
        assert!(!document.contains("<script"));
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(Escaped("<abcdef", 4).to_string(), "&lt;ab…");
        assert_eq!(Escaped("abcd", 4).to_string(), "abcd");
    }
}
