// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Which program works on which buffers, at a glance.

use super::case::{Transfer, Work};
use super::shapes::KINDS;
use super::{Case, Kind, Outcome};
use crate::spec::BufferType;

/// One line of the table: a name, and what became of its cases by type.
type Line = (String, Vec<(BufferType, bool)>);

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
            let heads: Vec<String> = KINDS.iter().map(|kind| format!(" {kind:<8}")).collect();
            all.push(String::new());
            all.push(
                format!("{group:<12}{}", heads.concat())
                    .trim_end()
                    .to_string(),
            );
            for (name, cells) in lines {
                let cells: Vec<String> = KINDS
                    .iter()
                    .map(|kind| format!(" {:<8}", text(cells, *kind)))
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
    let kinds = KINDS.iter().map(|kind| format!("{kind} to"));
    let works = Work::ALL.iter().map(|work| work.name().to_string());
    kinds
        .chain(works)
        .position(|known| known == name)
        .unwrap_or(usize::MAX)
}

/// Where a case stands: the line's name, and the column.
fn cell(transfer: &Transfer) -> Option<(String, BufferType)> {
    match (transfer.from, transfer.to) {
        (Some(from), Some(to)) => Some((format!("{} to", from.kind), to.kind)),
        (Some(side), None) | (None, Some(side)) => {
            Some((transfer.work.name().to_string(), side.kind))
        }
        (None, None) => None,
    }
}

fn text(cells: &[(BufferType, bool)], kind: BufferType) -> &'static str {
    let cells: Vec<bool> = cells
        .iter()
        .filter(|(column, _)| *column == kind)
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
            "copy         user     fixed    vec      reg-vec  arena"
        );
        assert_eq!(
            lines[2],
            "user to      -        -        FAIL     -        -"
        );
        assert_eq!(
            lines[3],
            "vec to       ok       -        -        -        -"
        );
    }
}
