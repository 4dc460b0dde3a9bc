//! Passes records on with the ASCII letters of their values in upper case. Deploy with one output.

use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor, export_processor};

/// The processor.
#[derive(Default)]
pub struct UpperCase {
    /// Reused from record to record; says nothing about any of them.
    value: Vec<u8>,
}

export_processor!(UpperCase);

impl RecordProcessor for UpperCase {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 0)?;
        Ok(Self::default())
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        let Some(value) = record.value else {
            return Ok(context.emit(0, OutRecord::from(record))?);
        };
        self.value.clear();
        self.value.extend_from_slice(value);
        self.value.make_ascii_uppercase();
        Ok(context.emit(0, OutRecord::from(record).value(&self.value))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::{TestRecord, TestRunner};

    #[test]
    fn values_are_upper_case_and_all_else_is_kept() {
        let records = [
            TestRecord::from(("key", "a long Value, été")).at(3).header("h", Some(b"x")),
            TestRecord::from(""),
            TestRecord { key: Some(b"key".to_vec()), ..TestRecord::default() },
        ];
        let mut runner = TestRunner::<UpperCase>::new(Deployment::for_test().output("out")).unwrap();
        runner.run(records.clone()).unwrap();
        let mut expected = records;
        expected[0].value = Some("A LONG VALUE, éTé".into());
        assert_eq!(runner.take_output(0), expected);
    }
}
