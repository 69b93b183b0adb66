//! How the time of a job grows with the number of namespaces, as a picture for the documents.

use std::fmt::Write;

use crate::report::{Row, Spread};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
/// Left, top, right, bottom of the plot itself.
const EDGES: (f64, f64, f64, f64) = (60.0, 40.0, 700.0, 310.0);
/// Told apart also without colours, by their dashes.
const STYLES: [(&str, &str); 5] = [("#c0392b", ""), ("#2c3e50", "6 3"), ("#2980b9", "2 3"), ("#27ae60", "8 3 2 3"), ("#8e44ad", "1 4")];

/// Draws a line for each program, with a mark at each median and a bar from quartile to quartile.
pub fn svg(title: &str, caption: &str, rows: &[&Row]) -> String {
    let points = |row: &Row| Some((f64::from(row.namespaces), Spread::of(&row.wall)?));
    let all: Vec<(f64, Spread)> = rows.iter().filter_map(|row| points(row)).collect();
    let (far, high) = all.iter().fold((1.0_f64, 0.0_f64), |(far, high), (x, y)| (far.max(*x), high.max(y.high)));
    let top = nice(high);
    let (left, upper, right, lower) = EDGES;
    let at_x = |x: f64| left + (right - left) * x / far;
    let at_y = |y: f64| lower - (lower - upper) * y / top;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{left}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    for part in 0..=4 {
        let y = top * f64::from(part) / 4.0;
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/><text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{y} ms</text>",
            at_y(y),
            left - 6.0,
            at_y(y) + 4.0
        );
    }
    let mut sizes: Vec<u32> = rows.iter().map(|row| row.namespaces).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{size}</text>", at_x(f64::from(size)), lower + 18.0);
    }
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\" fill=\"#555\">namespaces on the bridge. {caption}</text>", HEIGHT - 12.0);
    let mut programs: Vec<&str> = Vec::new();
    for row in rows {
        if !programs.contains(&row.program.as_str()) {
            programs.push(&row.program);
        }
    }
    for (n, program) in programs.into_iter().enumerate() {
        let (colour, dashes) = STYLES[n % STYLES.len()];
        let mut line: Vec<(f64, Spread)> = rows.iter().filter(|row| row.program == program).filter_map(|row| points(row)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let path: Vec<String> = line.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(y.median))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
            path.join(" ")
        );
        for (x, y) in &line {
            let (x, low, median, high) = (at_x(*x), at_y(y.low), at_y(y.median), at_y(y.high));
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"{colour}\"/><circle cx=\"{x:.1}\" cy=\"{median:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        if let Some((_, y)) = line.last() {
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{program}</text>",
                right - 4.0,
                at_y(y.median) - 8.0
            );
        }
    }
    svg + "</svg>\n"
}

/// The next number that is easy to divide by four.
fn nice(high: f64) -> f64 {
    let power = 10.0_f64.powf(high.max(0.001).log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0];
    steps.iter().map(|step| step * power).find(|top| *top >= high).unwrap_or(10.0 * power)
}
