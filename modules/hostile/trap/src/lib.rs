//! A hostile guest: a record whose value is `trap` makes it panic. Every other record
//! passes as it is. Deploy with one output.

use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor, export_processor};

/// The processor.
pub struct Trap;

export_processor!(Trap);

impl RecordProcessor for Trap {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 0)?;
        Ok(Self)
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        if record.value == Some(b"trap") {
            #[expect(clippy::panic, reason = "what this module is for")]
            {
                panic!("the record at offset {} says trap", record.offset);
            }
        }
        Ok(context.emit(0, OutRecord::from(record))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::TestRunner;

    #[test]
    fn other_records_pass() {
        let mut runner = TestRunner::<Trap>::new(Deployment::for_test().output("out")).unwrap();
        runner.run(["trapped", "Trap", ""]).unwrap();
        assert_eq!(runner.take_output(0).len(), 3);
    }

    #[test]
    #[should_panic(expected = "the record at offset 2 says trap")]
    fn the_panic_names_the_record() {
        let mut runner = TestRunner::<Trap>::new(Deployment::for_test().output("out")).unwrap();
        runner.run(["a", "b", "trap"]).unwrap();
    }
}
