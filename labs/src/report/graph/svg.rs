//! The picture as SVG: links as rails above, nodes as columns below with what runs on them, networks and chains under
//! them. A rail has a drop to each of its nodes, so a wire and a segment look like what they are.

use quick_xml::Writer;
use quick_xml::events::BytesText;

use super::{Link, Picture};

/// Pixels; text is 13 high and at most so wide.
const COLUMN: usize = 250;
const BOX: usize = 220;
const LINE: usize = 20;
const RAIL: usize = 34;
const MARGIN: usize = 20;
/// Colours of networks, by turns: the Okabe and Ito set, which colour-blind people tell apart.
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999",
];

/// The whole document.
pub(crate) fn svg(picture: &Picture) -> String {
    let rows = picture
        .nodes
        .iter()
        .map(|node| lines_on(picture, &node.name));
    let tallest = rows.max().unwrap_or(0);
    let top = MARGIN + LINE + picture.links.len() * RAIL + RAIL;
    let boxes = top + (tallest + 2) * LINE;
    let height = boxes + (picture.networks.len() + picture.chains.len() + 2) * LINE + MARGIN;
    let width = 2 * MARGIN + picture.nodes.len().max(2) * COLUMN;
    let mut canvas = Canvas(Writer::new(Vec::new()));
    canvas.open(width, height);
    canvas.text(MARGIN, MARGIN + 5, "title", &format!("lab {}", picture.lab));
    for (number, link) in picture.links.iter().enumerate() {
        canvas.link(picture, link, MARGIN + LINE + (number + 1) * RAIL, top);
    }
    for number in 0..picture.nodes.len() {
        canvas.node(picture, number, top, (tallest + 1) * LINE);
    }
    let mut y = boxes + LINE;
    for (number, network) in picture.networks.iter().enumerate() {
        canvas.dot(MARGIN + 6, y - 4, colour(number));
        canvas.text(MARGIN + LINE, y, "text", &network.words());
        y += LINE;
    }
    for chain in &picture.chains {
        canvas.text(MARGIN, y, "text", &format!("chain {}", chain.words()));
        y += LINE;
    }
    canvas.close()
}

fn colour(network: usize) -> &'static str {
    COLOURS[network % COLOURS.len()]
}

/// A line for each container and each of its endpoints.
fn lines_on(picture: &Picture, node: &str) -> usize {
    picture.on(node).map(|c| 1 + c.endpoints.len()).sum()
}

fn left(node: usize) -> usize {
    MARGIN + node * COLUMN
}

struct Canvas(Writer<Vec<u8>>);

impl Canvas {
    fn open(&mut self, width: usize, height: usize) {
        let style = "text{font:13px sans-serif;fill:#222}.title{font-weight:bold;font-size:15px}.name{font-weight:bold}\
                     .bad{fill:#d55e00}";
        let head = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
             {height}\"><style>{style}</style><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        self.0.get_mut().extend(head.bytes());
    }

    fn close(mut self) -> String {
        self.0.get_mut().extend(b"</svg>\n");
        String::from_utf8_lossy(&self.0.into_inner()).into_owned()
    }

    fn element(&mut self, name: &str, attributes: &[(&str, &str)], text: Option<&str>) {
        let element = self.0.create_element(name);
        let element = element.with_attributes(attributes.iter().copied());
        // Writing to memory does not fail.
        let _ = match text {
            Some(text) => element.write_text_content(BytesText::new(text)).map(drop),
            None => element.write_empty().map(drop),
        };
        self.0.get_mut().push(b'\n');
    }

    fn text(&mut self, x: usize, y: usize, class: &str, text: &str) {
        let (x, y) = (x.to_string(), y.to_string());
        self.element(
            "text",
            &[("x", &x), ("y", &y), ("class", class)],
            Some(text),
        );
    }

    fn dot(&mut self, x: usize, y: usize, fill: &str) {
        let (x, y) = (x.to_string(), y.to_string());
        self.element(
            "circle",
            &[("cx", &x), ("cy", &y), ("r", "5"), ("fill", fill)],
            None,
        );
    }

