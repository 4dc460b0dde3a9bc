//! A hostile guest: a record whose value is `spin` keeps it busy for ever. Every other record
//! passes as it is. Deploy with one output.

use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor, export_processor};

/// The processor.
pub struct Spin;

export_processor!(Spin);

impl RecordProcessor for Spin {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 0)?;
        Ok(Self)
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        if record.value == Some(b"spin") {
            spin();
        }
        Ok(context.emit(0, OutRecord::from(record))?)
    }
}

fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        // Hidden from the optimiser, or the loop would have nothing in it.
        turns = std::hint::black_box(turns).wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::TestRunner;

    #[test]
    fn other_records_pass() {
        let mut runner = TestRunner::<Spin>::new(Deployment::for_test().output("out")).unwrap();
        runner.run(["spinning", "Spin", ""]).unwrap();
        assert_eq!(runner.take_output(0).len(), 3);
    }
}
