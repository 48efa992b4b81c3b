//! "Did you mean …?": the known word that is nearest to an unknown one.

/// The nearest of `known` to `word`, if it is near enough to be worth a question.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A longer word than any key is no slip of the pen, and the distance costs the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['_', ' ', '.'], "-");
    let word = plain(word);
    known
        .into_iter()
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .filter(|&(distance, candidate)| {
            let part = word.len() >= 4 && (candidate.contains(&word) || word.contains(candidate));
            part || distance <= candidate.chars().count().max(word.chars().count()) / 3
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, deleted, replaced or swapped with their neighbour (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: [&str; 5] = ["disks", "key-file", "filesystem", "options", "idle-timeout"];

    #[test]
    fn slips_find_the_word_that_was_meant() {
        for (slip, meant) in [
            ("disk", "disks"),
            ("dsiks", "disks"),
            ("key_file", "key-file"),
            ("keyfile", "key-file"),
            ("Options", "options"),
            ("idel-timeout", "idle-timeout"),
            ("timeout", "idle-timeout"),
            ("filesytem", "filesystem"),
        ] {
            assert_eq!(nearest(slip, KNOWN), Some(meant), "{slip}");
        }
    }

    #[test]
    fn what_is_near_to_nothing_gets_no_question() {
        for word in ["", "x", "colour", "id", &"disks".repeat(100)] {
            assert_eq!(nearest(word, KNOWN), None, "{word}");
        }
    }

    proptest! {
        #[test]
        fn the_distance_is_symmetric_and_zero_only_for_equals(a in "\\PC{0,12}", b in "\\PC{0,12}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
