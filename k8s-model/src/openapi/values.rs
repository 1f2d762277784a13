//! What fields of enumerations may hold.
//!
//! `values.txt` has a field a line, sorted: its type and name, then each text and what it means. Types of one name in
//! several groups have the same.

use std::sync::LazyLock;

use crate::schema::{Field, Type};

static LINES: LazyLock<Box<[&str]>> = LazyLock::new(|| {
    let lines = include_str!("values.txt").lines();
    lines.filter(|line| !line.starts_with('#')).collect()
});

/// A text that a field may hold, and what it means, or nothing.
pub(super) type Choice = (&'static str, &'static str);

/// The texts that a field of a type may hold, sorted; nothing if it may hold others.
pub(super) fn values(ty: Type, field: &Field) -> Option<Vec<Choice>> {
    let name = format!("{}.{}", ty.base_name(), field.name());
    let key = |line: &'static str| line.split_once('\t').map_or(line, |(key, _)| key);
    let at = LINES.binary_search_by(|line| key(line).cmp(&name)).ok()?;
    let mut cells = LINES[at].split('\t').skip(1);
    let choice = || cells.next().map(|text| (text, cells.next().unwrap_or("")));
    Some(std::iter::from_fn(choice).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ResourceTable, schema::Shape};

    #[test]
    fn the_table_is_sorted() {
        let rows = || LINES.iter().map(|line| line.split('\t'));
        assert!(
            rows()
                .map(|mut cells| cells.next())
                .is_sorted_by(|a, b| a < b)
        );
        for cells in rows() {
            let cells: Vec<&str> = cells.skip(1).collect();
            assert!(
                cells.len() >= 4 && cells.len().is_multiple_of(2),
                "{cells:?}"
            );
            assert!(cells.iter().step_by(2).is_sorted());
        }
    }

    #[test]
    fn every_row_is_met_on_the_way_through_the_kinds() {
        let mut met = std::collections::BTreeSet::new();
        let rows = ResourceTable::builtin().rows();
        let mut ahead: Vec<Type> = (rows.iter())
            .filter_map(|row| Type::of_kind(row.group, row.version, row.kind))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(ty) = ahead.pop() {
            if !seen.insert(ty.name()) {
                continue;
            }
            for field in ty.fields() {
                if values(ty, &field).is_some() {
                    assert_eq!(
                        field.shape(),
                        Shape::String(""),
                        "{} {}",
                        ty.name(),
                        field.name()
                    );
                    met.insert(format!("{}.{}", ty.base_name(), field.name()));
                }
                let mut shape = field.shape();
                while let Shape::List(elements) | Shape::Map(elements) = shape {
                    shape = elements.shape();
                }
                if let Shape::Type(ty) = shape {
                    ahead.push(ty);
                }
            }
        }
        let rows = LINES.iter().filter_map(|line| line.split_once('\t'));
        let all = rows.map(|(name, _)| name.to_owned()).collect();
        assert_eq!(met, all);
    }
}
