//! The figures of a growing log as a drawing.

use super::growth::Step;
use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
/// Of each of the two panels.
const HEIGHT: f64 = 200.0;
/// Around a panel, for its scales and its title.
const MARGIN: f64 = 48.0;

/// A line of a panel: what it shows, its colour, its points.
struct Line {
    title: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
}

/// Two panels above one another: throughput, and the time of a start, by the log's size.
pub(super) fn svg(steps: &[Step]) -> String {
    let line = |title, colour, of: fn(&Step) -> f64| Line {
        title,
        colour,
        points: steps.iter().map(|step| (step.gibibytes, of(step))).collect(),
    };
    let speeds = [
        line("append, MB/s", "#1f6fb2", |step| step.append),
        line("read with CRC check, MB/s", "#b2521f", |step| step.read),
    ];
    let starts = [line("start after an orderly stop, ms", "#3a7d44", |step| step.open)];
    let height = 2.0 * (HEIGHT + 2.0 * MARGIN);
    let mut drawing = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    panel(&mut drawing, MARGIN, &speeds);
    panel(&mut drawing, HEIGHT + 3.0 * MARGIN, &starts);
    drawing.push_str("</svg>\n");
    drawing
}

/// Draws lines into a panel whose upper edge is at `top`; scales begin at 0.
fn panel(drawing: &mut String, top: f64, lines: &[Line]) {
    let all = || lines.iter().flat_map(|line| &line.points);
    let largest = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(f64::MIN_POSITIVE, f64::max);
    let (right, highest) = (largest(|point| point.0), largest(|point| point.1) * 1.1);
    let width = WIDTH - 2.0 * MARGIN;
    let place = |&(x, y): &(f64, f64)| (MARGIN + x / right * width, top + HEIGHT - y / highest * HEIGHT);
    for tick in 0..=4 {
        let value = highest * f64::from(tick) / 4.0;
        let y = top + HEIGHT - HEIGHT * f64::from(tick) / 4.0;
        let (end, label) = (MARGIN + width, y + 4.0);
        let digits = if highest < 10.0 { 2 } else { 0 };
        put(drawing, format_args!("<path d=\"M{MARGIN:.0} {y:.1}H{end:.0}\" stroke=\"#ddd\"/>"));
        let x = MARGIN - 6.0;
        put(drawing, format_args!("<text x=\"{x:.0}\" y=\"{label:.1}\" text-anchor=\"end\">{value:.digits$}</text>"));
    }
    for (x, _) in lines.iter().take(1).flat_map(|line| &line.points) {
        let (at, below) = (place(&(*x, 0.0)).0, top + HEIGHT + 16.0);
        put(drawing, format_args!("<text x=\"{at:.1}\" y=\"{below:.0}\" text-anchor=\"middle\">{x:.1}</text>"));
    }
    let (middle, below) = (WIDTH / 2.0, top + HEIGHT + 32.0);
    put(drawing, format_args!("<text x=\"{middle:.0}\" y=\"{below:.0}\" text-anchor=\"middle\">GiB in the log</text>"));
    for (number, line) in (0_u32..).zip(lines) {
        let mut path = String::new();
        for (step, point) in line.points.iter().enumerate() {
            let (x, y) = place(point);
            path.push_str(&format!("{}{x:.1} {y:.1}", if step == 0 { "M" } else { "L" }));
        }
        let colour = line.colour;
        put(drawing, format_args!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"));
        let (x, y) = (MARGIN + f64::from(number) * 200.0, top - 10.0);
        put(drawing, format_args!("<text x=\"{x:.0}\" y=\"{y:.0}\" fill=\"{colour}\">{}</text>", line.title));
    }
}

fn put(drawing: &mut String, element: std::fmt::Arguments<'_>) {
    // A string takes whatever is written to it.
    if writeln!(drawing, "{element}").is_err() {
        drawing.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_within_its_panel() {
        let steps = [0.1, 0.2, 1.0].map(|gibibytes| Step { gibibytes, append: 900.0, read: 3000.0, open: gibibytes });
        let drawing = svg(&steps);
        assert!(drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"));
        let lines: Vec<&str> = drawing.lines().filter(|line| line.contains("stroke-width")).collect();
        assert_eq!(lines.len(), 3);
        for line in lines {
            let path = line.split('"').nth(1).unwrap();
            let points: Vec<f64> = path.split(['M', 'L', ' ']).filter_map(|number| number.parse().ok()).collect();
            assert_eq!(points.len(), 6, "{path}");
            for point in points.chunks(2) {
                assert!((MARGIN..=WIDTH - MARGIN).contains(&point[0]), "{path}");
                assert!((MARGIN..=2.0 * HEIGHT + 3.0 * MARGIN).contains(&point[1]), "{path}");
            }
        }
    }
}
