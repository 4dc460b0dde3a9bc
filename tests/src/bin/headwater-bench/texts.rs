//! The texts that the word counts run on: two real books, some 17,000 different words.

use crate::Result;
use std::path::Path;

const NAMES: [&str; 2] = ["king-james-bible.txt", "devils-dictionary.txt"];

/// Both books.
pub(crate) fn read() -> Result<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/texts");
    let mut texts = String::new();
    for name in NAMES {
        let path = directory.join(name);
        texts.push_str(&std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(texts)
}

/// Words by word-count's definition, before they are in lower case.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
}
