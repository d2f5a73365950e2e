//! What somebody may have meant.

/// The name among `known` that differs least from `text`; `None` where none is near.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = known.map(|name| (distance(text, name), name)).min()?;
    (distance <= 1 + text.len().min(name.len()) / 3).then_some(name)
}

/// How many letters must be put in, left out or replaced to make `b` of `a` (Levenshtein's distance).
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("url", "url", 0), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered_and_a_far_one_is_not() {
        let known = ["url", "encrypt-to", "compression"];
        assert_eq!(nearest("encrypt_too", known.into_iter()), Some("encrypt-to"));
        assert_eq!(nearest("uri", known.into_iter()), Some("url"));
        assert_eq!(nearest("retention", known.into_iter()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}
