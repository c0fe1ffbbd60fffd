//! The drawing as an SVG picture: plain shapes and text, no scripts, nothing from elsewhere.

use std::fmt::{self, Display, Formatter};

use super::{Branch, Drawing, LEGEND, network};

/// Machines side by side. More go into further rows.
const COLUMNS: usize = 8;
/// Sizes in pixels.
const COLUMN: usize = 150;
const BOX_WIDTH: usize = 130;
const BOX_HEIGHT: usize = 48;
const GAP: usize = 26;
const MARGIN: usize = 20;
const BAR: usize = 30;
const HEAD: usize = 40;
const FOOT: usize = 30;
/// Characters that fit into a box, and into a line of the narrowest picture.
const BOX_TEXT: usize = 18;
const LINE_TEXT: usize = 110;
/// The least width: the legend fits.
const WIDTH: usize = 900;

const ROUTER: &str = "#fde9c8";
const MACHINE: &str = "#d8ecd8";
const PUBLIC: &str = "#d6e4f5";

/// A drawing that displays as an SVG document.
#[derive(Clone, Copy, Debug)]
pub struct Svg<'a>(pub &'a Drawing);

impl Display for Svg<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Drawing { title, machines } = self.0;
        let columns = machines.len().min(COLUMNS);
        let width = (columns * COLUMN + 2 * MARGIN).max(WIDTH);
        let rows: Vec<&[Branch]> = machines.chunks(COLUMNS).collect();
        let height = HEAD + rows.iter().map(|row| row_height(row)).sum::<usize>() + FOOT;
        writeln!(
            f,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" font-family="sans-serif" font-size="13">"#
        )?;
        let title = if title.is_empty() { "a scenario's network" } else { title };
        writeln!(f, "<title>{}</title>", Escaped(title, LINE_TEXT))?;
        writeln!(f, r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##)?;
        let title = Escaped(title, LINE_TEXT);
        writeln!(f, r#"<text x="{MARGIN}" y="26" font-weight="bold">{title}</text>"#)?;
        let mut top = HEAD;
        for row in rows {
            draw_row(f, row, top, width)?;
            top += row_height(row);
        }
        let legend = Escaped(LEGEND, usize::MAX);
        let y = height - 12;
        writeln!(f, r#"<text x="{MARGIN}" y="{y}" font-size="11">{legend}</text>"#)?;
        writeln!(f, "</svg>")
    }
}

fn row_height(row: &[Branch]) -> usize {
    let boxes = row.iter().map(|branch| branch.routers.len() + 1).max().unwrap_or(0);
    BAR + boxes * (BOX_HEIGHT + GAP) + GAP
}

/// The public network as a bar, and what hangs on it.
fn draw_row(f: &mut Formatter<'_>, row: &[Branch], top: usize, width: usize) -> fmt::Result {
    let bar = width - 2 * MARGIN;
    writeln!(
        f,
        r##"<rect x="{MARGIN}" y="{top}" width="{bar}" height="{BAR}" rx="6" fill="{PUBLIC}" stroke="#33557f"/>"##
    )?;
    let y = top + BAR / 2 + 5;
    writeln!(f, r#"<text x="{}" y="{y}" text-anchor="middle">public network</text>"#, width / 2)?;
    for (index, branch) in row.iter().enumerate() {
        let x = MARGIN + index * COLUMN + COLUMN / 2;
        let mut y = top + BAR;
        for router in &branch.routers {
            y = draw_box(f, (x, y), ROUTER, [&router.name, &router.class])?;
        }
        let role = format!("{}, {}", branch.role, network(branch.behind));
        // The longer text gives way: the kind of network is in its routers too.
        let role = if role.chars().count() > BOX_TEXT { &branch.role } else { &role };
        draw_box(f, (x, y), MACHINE, [&branch.name, role])?;
    }
    Ok(())
}

/// A line downwards from a point and a box with two lines of text; returns where the box ends.
fn draw_box(
    f: &mut Formatter<'_>,
    (x, from): (usize, usize),
    fill: &str,
    [first, second]: [&str; 2],
) -> Result<usize, fmt::Error> {
    let (left, top) = (x - BOX_WIDTH / 2, from + GAP);
    writeln!(f, r##"<path d="M{x} {from}V{top}" stroke="#555555"/>"##)?;
    writeln!(
        f,
        r##"<rect x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="4" fill="{fill}" stroke="#555555"/>"##
    )?;
    for (text, y, weight) in [(first, top + 20, "bold"), (second, top + 38, "normal")] {
        let text = Escaped(text, BOX_TEXT);
        writeln!(
            f,
            r#"<text x="{x}" y="{y}" text-anchor="middle" font-weight="{weight}">{text}</text>"#
        )?;
    }
    Ok(top + BOX_HEIGHT)
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
        assert_eq!((shown("EIM APDF"), shown("no NAT")), (41, 1));
        assert_eq!(shown("public network"), 3, "one for each row");
    }

    #[test]
    fn text_from_the_file_is_text_in_the_picture() {
        let volunteers =
            "[scientist]\nname = \"</text><script>\"\n[[volunteers]]\nbehind = \"none\"";
        let title = "1 < 2 & \"3\" \u{1}".to_owned();
        let document = Svg(&Drawing { title, ..drawing(volunteers) }).to_string();

        let texts = texts(&document);
        assert_eq!(texts[0], "1 &lt; 2 &amp; &quot;3&quot; \u{fffd}");
        assert!(texts.contains(&"&lt;/text&gt;&lt;script&gt;".to_owned()), "{texts:?}");
        assert!(!document.contains("<script"));
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(Escaped("<abcdef", 4).to_string(), "&lt;ab…");
        assert_eq!(Escaped("abcd", 4).to_string(), "abcd");
    }
}
