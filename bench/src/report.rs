//! Tables of cells, as Markdown that reads well on a terminal too.

use std::fmt::Write as _;

use crate::cell::{Cell, Sample};

/// One line of a table.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// What was measured.
    pub name: String,
    /// Its figures.
    pub cell: &'a Cell,
    /// What it is compared with, and its name.
    pub base: Option<(&'a str, &'a Cell)>,
}

/// Throughput, ratio, latencies and processor time of each row.
pub fn table(rows: &[Row<'_>]) -> String {
    let mut lines = vec![
        [
            "cell",
            "requests/s",
            "ratio",
            "quartiles",
            "p50 ms",
            "p99 ms",
            "µs/request",
            "upstream",
            "wrk",
            "others",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in rows {
        lines.push(line(row));
    }
    aligned(&lines)
}

fn line(row: &Row<'_>) -> Vec<String> {
    if let Some(why) = &row.cell.failed {
        return vec![row.name.clone(), format!("FAILED: {why}")];
    }
    let of = |it: fn(&Sample) -> f64| row.cell.median(it);
    let compared = row.base.and_then(|(name, base)| {
        let [low, middle, high] = row.cell.ratio(base, |it| it.seen.rate())?;
        Some([format!("{middle:.2} × {name}"), format!("{low:.2}–{high:.2}")])
    });
    let [ratio, quartiles] = compared.unwrap_or_default();
    vec![
        row.name.clone(),
        format!("{:.0}", of(|it| it.seen.rate())),
        ratio,
        quartiles,
        format!("{:.3}", of(|it| it.seen.p50_us) / 1e3),
        format!("{:.3}", of(|it| it.seen.p99_us) / 1e3),
        format!("{:.1}", of(|it| it.cpu_us)),
        format!("{:.1}", of(|it| it.upstream_us)),
        format!("{:.1}", of(|it| it.generator_us)),
        format!("{:.0} %", of(|it| it.others) * 100.0),
    ]
}

/// Two builds beside one another: throughput and processor time of the second as a share of the first.
pub fn duel(rows: &[Row<'_>]) -> String {
    let mut lines = vec![
        [
            "cell",
            "requests/s",
            "peer",
            "peer / this",
            "quartiles",
            "µs/request",
            "peer",
            "peer / this",
            "quartiles",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in rows {
        let Some((_, base)) = row.base else { continue };
        let mut line = vec![row.name.clone()];
        let compared: [fn(&Sample) -> f64; 2] = [|it| it.seen.rate(), |it| it.cpu_us];
        for of in compared {
            match row.cell.ratio(base, of) {
                Some([low, middle, high]) => line.extend([
                    format!("{:.1}", base.median(of)),
                    format!("{:.1}", row.cell.median(of)),
                    format!("{middle:.3}"),
                    format!("{low:.3}–{high:.3}"),
                ]),
                None => line.push("FAILED".to_owned()),
            }
        }
        lines.push(line);
    }
    aligned(&lines)
}

/// A Markdown table whose columns stand below one another. The first line is its head.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let cell = |line: &[String], column: usize| line.get(column).cloned().unwrap_or_default();
    // A line that is short says something in words; it must not widen its column.
    let whole = || lines.iter().filter(|it| it.len() == columns);
    let widths: Vec<usize> = (0..columns)
        .map(|column| whole().map(|it| it[column].chars().count()).max().unwrap_or(0).max(3))
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            let value = cell(line, column);
            let _ = match column {
                0 => write!(text, "| {value:<width$} "),
                _ => write!(text, "| {value:>width$} "),
            };
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column == 0 { "-" } else { ":" };
                let _ = write!(text, "|{}{end}", "-".repeat(width + 1));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_one_another_and_words_do_not_widen_them() {
        let words = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let lines =
            [words(&["cell", "a", "b"]), words(&["x", "10", "µ"]), words(&["long name", "it FAILED badly"])];
        let expected = "| cell |   a |   b |\n|------|----:|----:|\n| x    |  10 |   µ |\n| long name | it FAILED badly |     |\n";
        assert_eq!(aligned(&lines), expected);
    }

    #[test]
    fn a_failed_cell_shows_its_reason_and_no_figure() {
        let cell = Cell { failed: Some("3 refused".to_owned()), ..Cell::default() };
        let text = table(&[Row { name: "first".to_owned(), cell: &cell, base: None }]);
        assert!(text.contains("| FAILED: 3 refused |") && !text.contains("NaN"), "{text}");
    }
}
