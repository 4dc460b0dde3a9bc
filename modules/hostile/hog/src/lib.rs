//! A hostile guest: a record whose value is `hog` makes it allocate without end. Every other record
//! passes as it is. Deploy with one output.

use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor, export_processor};

/// The processor.
pub struct Hog;

export_processor!(Hog);

impl RecordProcessor for Hog {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 0)?;
        Ok(Self)
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        if record.value == Some(b"hog") {
            hog();
        }
        Ok(context.emit(0, OutRecord::from(record))?)
    }
}

fn hog() -> ! {
    let mut hoard = Vec::new();
    loop {
        // Written to and hidden from the optimiser, or nothing would be allocated.
        hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::TestRunner;

    #[test]
    fn other_records_pass() {
        let mut runner = TestRunner::<Hog>::new(Deployment::for_test().output("out")).unwrap();
        runner.run(["hogging", "Hog", ""]).unwrap();
        assert_eq!(runner.take_output(0).len(), 3);
    }
}
