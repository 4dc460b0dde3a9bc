//! Figures, and the table that they make.

use serde_json::{Value, json};

/// What a figure should be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// To be printed only.
    None,
}

impl Goal {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(least) => Some(value >= least),
            Self::AtMost(most) => Some(value <= most),
            Self::None => None,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}{unit}"),
            Self::AtMost(most) => format!("≤ {most}{unit}"),
            Self::None => String::new(),
        }
    }
}

/// One line of the table.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Figure {
    /// Its name; begins with its benchmark's.
    pub(crate) name: String,
    /// What Headwater did.
    pub(crate) what: String,
    /// What it is compared with.
    pub(crate) baseline: String,
    /// What the goal is about: a ratio, or an amount of `unit`.
    pub(crate) value: f64,
    /// " MiB" and the like; nothing for a ratio.
    pub(crate) unit: &'static str,
    /// What it should be.
    pub(crate) goal: Goal,
}

/// All figures of a run.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

const HEAD: [&str; 6] = ["name", "what", "baseline", "ratio", "goal", "met?"];

impl Report {
    pub(crate) fn extend(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }

    /// The figures as a Markdown table, columns aligned.
    pub(crate) fn table(&self) -> String {
        let rows: Vec<[String; 6]> = std::iter::once(HEAD.map(str::to_owned)).chain(self.rows()).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut table = String::new();
        for (number, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(widths) {
                table.push_str(&format!("| {cell:width$} "));
            }
            table.push_str("|\n");
            if number == 0 {
                widths.iter().for_each(|width| table.push_str(&format!("|{}", "-".repeat(width + 2))));
                table.push_str("|\n");
            }
        }
        table.trim_end().to_owned()
    }

    fn rows(&self) -> impl Iterator<Item = [String; 6]> {
        self.figures.iter().map(|figure| {
            let met = match figure.goal.is_met(figure.value) {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            };
            [
                figure.name.clone(),
                figure.what.clone(),
                figure.baseline.clone(),
                format!("{:.2}{}", figure.value, figure.unit),
                figure.goal.text(figure.unit),
                met.to_owned(),
            ]
        })
    }

    /// The figures as one JSON document.
    pub(crate) fn json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| {
            let (least, most) = match figure.goal {
                Goal::AtLeast(least) => (Some(least), None),
                Goal::AtMost(most) => (None, Some(most)),
                Goal::None => (None, None),
            };
            json!({
                "name": figure.name,
                "what": figure.what,
                "baseline": figure.baseline,
                "value": figure.value,
                "unit": if figure.unit.is_empty() { "ratio" } else { figure.unit.trim() },
                "at_least": least,
                "at_most": most,
                "met": figure.goal.is_met(figure.value),
            })
        });
        figures.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, value: f64, unit: &'static str, goal: Goal) -> Figure {
        Figure { name: name.into(), what: "é".into(), baseline: "plain".into(), value, unit, goal }
    }

    #[test]
    fn goals_are_judged_from_their_side() {
        let mut report = Report::default();
        report.extend(vec![
            figure("fast", 0.61, "", Goal::AtLeast(0.6)),
            figure("slow", 0.59, "", Goal::AtLeast(0.6)),
            figure("small", 64.0, " MiB", Goal::AtMost(64.0)),
            figure("large", 64.5, " MiB", Goal::AtMost(64.0)),
            figure("printed", 9.0, "", Goal::None),
        ]);
        let table = report.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "| name    | what | baseline | ratio     | goal     | met? |");
        assert_eq!(lines[2], "| fast    | é    | plain    | 0.61      | ≥ 0.6    | yes  |");
        assert!(lines[3].ends_with("| NO   |") && lines[4].contains("64.00 MiB | ≤ 64 MiB | yes"), "{table}");
        let met: Vec<Value> = report.json().as_array().unwrap().iter().map(|line| line["met"].clone()).collect();
        assert_eq!(met, [json!(true), json!(false), json!(true), json!(false), Value::Null]);
    }
}
