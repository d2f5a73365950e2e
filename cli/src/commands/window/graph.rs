//! The drawing of the timelines: a column each, the WAL runs downwards.
//!
//! A column is free again when its timeline has ended, and a timeline that takes over where its parent ends takes over its column
//! too: after ten failovers without a stray branch there is still one column.

use std::collections::BTreeMap;

use highwater_wal::TimelineId;

use super::rows::{Row, What};

/// What the lines mean.
pub const LEGEND: &str =
    "◆ timeline begins   ● backup   ○ last commit   ■ end of the archived WAL   × missing or unusable";

/// The drawing in front of each row, all equally wide.
pub fn draw(rows: &[Row]) -> Vec<String> {
    let mut last_of = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        last_of.insert(row.timeline, number);
        if let What::Fork(parent, _) = row.what {
            last_of.insert(parent, number);
        }
    }
    let mut columns = Columns::default();
    let drawn: Vec<Vec<char>> = rows
        .iter()
        .enumerate()
        .map(|(number, row)| {
            let ends_here = |timeline: TimelineId| last_of.get(&timeline) == Some(&number);
            let line = columns.line(row, &ends_here);
            columns.free(&ends_here);
            line
        })
        .collect();
    let width = drawn.iter().map(Vec::len).max().unwrap_or(0);
    drawn.into_iter().map(|line| format!("{:<width$}", line.into_iter().collect::<String>())).collect()
}

/// Which timeline has which column now.
#[derive(Default)]
struct Columns(Vec<Option<TimelineId>>);

impl Columns {
    fn of(&self, timeline: TimelineId) -> Option<usize> {
        self.0.iter().position(|column| *column == Some(timeline))
    }

    /// Gives a timeline the first free column.
    fn take(&mut self, timeline: TimelineId) -> usize {
        let free = self.0.iter().position(Option::is_none).unwrap_or_else(|| {
            self.0.push(None);
            self.0.len() - 1
        });
        self.0[free] = Some(timeline);
        free
    }

    fn free(&mut self, ends_here: &impl Fn(TimelineId) -> bool) {
        for column in &mut self.0 {
            *column = column.filter(|timeline| !ends_here(*timeline));
        }
        while self.0.last() == Some(&None) {
            self.0.pop();
        }
    }

    /// One line: each column has a sign and a space.
    fn line(&mut self, row: &Row, ends_here: &impl Fn(TimelineId) -> bool) -> Vec<char> {
        let parent = match row.what {
            What::Fork(parent, _) => self.of(parent).map(|column| (column, ends_here(parent))),
            _ => None,
        };
        let column = match (self.of(row.timeline), parent) {
            (Some(column), _) => column,
            (None, Some((column, true))) => {
                self.0[column] = Some(row.timeline);
                column
            }
            (None, _) => self.take(row.timeline),
        };
        let mut line: Vec<char> = Vec::new();
        for other in &self.0 {
            line.extend([if other.is_some() { '│' } else { ' ' }, ' ']);
        }
        line[2 * column] = sign(&row.what);
        if let Some((parent, _)) = parent.filter(|(parent, _)| *parent != column) {
            let (left, right) = (parent.min(column), parent.max(column));
            line[2 * parent] = if parent < column { '├' } else { '┤' };
            for (place, sign) in line.iter_mut().enumerate().take(2 * right).skip(2 * left + 1) {
                *sign = match (place % 2, *sign) {
                    (0, '│') => '┼',
                    _ => '─',
                };
            }
        }
        line
    }
}

fn sign(what: &What) -> char {
    match what {
        What::Begin(_) | What::Fork(..) => '◆',
        What::Backup(_) => '●',
        What::BrokenBackup(_) | What::DoubtedBackup(_) | What::Hole(_) => '×',
        What::LastCommit(_) => '○',
        What::End => '■',
    }
}
