//! Stateless processing: record batches in, record batches out; by a guest, and by the same work in native code.

use crate::framing::{Framing, decode, encode};
use crate::guest::{Guest, Guests, on_guest_thread};
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

#[derive(Clone, Copy)]
struct Case {
    module: &'static str,
    setting: Option<(&'static str, &'static str)>,
    value_bytes: usize,
    goal: f64,
}

/// At 100 B and 1 KiB.
const SIZES: [(usize, &str); 2] = [(100, "100B"), (1024, "1KiB")];
const MODULES: [(&str, Option<(&str, &str)>, f64); 3] =
    [("identity", None, 2.0), ("filter", Some(("contains", NEEDLE)), 2.0), ("map", None, 3.0)];

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    on_guest_thread(|| {
        let guests = Guests::open(options)?;
        let mut figures = Vec::new();
        for (value_bytes, size) in SIZES {
            for (module, setting, goal) in MODULES {
                let case = Case { module, setting, value_bytes, goal };
                figures.push(measure(options, &guests, case, format!("transform-{module}-{size}"))?);
            }
        }
        Ok(figures)
    })
}

fn measure(options: &Options, guests: &Guests<'_>, case: Case, name: String) -> Result<Figure> {
    let batches = (0..BATCHES).map(|seed| batch(seed, case.value_bytes)).collect::<Result<Vec<Bytes>>>()?;
    let settings: Vec<(&str, &str)> = case.setting.into_iter().collect();
    let mut guest = guests.start(case.module, &settings, 1)?;
    let mut native = Native::new(case.module);
    for batch in &batches {
        if guest.process(batch)? != native.process(batch)? {
            return Err(format!("{} and native code disagree", case.module).into());
        }
    }
    let passes = options.pick(5, 1);
    let (ours, theirs) = (&mut guest, &mut native);
    let samples = interleave(
        options.pick(31, 3),
        [
            &mut || per_record(&batches, passes, |batch| Guest::process(ours, batch)),
            &mut || per_record(&batches, passes, |batch| theirs.process(batch)),
        ],
    )?;
    Ok(Figure {
        name,
        what: format!("wasm {:.0} ns/record", samples.median(0)),
        baseline: format!("native {:.0} ns/record", samples.median(1)),
        value: samples.median_of(|[wasm, native]| wasm / native),
        unit: "",
        goal: Goal::AtMost(case.goal),
    })
}

/// CPU time of this thread in ns per record of input.
fn per_record(
    batches: &[Bytes],
    passes: usize,
    mut process: impl FnMut(&Bytes) -> Result<Vec<Bytes>>,
) -> Result<f64> {
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
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = (0..RECORDS).map(|_| (letters(KEY_BYTES), letters(value_bytes))).collect();
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

fn upper_case(record: &Record<'_>, scratch: &mut Scratch, framing: &mut Framing) -> std::result::Result<(), BatchError> {
    let value = record.value.map(|value| {
        scratch.value.clear();
        scratch.value.extend_from_slice(value);
        scratch.value.make_ascii_uppercase();
        scratch.value.as_slice()
    });
    framing.append(record.timestamp, record.key, value, record.headers)
}
