//! Processing with state: lines in, `word → count` out, by the guest over the broker's in-memory store, and by native
//! code with a hash map.

use crate::framing::{Framing, decode, encode};
use crate::guest::{Guests, on_guest_thread};
use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::rounds::interleave;
use crate::{Result, cpu_time, texts};
use bytes::Bytes;
use std::collections::HashMap;
use std::io::Write as _;

const LINES_PER_BATCH: usize = 1000;
const OUTPUT_PARTITIONS: usize = 4;

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    on_guest_thread(|| {
        let texts = texts::read()?;
        let lines: Vec<&str> = texts.lines().take(options.pick(usize::MAX, 3000)).collect();
        let words: usize = lines.iter().map(|line| texts::words(line).count()).sum();
        let batch = |lines: &[&str]| encode(lines.iter().map(|line| (None, line.as_bytes())));
        let batches = lines.chunks(LINES_PER_BATCH).map(batch).collect::<Result<Vec<Bytes>>>()?;
        let guests = Guests::open(options)?;
        let mut guest = guests.start("word-count", &[], OUTPUT_PARTITIONS)?;
        let mut native = Native::new();
        for batch in &batches {
            if guest.process(batch)? != native.process(batch)? {
                return Err("word-count and native code disagree".into());
            }
        }
        let mut by_guest = || pass(&batches, |batch| guest.process(batch));
        let mut by_native = || pass(&batches, |batch| native.process(batch));
        let samples = interleave(options.pick(7, 1), [&mut by_guest, &mut by_native])?;
        let rates = |seconds: f64| {
            let (lines, words) = (lines.len() as f64 / seconds / 1e3, words as f64 / seconds / 1e6);
            format!("{lines:.0} k lines/s, {words:.2} M words/s")
        };
        Ok(vec![Figure {
            name: "word-count".to_owned(),
            what: format!("wasm {}", rates(samples.median(0))),
            baseline: format!("native {}", rates(samples.median(1))),
            value: samples.median_of(|[wasm, native]| native / wasm),
            unit: "",
            goal: Goal::None,
        }])
    })
}

/// Seconds of this thread's CPU time that all batches take.
fn pass(batches: &[Bytes], mut process: impl FnMut(&Bytes) -> Result<Vec<Bytes>>) -> Result<f64> {
    let before = cpu_time();
    for batch in batches {
        std::hint::black_box(process(batch)?);
    }
    Ok((cpu_time() - before).as_secs_f64())
}

/// Counts words without a module and without a store that could be restored.
struct Native {
    counts: HashMap<Vec<u8>, u64>,
    word: Vec<u8>,
    text: Vec<u8>,
    framing: Framing,
}

impl Native {
    fn new() -> Self {
        let framing = Framing::new(OUTPUT_PARTITIONS);
        Self { counts: HashMap::new(), word: Vec::new(), text: Vec::new(), framing }
    }

    fn process(&mut self, batch: &Bytes) -> Result<Vec<Bytes>> {
        for record in &decode(batch)? {
            let record = record?;
            for word in texts::words(&String::from_utf8_lossy(record.value.unwrap_or_default())) {
                self.word.clear();
                if word.is_ascii() {
                    self.word.extend(word.bytes().map(|byte| byte.to_ascii_lowercase()));
                } else {
                    self.word.extend_from_slice(word.to_lowercase().as_bytes());
                }
                let count = match self.counts.get_mut(&self.word) {
                    Some(count) => count,
                    None => self.counts.entry(self.word.clone()).or_default(),
                };
                *count += 1;
                self.text.clear();
                write!(self.text, "{count}")?;
                self.framing.append(record.timestamp, Some(&self.word), Some(&self.text), &[])?;
            }
        }
        self.framing.build()
    }
}
