//! Passes every record on as it is: timestamp, key, value, headers. Deploy with one output.

use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor, export_processor};

/// The processor.
pub struct Identity;

export_processor!(Identity);

impl RecordProcessor for Identity {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 0)?;
        Ok(Self)
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        Ok(context.emit(0, OutRecord::from(record))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::{TestRecord, TestRunner};

    #[test]
    fn nothing_is_changed() {
        let records = [
            TestRecord::from(("key", "value")).at(7).header("name", Some(b"x")).header("name", None),
            TestRecord::default().at(-1),
        ];
        let mut runner = TestRunner::<Identity>::new(Deployment::for_test().output("out")).unwrap();
        runner.run(records.clone()).unwrap();
        assert_eq!(runner.take_output(0), records);
    }
}
