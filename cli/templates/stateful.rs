//! Keeps a total per key: key → amount in, key → total out. Deploy with one output and one store.

use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor, export_processor};

/// The processor. What must last lies in its store: an instance may be replaced at any time.
pub struct Totals;

export_processor!(Totals);

impl RecordProcessor for Totals {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 1)?; // one output, one store
        Ok(Self)
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        let amount: i64 = record.value_text().trim().parse().map_err(|error| record.failure(error))?;
        let key = record.key.unwrap_or_default();
        let totals = context.store(0)?;
        let before = totals.get(key)?.map(String::from_utf8_lossy);
        let before: i64 = before.map_or(Ok(0), |text| text.parse()).map_err(|error| record.failure(error))?;
        let total = before.saturating_add(amount).to_string();
        totals.put(key, total.as_bytes())?;
        Ok(context.emit(0, OutRecord::at(record.timestamp).key(key).value(&total))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::TestRunner;

    #[test]
    fn amounts_add_up_by_key() {
        let deployment = Deployment::for_test().output("totals").store("totals");
        let mut runner = TestRunner::<Totals>::new(deployment).unwrap();
        runner.run([("alice", "5"), ("bob", "1"), ("alice", "-2")]).unwrap();
        let totals: Vec<_> = runner.take_output(0).iter().map(|record| record.value_text().into_owned()).collect();
        assert_eq!(totals, ["5", "1", "3"]);
        assert_eq!(runner.run([("alice", "many")]).unwrap_err().index, Some(0));
    }
}