    fn line(&mut self, from: (usize, usize), to: (usize, usize), good: bool) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(|n| n.to_string());
        let (stroke, dash) = if good {
            ("#444", "none")
        } else {
            ("#d55e00", "6 4")
        };
        let attributes = [
            ("x1", x1.as_str()),
            ("y1", &y1),
            ("x2", &x2),
            ("y2", &y2),
            ("stroke", stroke),
            ("stroke-width", "2"),
            ("stroke-dasharray", dash),
        ];
        self.element("line", &attributes, None);
    }

    /// A rail at `y` with drops down to its nodes' boxes.
    fn link(&mut self, picture: &Picture, link: &Link, y: usize, top: usize) {
        let number = picture
            .links
            .iter()
            .position(|one| one == link)
            .unwrap_or(0);
        // Drops of different links at one node stand side by side.
        let shift = 30 + (number * 23) % (BOX - 60);
        let at: Vec<usize> = (0..picture.nodes.len())
            .filter(|node| link.nodes.contains(&picture.nodes[*node].name))
            .map(|node| left(node) + shift)
            .collect();
        let (Some(&first), Some(&last)) = (at.first(), at.last()) else {
            return;
        };
        self.line((first, y), (last.max(first + 1), y), link.good);
        for x in at {
            self.line((x, y), (x, top), link.good);
        }
        let class = if link.good { "text" } else { "bad" };
        self.text(first + 8, y - 6, class, &link.label.join(", "));
    }

    fn node(&mut self, picture: &Picture, number: usize, top: usize, height: usize) {
        let node = &picture.nodes[number];
        let x = left(number);
        let (fill, stroke) = if node.alive {
            ("#f4f6f8", "#444")
        } else {
            ("#fbeee6", "#d55e00")
        };
        let [px, py, width, tall] = [x, top, BOX, height + LINE / 2].map(|n| n.to_string());
        let attributes = [
            ("x", px.as_str()),
            ("y", &py),
            ("width", &width),
            ("height", &tall),
            ("rx", "6"),
            ("fill", fill),
            ("stroke", stroke),
        ];
        self.element("rect", &attributes, None);
        let state = if node.alive { "" } else { "  not alive" };
        let mut y = top + LINE - 2;
        self.text(
            x + 10,
            y,
            "name",
            &format!("{}  {}{state}", node.name, node.vtep),
        );
        for container in picture.on(&node.name) {
            y += LINE;
            self.text(x + 10, y, "text", &container.words());
            for (network, address) in &container.endpoints {
                y += LINE;
                let known = picture.networks.iter().position(|n| n.name == *network);
                self.dot(x + 26, y - 4, known.map_or("#fff", colour));
                self.text(x + 38, y, "text", &format!("{address}  {network}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quick_xml::Reader;
    use quick_xml::events::Event;

    use super::*;
    use crate::report::graph::example;

    /// The document's texts, if it is well-formed.
    fn texts(document: &str) -> Vec<String> {
        let mut reader = Reader::from_str(document);
        reader.config_mut().check_end_names = true;
        let (mut depth, mut texts, mut text) = (0, Vec::new(), String::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Start(_) => depth += 1,
                Event::End(_) => {
                    depth -= 1;
                    texts.push(std::mem::take(&mut text));
                }
                Event::Text(part) => text.push_str(&part.decode().unwrap()),
                Event::GeneralRef(name) => {
                    let entity = format!("&{};", name.decode().unwrap());
                    text.push_str(&quick_xml::escape::unescape(&entity).unwrap());
                }
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(depth, 0);
        texts.into_iter().map(|t| t.trim().to_owned()).collect()
    }

    #[test]
    fn it_is_xml_and_has_everything_with_names_as_they_are() {
        let document = svg(&example());
        let texts = texts(&document);
        for wanted in [
            "lab a <b> & \"c\"",
            "n1+n2, delay 5ms",
            "n2  192.0.2.11  not alive",
            "red/a",
            "10.10.0.1  red/front",
            "red/front  vni 7  10.10.0.0/16",
            "chain red/guard v3: fw (red/fw)",
        ] {
            assert!(
                texts.iter().any(|text| text == wanted),
                "{wanted}: {document}"
            );
        }
        assert_eq!(
            document.matches("<rect").count(),
            3,
            "the ground and two nodes"
        );
        assert_eq!(document.matches("<line").count(), 3, "a rail and two drops");
    }

    #[test]
    fn an_empty_lab_is_a_picture_too() {
        assert!(texts(&svg(&Picture::default())).contains(&"lab".to_owned()));
    }
}
