//! Passes the first record of each id and drops the others that come within a while, in stream time: an id is its
//! record's key, or with the setting `header=NAME` the value of that header. A record without an id passes. Deploy with
//! one output, one store and
//! - `seconds=3600`: how long an id is remembered after it was seen first, that by default

use headwater_guest_sdk::{
    Batch, Context, Deployment, DueTimers, Failure, OutRecord, Processor, Record, export_processor,
};

/// The processor. The store has the ids, a timer forgets each.
pub struct Dedupe {
    header: Option<String>,
    remembered_ms: i64,
}

export_processor!(Dedupe);

impl Processor for Dedupe {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 1)?;
        let seconds: u32 = deployment.parsed("seconds", 3600)?;
        Ok(Self { header: deployment.setting("header").map(str::to_owned), remembered_ms: i64::from(seconds) * 1000 })
    }

    fn process(&mut self, batch: &Batch<'_>, context: &mut Context) -> Result<(), Failure> {
        for record in batch {
            if let Some(id) = self.id(&record) {
                let until = record.stream_time.saturating_add(self.remembered_ms);
                let store = context.stores.at(0)?;
                // Timers fire behind the batch: an id that is due in it is forgotten already.
                if crate::until(store.get(id)?).is_some_and(|until| record.stream_time < until) {
                    continue;
                }
                store.put(id, &until.to_be_bytes())?;
                context.timers.set(until, id)?;
            }
            context.emit(0, OutRecord::from(&record))?;
        }
        Ok(())
    }

    fn on_timers(&mut self, timers: &DueTimers<'_>, context: &mut Context) -> Result<(), Failure> {
        for timer in timers.iter() {
            let store = context.store(0)?;
            // One that was seen anew in the same batch stays: its timer has been set again.
            if until(store.get(timer.id)?).is_some_and(|until| until <= timer.at) {
                store.delete(timer.id)?;
            }
        }
        Ok(())
    }
}

/// Until when an id is remembered.
fn until(stored: Option<&[u8]>) -> Option<i64> {
    stored.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes)
}

impl Dedupe {
    fn id<'a>(&self, record: &Record<'a>) -> Option<&'a [u8]> {
        match &self.header {
            Some(name) => record.header(name).flatten(),
            None => record.key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::{TestRecord, TestRunner};

    fn runner(settings: &[(&str, &str)]) -> TestRunner<Dedupe> {
        let deployment = Deployment::for_test().output("out").store("ids").set("seconds", "10");
        let deployment = settings.iter().fold(deployment, |deployment, (name, value)| deployment.set(name, value));
        TestRunner::new(deployment).unwrap()
    }

    /// (id, second) pairs whose records passed, one batch each or all in one.
    fn passed(records: &[(&str, i64)], at_once: bool) -> Vec<(String, i64)> {
        let mut runner = runner(&[]);
        let record = |(id, second): &(&str, i64)| TestRecord::from((*id, "v")).at(second * 1000);
        for part in records.chunks(if at_once { records.len() } else { 1 }) {
            runner.run(part.iter().map(record)).unwrap();
            runner.restart();
        }
        runner.take_output(0).iter().map(|record| (record.key_text().into_owned(), record.timestamp / 1000)).collect()
    }

    #[test]
    fn an_id_passes_once_in_its_time_however_records_are_cut_into_batches() {
        let records = [("a", 0), ("b", 1), ("a", 9), ("a", 10), ("b", 10), ("b", 12), ("a", 11)];
        let expected: Vec<_> = [("a", 0), ("b", 1), ("a", 10), ("b", 12)].map(|(id, at)| (id.to_owned(), at)).into();
        assert_eq!(passed(&records, true), expected);
        assert_eq!(passed(&records, false), expected);
    }

    #[test]
    fn ids_may_be_in_a_header_and_are_forgotten() {
        let mut runner = runner(&[("header", "id")]);
        let with = |id: &str, at: i64| TestRecord::from("v").at(at).header("id", Some(id.as_bytes()));
        runner.run([with("x", 0), with("x", 1), TestRecord::from("v"), TestRecord::from("v")]).unwrap();
        assert_eq!(runner.take_output(0).len(), 3);
        assert_eq!(runner.store(0).len(), 1);
        runner.run([with("y", 20_000)]).unwrap();
        assert_eq!(runner.store(0).len(), 1, "x is forgotten");
    }
}
