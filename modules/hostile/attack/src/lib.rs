//! A hostile guest that does what a record's value names; every other record passes as it is. Deploy with one output
//! and one store.
//!
//! | value | what it does |
//! |---|---|
//! | `flood-outputs` | emits for ever |
//! | `flood-log` | logs 100,000 lines, then passes the record |
//! | `flood-state` | puts entries until the store refuses |
//! | `undeclared-output`, `undeclared-store` | uses what was not deployed |
//! | `recurse` | calls itself for ever |
//! | `timer-spin`, `timer-trap` | sets a timer that is due at once and never returns from it, or panics |
//! | `timers-large` | sets three timers that are due at once, each of which fits a step while all of them do not |
//! | `garbage-index`, `garbage-lengths`, `garbage-keys` | lists whose lengths point far outside of their bytes |
//!
//! With the setting `init=trap`, `init=spin` or `init=refuse` it does so when it is made.

use headwater_guest_sdk::{
    Batch, Context, Deployment, DueTimers, Failure, Level, OutRecord, Processor, Record, export_processor, log,
};

/// The processor.
pub struct Attack;

export_processor!(Attack);

impl Processor for Attack {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 1)?;
        match deployment.setting("init") {
            Some("trap") => panic_now("init says trap"),
            Some("spin") => spin(),
            Some("refuse") => Err("init says refuse".to_owned()),
            _ => Ok(Self),
        }
    }

    fn process(&mut self, batch: &Batch<'_>, context: &mut Context) -> Result<(), Failure> {
        for record in batch {
            attack(&record, context)?;
            context.emit(0, OutRecord::from(&record))?;
        }
        Ok(())
    }

    fn on_timers(&mut self, timers: &DueTimers<'_>, context: &mut Context) -> Result<(), Failure> {
        for timer in timers.iter() {
            match timer.id {
                b"timer-spin" => spin(),
                b"timer-trap" => panic_now("the timer says trap"),
                id if id.starts_with(b"timer-large") => large(timer.at, id, context)?,
                id => context.emit(0, OutRecord::at(timer.at).key(id))?,
            }
        }
        Ok(())
    }
}

fn attack(record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
    match record.value.unwrap_or_default() {
        b"flood-outputs" => loop {
            context.emit(0, OutRecord::at(record.timestamp).value(&[b'x'; 4096]))?;
        },
        b"flood-log" => (0..100_000).for_each(|line| log::write(Level::Info, format_args!("line {line}"))),
        b"flood-state" => {
            for number in 0_u64.. {
                context.store(0)?.put(&number.to_be_bytes(), &[b'x'; 4096])?;
            }
        }
        b"undeclared-output" => context.emit(7, OutRecord::from(record))?,
        b"undeclared-store" => context.store(7)?.put(b"key", b"value")?,
        b"recurse" => drop(std::hint::black_box(recurse(record.offset.unsigned_abs()))),
        id @ (b"timer-spin" | b"timer-trap" | b"timer") => context.timers.set(record.timestamp, id)?,
        b"timers-large" => {
            for number in 0..3 {
                context.timers.set(record.timestamp, format!("timer-large-{number}").as_bytes())?;
            }
        }
        b"garbage-index" => garbage::emit(&[0xff; 24], b"x"),
        b"garbage-lengths" => garbage::emit(&[0xff; 23], &[]),
        b"garbage-keys" => garbage::put(&[0xff, 0xff, 0xff, 0x7f, 1]),
        _ => {}
    }
    Ok(())
}

/// Changes and outputs that are a third of what a commit has no room for.
fn large(at: i64, id: &[u8], context: &mut Context) -> Result<(), Failure> {
    context.store(0)?.put(id, &vec![b'x'; 4 << 20])?;
    (0..2).try_for_each(|_| Ok(context.emit(0, OutRecord::at(at).key(id).value(&vec![b'x'; 900_000]))?))
}

fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX {
        return 0; // never reached
    }
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth.wrapping_add(1)).wrapping_add(frame[7])
}

fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        // Hidden from the optimiser, or the loop would have nothing in it.
        turns = std::hint::black_box(turns).wrapping_add(1);
    }
}

#[expect(clippy::panic, reason = "what this module is for")]
fn panic_now(why: &str) -> ! {
    panic!("{why}")
}

/// What the SDK would never hand over, straight to the host.
#[cfg(target_arch = "wasm32")]
mod garbage {
    use headwater_guest_sdk::abi::headwater::module::{output, state, types::OutputBatch};

    pub(crate) fn emit(index: &[u8], data: &[u8]) {
        if let Err(refusal) = output::emit(0, OutputBatch { index, data }) {
            super::panic_now(&format!("the host refuses the batch: {refusal:?}"));
        }
    }

    pub(crate) fn put(entries: &[u8]) {
        if let Err(refusal) = state::put_many(0, entries) {
            super::panic_now(&format!("the host refuses the entries: {refusal:?}"));
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod garbage {
    pub(crate) fn emit(_: &[u8], _: &[u8]) {}

    pub(crate) fn put(_: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::TestRunner;

    #[test]
    fn other_records_pass() {
        let deployment = Deployment::for_test().output("out").store("store");
        let mut runner = TestRunner::<Attack>::new(deployment).unwrap();
        runner.run(["flood", "timer", ""]).unwrap();
        assert_eq!(runner.take_output(0).len(), 4);
    }
}
