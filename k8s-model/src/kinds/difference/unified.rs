//! Unified diffs, as Python's `difflib` makes them, of which upstream has a translation.

use std::collections::HashMap;

/// How many lines are shown before and after a change.
const CONTEXT: usize = 3;

/// How many pairs of lines are looked at: beyond that, what was not looked at is all different. No object that is not
/// made to be slow comes near it.
const PATIENCE: usize = 20_000_000;

/// A stretch of lines that both have: where it begins in each, and how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    old: usize,
    new: usize,
    size: usize,
}

/// A stretch of either, and whether it is the same in both.
#[derive(Clone, Copy, Debug)]
struct Part {
    same: bool,
    old: (usize, usize),
    new: (usize, usize),
}

/// What is different between those lines, each of which has its end.
pub(super) fn diff(old: &[String], new: &[String]) -> String {
    let mut out = String::new();
    for group in groups(parts(matches(old, new), old.len(), new.len())) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        out.push_str(&format!(
            "@@ -{} +{} @@\n",
            range(first.old.0, last.old.1),
            range(first.new.0, last.new.1)
        ));
        for part in &group {
            let mut add = |mark: char, lines: &[String]| {
                for line in lines {
                    out.push(mark);
                    out.push_str(line);
                }
            };
            let (before, after) = (&old[part.old.0..part.old.1], &new[part.new.0..part.new.1]);
            if part.same {
                add(' ', before);
            } else {
                add('-', before);
                add('+', after);
            }
        }
    }
    out
}

fn range(start: usize, end: usize) -> String {
    match end - start {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        length => format!("{},{length}", start + 1),
    }
}

/// The stretches that both have, in order.
fn matches(old: &[String], new: &[String]) -> Vec<Match> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    // Lines that are everywhere say little.
    if new.len() >= 200 {
        let most = new.len() / 100 + 1;
        places.retain(|_, places| places.len() <= most);
    }
    let mut found = Vec::new();
    let mut left = PATIENCE;
    let mut todo = vec![((0, old.len()), (0, new.len()))];
    while let Some((of_old, of_new)) = todo.pop() {
        let longest = longest(old, new, &places, of_old, of_new, &mut left);
        if longest.size == 0 {
            continue;
        }
        found.push(longest);
        let (old_end, new_end) = (longest.old + longest.size, longest.new + longest.size);
        if of_old.0 < longest.old && of_new.0 < longest.new {
            todo.push(((of_old.0, longest.old), (of_new.0, longest.new)));
        }
        if old_end < of_old.1 && new_end < of_new.1 {
            todo.push(((old_end, of_old.1), (new_end, of_new.1)));
        }
    }
    found.sort_unstable();
    found
}

/// The longest stretch that both have there; of some that are as long, the first in the old, and of those the first in
/// the new.
fn longest(
    old: &[String],
    new: &[String],
    places: &HashMap<&str, Vec<usize>>,
    of_old: (usize, usize),
    of_new: (usize, usize),
    left: &mut usize,
) -> Match {
    let mut best = Match {
        old: of_old.0,
        new: of_new.0,
        size: 0,
    };
    // How long the stretch is that ends at a line of the new and the line before of the old.
    let mut ending: HashMap<usize, usize> = HashMap::new();
    for (at, line) in old.iter().enumerate().take(of_old.1).skip(of_old.0) {
        let mut now = HashMap::new();
        let places = places.get(line.as_str()).map(Vec::as_slice);
        for &place in places.unwrap_or_default() {
            if place < of_new.0 || *left == 0 {
                continue;
            }
            if place >= of_new.1 {
                break;
            }
            *left -= 1;
            let before = place.checked_sub(1).and_then(|place| ending.get(&place));
            let size = before.copied().unwrap_or_default() + 1;
            now.insert(place, size);
            if size > best.size {
                best = Match {
                    old: at + 1 - size,
                    new: place + 1 - size,
                    size,
                };
            }
        }
        ending = now;
    }
    // Lines that are everywhere may be a part of it.
    while best.old > of_old.0 && best.new > of_new.0 && old[best.old - 1] == new[best.new - 1] {
        best.old -= 1;
        best.new -= 1;
        best.size += 1;
    }
    while best.old + best.size < of_old.1
        && best.new + best.size < of_new.1
        && old[best.old + best.size] == new[best.new + best.size]
    {
        best.size += 1;
    }
    best
}

