//! Passes on the records whose value contains a text. Deploy with one output and `--setting contains=TEXT`.

use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor, export_processor};

/// The processor.
pub struct Filter {
    text: String,
}

export_processor!(Filter);

impl RecordProcessor for Filter {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 0)?; // one output, no store
        Ok(Self { text: deployment.required("contains")?.to_owned() })
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        if record.value_text().contains(&self.text) {
            context.emit(0, OutRecord::from(record))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::TestRunner;

    #[test]
    fn what_matches_passes() {
        let deployment = Deployment::for_test().output("out").set("contains", "a");
        let mut runner = TestRunner::<Filter>::new(deployment).unwrap();
        runner.run(["abc", "xyz"]).unwrap();
        let passed: Vec<_> = runner.take_output(0).iter().map(|record| record.value_text().into_owned()).collect();
        assert_eq!(passed, ["abc"]);
    }
}
