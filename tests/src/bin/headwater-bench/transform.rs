//! Stateless processing: record batches in, record batches out; by a guest, and by the same work in native code.

use crate::framing::{Framing, decode, encode};
use crate::guest::{Guests, on_guest_thread};
use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::rounds::interleave;
use crate::{Result, cpu_time};
use bytes::Bytes;
use headwater_protocol::batch::{BatchError, Record};
use memchr::memmem::Finder;

const RECORDS: usize = 1000;
const KEY_BYTES: usize = 16;
/// Different batches that are worked on in turn.
const BATCHES: usize = 8;
/// What the filter looks for; it is in every second value.
const NEEDLE: &str = "needle";

/// A module, and the setting it is deployed with.
struct Case {
    module: &'static str,
    setting: Option<(&'static str, &'static str)>,
}

const CASES: [Case; 3] = [
    Case { module: "identity", setting: None },
    Case { module: "filter", setting: Some(("contains", NEEDLE)) },
    Case { module: "map", setting: None },
];

/// Bytes of a value, and how many times dearer than native a guest may be then.
struct Size {
    name: &'static str,
    value_bytes: usize,
    goal: f64,
}

const SIZES: [Size; 2] =
    [Size { name: "100B", value_bytes: 100, goal: 2.0 }, Size { name: "1KiB", value_bytes: 1024, goal: 3.0 }];

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    on_guest_thread(|| {
        let guests = Guests::open(options)?;
        let mut figures = Vec::new();
        for size in &SIZES {
            for case in &CASES {
                figures.push(measure(options, &guests, case, size)?);
            }
        }
        Ok(figures)
    })
}

fn measure(options: &Options, guests: &Guests<'_>, case: &Case, size: &Size) -> Result<Figure> {
    let batches = (0..BATCHES).map(|seed| batch(seed, size.value_bytes)).collect::<Result<Vec<Bytes>>>()?;
    let settings: Vec<(&str, &str)> = case.setting.into_iter().collect();
    let mut guest = guests.start(case.module, &settings, 1)?;
    let mut native = Native::new(case.module);
    for batch in &batches {
        if guest.process(batch)? != native.process(batch)? {
            return Err(format!("{} and native code disagree", case.module).into());
        }
    }
    let passes = options.pick(5, 1);
    let mut by_guest = || per_record(&batches, passes, |batch| guest.process(batch));
    let mut by_native = || per_record(&batches, passes, |batch| native.process(batch));
    let samples = interleave(options.pick(31, 3), [&mut by_guest, &mut by_native])?;
    Ok(Figure {
        name: format!("transform-{}-{}", case.module, size.name),
        what: format!("wasm {:.0} ns/record", samples.median(0)),
        baseline: format!("native {:.0} ns/record", samples.median(1)),
        value: samples.median_of(|[wasm, native]| wasm / native),
        unit: "",
        goal: Goal::AtMost(size.goal),
    })
}

/// CPU time of this thread in ns per record of input.
fn per_record(batches: &[Bytes], passes: usize, mut process: impl FnMut(&Bytes) -> Result<Vec<Bytes>>) -> Result<f64> {
    let before = cpu_time();
    for _ in 0..passes {
        for batch in batches {
            std::hint::black_box(process(batch)?);
        }
    }
    Ok((cpu_time() - before).as_nanos() as f64 / (passes * batches.len() * RECORDS) as f64)
}

/// A batch of lower-case text; every second value has the needle somewhere.
fn batch(seed: usize, value_bytes: usize) -> Result<Bytes> {
    let mut state = seed as u64 + 1;
    let mut random = move || {
        // xorshift64: any stream of bits will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut letters = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| b'a' + (random() % 26) as u8).collect() };
    let mut records: Vec<(Vec<u8>, Vec<u8>)> =
        (0..RECORDS).map(|_| (letters(KEY_BYTES), letters(value_bytes))).collect();
    for (number, (_, value)) in records.iter_mut().enumerate().filter(|(number, _)| number % 2 == 0) {
        let place = (number * 31) % (value_bytes - NEEDLE.len());
        value[place..place + NEEDLE.len()].copy_from_slice(NEEDLE.as_bytes());
    }
    encode(records.iter().map(|(key, value)| (Some(key.as_slice()), value.as_slice())))
}

/// What the modules do, without them.
struct Native {
    work: fn(&Record<'_>, &mut Scratch, &mut Framing) -> std::result::Result<(), BatchError>,
    scratch: Scratch,
    framing: Framing,
}

struct Scratch {
    finder: Finder<'static>,
    value: Vec<u8>,
}

impl Native {
    fn new(module: &str) -> Self {
        let work = match module {
            "filter" => filter,
            "map" => upper_case,
            _ => identity,
        };
        Self { work, scratch: Scratch { finder: Finder::new(NEEDLE), value: Vec::new() }, framing: Framing::new(1) }
    }

    fn process(&mut self, batch: &Bytes) -> Result<Vec<Bytes>> {
        for record in &decode(batch)? {
            (self.work)(&record?, &mut self.scratch, &mut self.framing)?;
        }
        self.framing.build()
    }
}

fn identity(record: &Record<'_>, _: &mut Scratch, framing: &mut Framing) -> std::result::Result<(), BatchError> {
    framing.append(record.timestamp, record.key, record.value, record.headers)
}

fn filter(record: &Record<'_>, scratch: &mut Scratch, framing: &mut Framing) -> std::result::Result<(), BatchError> {
    if record.value.is_some_and(|value| scratch.finder.find(value).is_some()) {
        framing.append(record.timestamp, record.key, record.value, record.headers)?;
    }
    Ok(())
}

fn upper_case(
    record: &Record<'_>,
    scratch: &mut Scratch,
    framing: &mut Framing,
) -> std::result::Result<(), BatchError> {
    let value = record.value.map(|value| {
        scratch.value.clear();
        scratch.value.extend_from_slice(value);
        scratch.value.make_ascii_uppercase();
        scratch.value.as_slice()
    });
    framing.append(record.timestamp, record.key, value, record.headers)
}
