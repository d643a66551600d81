// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Which program works on which buffers, at a glance.

use super::case::{Side, Transfer, Work};
use super::{Case, Kind, Outcome};
use crate::spec::BufferType;

/// The types of buffers; `kernel` is REG_VEC over a block request's pages.
const COLUMNS: [&str; 7] = [
    "user", "fixed", "vec", "kfixed", "reg-vec", "kernel", "arena",
];

/// One line of the table: a name, and what became of its cases by column.
type Line = (String, Vec<(&'static str, bool)>);

/// Fills itself case by case.
#[derive(Debug, Default)]
pub struct Table {
    parts: Vec<(&'static str, Vec<Line>)>,
}

impl Table {
    pub fn add(&mut self, case: &Case, outcome: &Outcome) {
        let (Kind::Transfer(transfer), false) = (&case.kind, matches!(outcome, Outcome::Skip(_)))
        else {
            return;
        };
        let Some((name, column)) = cell(transfer) else {
            return;
        };
        let group = transfer.work.group();
        let part = match self.parts.iter().position(|(part, _)| *part == group) {
            Some(part) => part,
            None => {
                self.parts.push((group, Vec::new()));
                self.parts.len() - 1
            }
        };
        let lines = &mut self.parts[part].1;
        match lines.iter_mut().find(|(line, _)| *line == name) {
            Some((_, cells)) => cells.push((column, *outcome == Outcome::Pass)),
            None => lines.push((name, vec![(column, *outcome == Outcome::Pass)])),
        }
    }

    /// The lines of the table, none when there was nothing to put in it.
    pub fn lines(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for (group, lines) in &mut self.parts {
            lines.sort_by_key(|(name, _)| order(name));
            let heads: Vec<String> = COLUMNS.iter().map(|name| format!(" {name:<8}")).collect();
            all.push(String::new());
            all.push(
                format!("{group:<12}{}", heads.concat())
                    .trim_end()
                    .to_string(),
            );
            for (name, cells) in lines {
                let cells: Vec<String> = COLUMNS
                    .iter()
                    .map(|name| format!(" {:<8}", text(cells, name)))
                    .collect();
                all.push(
                    format!("{name:<12}{}", cells.concat())
                        .trim_end()
                        .to_string(),
                );
            }
        }
        all
    }
}

/// As the buffer types and the programs are listed elsewhere.
fn order(name: &str) -> usize {
    let sources = COLUMNS.iter().map(|column| format!("{column} to"));
    let works = Work::ALL.iter().map(|work| work.name().to_string());
    sources
        .chain(works)
        .position(|known| known == name)
        .unwrap_or(usize::MAX)
}

/// Where a case stands: the line's name, and the column.
fn cell(transfer: &Transfer) -> Option<(String, &'static str)> {
    match (transfer.from, transfer.to) {
        (Some(from), Some(to)) => Some((format!("{} to", column(&from)), column(&to))),
        (Some(side), None) | (None, Some(side)) => {
            Some((transfer.work.name().to_string(), column(&side)))
        }
        (None, None) => None,
    }
}

fn column(side: &Side) -> &'static str {
    match (side.kind, side.is_kernel()) {
        (BufferType::RegVec, true) => "kernel",
        (kind, _) => kind.name(),
    }
}

fn text(cells: &[(&'static str, bool)], column: &str) -> &'static str {
    let cells: Vec<bool> = cells
        .iter()
        .filter(|(name, _)| *name == column)
        .map(|(_, passed)| *passed)
        .collect();
    match cells.as_slice() {
        [] => "-",
        cells if cells.iter().all(|passed| *passed) => "ok",
        _ => "FAIL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_marks_its_cell() {
        let mut table = Table::default();
        let case = |text: &str| Case::transfer(text.parse().expect("a case"));
        table.add(&case("copy from=vec to=user len=1"), &Outcome::Pass);
        table.add(&case("copy from=user to=vec len=1"), &Outcome::Pass);
        table.add(
            &case("copy from=user to=vec len=2"),
            &Outcome::Fail("x".into()),
        );
        let lines = table.lines();
        assert_eq!(
            lines[1],
            "copy         user     fixed    vec      kfixed   reg-vec  kernel   arena"
        );
        assert_eq!(
            lines[2],
            "user to      -        -        FAIL     -        -        -        -"
        );
        assert_eq!(
            lines[3],
            "vec to       ok       -        -        -        -        -        -"
        );
    }
}
