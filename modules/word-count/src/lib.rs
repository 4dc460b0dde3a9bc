//! Counts words: lines of text in, `word → count` out, once for each occurrence, so that a word's counts rise by one.
//!
//! A word is a run of alphanumeric characters in lower case: `text.split(|c: char| !c.is_alphanumeric())` without the
//! empty ones, each `to_lowercase()`, where `text` is the value as UTF-8; bytes that are none separate words. Keys are
//! words, values are counts in decimal text, in the output and in the store. Each task counts for itself. Deploy with
//! one output and one store.

use headwater_guest_sdk::{Batch, Context, Deployment, Failure, OutRecord, Processor, export_processor};

/// The processor.
pub struct WordCount;
export_processor!(WordCount);

impl Processor for WordCount {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 1).map(|()| Self)
    }

    fn process(&mut self, batch: &Batch<'_>, context: &mut Context) -> Result<(), Failure> {
        let (mut text, mut words) = (Vec::new(), Vec::new());
        for record in batch {
            for run in record.value_text().split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()) {
                let start = text.len();
                push_lower_case(&mut text, run);
                words.push((start..text.len(), record.timestamp));
            }
        }
        let counts = context.stores.at(0)?;
        counts.prefetch(words.iter().map(|(word, _)| &text[word.clone()]))?;
        for (word, timestamp) in words {
            let word = &text[word];
            let count = counts.update(word, add_one)?;
            context.outputs.emit(0, OutRecord::at(timestamp).key(word).value(count))?;
        }
        Ok(())
    }
}

fn push_lower_case(text: &mut Vec<u8>, run: &str) {
    if run.is_ascii() {
        text.extend(run.bytes().map(|byte| byte.to_ascii_lowercase()));
    } else {
        text.extend_from_slice(run.to_lowercase().as_bytes());
    }
}

/// Counts on in decimal text; nothing yet is 0.
fn add_one(count: &mut Vec<u8>) {
    for digit in count.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    count.insert(0, b'1');
}

#[cfg(test)]
mod tests;