/// All stretches, those that both have and those between.
fn parts(matches: Vec<Match>, old: usize, new: usize) -> Vec<Part> {
    let mut joined: Vec<Match> = Vec::new();
    for found in matches {
        match joined.last_mut() {
            Some(last)
                if last.old + last.size == found.old && last.new + last.size == found.new =>
            {
                last.size += found.size;
            }
            _ => joined.push(found),
        }
    }
    joined.push(Match { old, new, size: 0 });
    let mut out = Vec::new();
    let (mut at_old, mut at_new) = (0, 0);
    for found in joined {
        if at_old < found.old || at_new < found.new {
            out.push(Part {
                same: false,
                old: (at_old, found.old),
                new: (at_new, found.new),
            });
        }
        (at_old, at_new) = (found.old + found.size, found.new + found.size);
        if found.size > 0 {
            out.push(Part {
                same: true,
                old: (found.old, at_old),
                new: (found.new, at_new),
            });
        }
    }
    out
}

/// Changes that are near to each other, with some lines around.
fn groups(mut parts: Vec<Part>) -> Vec<Vec<Part>> {
    if let Some(first) = parts.first_mut().filter(|part| part.same) {
        first.old.0 = first.old.0.max(first.old.1.saturating_sub(CONTEXT));
        first.new.0 = first.new.0.max(first.new.1.saturating_sub(CONTEXT));
    }
    if let Some(last) = parts.last_mut().filter(|part| part.same) {
        last.old.1 = last.old.1.min(last.old.0 + CONTEXT);
        last.new.1 = last.new.1.min(last.new.0 + CONTEXT);
    }
    let mut out = Vec::new();
    let mut group: Vec<Part> = Vec::new();
    for mut part in parts {
        if part.same && part.old.1 - part.old.0 > 2 * CONTEXT {
            let mut end = part;
            end.old.1 = end.old.1.min(end.old.0 + CONTEXT);
            end.new.1 = end.new.1.min(end.new.0 + CONTEXT);
            group.push(end);
            out.push(std::mem::take(&mut group));
            part.old.0 = part.old.1 - CONTEXT;
            part.new.0 = part.new.1 - CONTEXT;
        }
        group.push(part);
    }
    if group.iter().any(|part| !part.same) {
        out.push(group);
    }
    out.retain(|group| group.iter().any(|part| !part.same));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_inclusive('\n').map(str::to_owned).collect()
    }

    fn told(old: &str, new: &str) -> String {
        let spread =
            |text: &str| lines(&text.chars().map(|c| format!("{c}\n")).collect::<String>());
        diff(&spread(old), &spread(new)).replace('\n', "|")
    }

    #[test]
    fn changes_have_three_lines_around_and_are_told_together_when_near() {
        assert_eq!(told("abc", "abc"), "");
        assert_eq!(
            told("abcdefgh", "abcdXfgh"),
            "@@ -2,7 +2,7 @@| b| c| d|-e|+X| f| g| h|"
        );
        assert_eq!(told("", "a"), "@@ -0,0 +1 @@|+a|");
        assert_eq!(told("ab", "b"), "@@ -1,2 +1 @@|-a| b|");
        assert_eq!(
            told("abcdefghijklmnop", "aXcdefghijklmnYp"),
            "@@ -1,5 +1,5 @@| a|-b|+X| c| d| e|@@ -12,5 +12,5 @@| l| m| n|-o|+Y| p|"
        );
        assert_eq!(
            told("abcdefghij", "aXcdefghYj"),
            "@@ -1,10 +1,10 @@| a|-b|+X| c| d| e| f| g| h|-i|+Y| j|"
        );
    }

    #[test]
    fn what_is_made_to_be_slow_ends() {
        // Every tenth of two hundred lines, and all in another order.
        let text = |shift: usize| -> Vec<String> {
            (0..60_000)
                .map(|n| format!("{}\n", (n * 7 + shift) % 299))
                .collect()
        };
        let (old, new) = (text(0), text(3));
        let told = diff(&old, &new);
        assert!(told.starts_with("@@ -"));
    }
}
