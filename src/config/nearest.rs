//! The known name nearest to a wrong one.

/// More edits than this and the two names have nothing to do with each other.
const EDITS_MAX: usize = 3;

/// The known name with the fewest edits from `written`, when it is near enough to be what was meant.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase().replace('-', "_");
    let near_enough = EDITS_MAX.min(written.chars().count().div_ceil(2));
    known
        .into_iter()
        .map(|name| (edits(&written, name), name))
        .filter(|(edits, _)| *edits <= near_enough)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// How many letters must be put in, left out, changed or swapped with their neighbour to get from one to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, letter) in from.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, wanted) in to.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let changed = cell(&last, column) + usize::from(letter != *wanted);
            let mut fewest = changed.min(cell(&last, column + 1) + 1).min(cell(&current, column) + 1);
            let swapped = column.checked_sub(1).is_some_and(|before| to.get(before) == Some(&letter));
            if swapped && previous == Some(*wanted) {
                fewest = fewest.min(cell(&before_last, column - 1) + 1);
            }
            current.push(fewest);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["send_as", "send_to", "second_factor", "limits"];

    #[test]
    fn a_slip_finds_what_was_meant() {
        for (written, meant) in
            [("sendas", "send_as"), ("send-to", "send_to"), ("limit", "limits"), ("sned_as", "send_as")]
        {
            assert_eq!(nearest(written, KNOWN), Some(meant), "{written}");
        }
    }

    #[test]
    fn another_word_finds_nothing() {
        assert_eq!(nearest("colour", KNOWN), None);
        assert_eq!(nearest("", KNOWN), None);
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("abc", "abc"), 0);
        assert_eq!(edits("abcd", "acbd"), 1);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
