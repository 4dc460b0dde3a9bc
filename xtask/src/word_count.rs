//! A straight count of the same text that the demo streams: what the processor's counts are compared with.

use std::collections::HashMap;

/// Occurrences of each word, counted by word-count's definition: lower-cased runs of alphanumeric characters.
pub(crate) fn count(text: &str) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    let runs = text.split(|letter: char| !letter.is_alphanumeric()).filter(|run| !run.is_empty());
    for word in runs.map(str::to_lowercase) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// The `most` most frequent words, most frequent first, ties by word.
pub(crate) fn top(counts: &HashMap<String, u64>, most: usize) -> Vec<(&str, u64)> {
    let mut words: Vec<(&str, u64)> = counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    words.sort_by(|(word_a, count_a), (word_b, count_b)| count_b.cmp(count_a).then(word_a.cmp(word_b)));
    words.truncate(most);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_cased_alphanumeric_runs() {
        let counts = count("The cat's CAT, the 2 cats\nÉté");
        let expected = [("the", 2), ("cat", 2), ("s", 1), ("2", 1), ("cats", 1), ("été", 1)];
        assert_eq!(counts, expected.map(|(word, count)| (word.to_owned(), count)).into());
        assert_eq!(top(&counts, 2), [("cat", 2), ("the", 2)]);
    }
}
