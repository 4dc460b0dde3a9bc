//! Finds the record that makes a call fail, by running the records again on fewer of them.
//!
//! ```text
//!   1000 records, number 700 is the culprit              next call
//!   [-------------------------x----------]  fails          500
//!   [ok               ]                     succeeds       250   (500 are under suspicion)
//!                      [------x  ]          fails          125
//!                      [ok ] ...                            …    until one record is left: the culprit
//! ```

/// How many records the next call takes.
///
/// Each failed call halves what is under suspicion and each good one takes its records out of it, so that a culprit
/// among `n` records is alone after at most `2 log2 n` calls. A guest that names the record shortens that to two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bisection {
    records_max: usize,
    /// What a call may take while nothing is under suspicion; lowered when a whole step was too large to commit.
    ceiling: usize,
    /// So many records from the position on hold one that fails; 0 for no suspicion.
    suspects: usize,
    /// Records of the next call while there is suspicion.
    next: usize,
}

impl Bisection {
    /// No suspicion: calls take `records_max` records, at least one.
    pub fn new(records_max: usize) -> Self {
        let records_max = records_max.max(1);
        Self { records_max, ceiling: records_max, suspects: 0, next: records_max }
    }

    /// Records that the next call takes at most; at least one.
    pub fn records(&self) -> usize {
        if self.suspects == 0 { self.ceiling } else { self.next }
    }

    /// Whether a culprit is being looked for: the next call has to go on at the same input.
    pub fn is_searching(&self) -> bool {
        self.suspects > 0
    }

    /// A call on `records` records failed, at least two; the guest may have named one of them. A name that can't be is
    /// ignored.
    pub fn failed(&mut self, records: usize, named: Option<usize>) {
        debug_assert!(records > 1, "a single record is the culprit");
        let named = named.filter(|named| *named < records);
        self.suspects = named.map_or(records, |named| named + 1);
        self.next = match named {
            Some(0) => 1,
            Some(named) => named,
            None => (records / 2).max(1),
        };
    }

    /// The culprit is alone: the next call is on nothing else, whatever has arrived since.
    pub fn alone(&mut self) {
        (self.suspects, self.next) = (1, 1);
    }

    /// A step of `records` records was larger than a step may be: nobody is to blame, the next ones are smaller.
    pub fn too_large(&mut self, records: usize) {
        self.ceiling = (records / 2).max(1);
        if self.suspects > 0 {
            self.next = self.next.min(self.ceiling);
        }
    }

    /// A step of `records` records is committed.
    pub fn succeeded(&mut self, records: usize) {
        self.suspects = self.suspects.saturating_sub(records);
        self.next = (self.suspects / 2).max(1);
        if self.suspects == 0 {
            // Back to full steps, gently: what was too large once is so again, more often than not.
            let growth = (self.records_max / 16).max(1);
            self.ceiling = self.ceiling.saturating_add(growth).min(self.records_max);
        }
    }

    /// The culprit was alone and has been dealt with.
    pub fn found(&mut self) {
        self.suspects = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Processes `total` records of which `poison` fail; the numbers of those that were found, and the failed calls.
    fn run(total: usize, poison: &[usize], records_max: usize, named: bool) -> (Vec<usize>, usize) {
        let mut bisection = Bisection::new(records_max);
        let (mut position, mut found, mut failures) = (0, Vec::new(), 0);
        while position < total {
            let records = bisection.records().min(total - position);
            assert!(records > 0);
            let culprit = poison.iter().copied().find(|at| (position..position + records).contains(at));
            match culprit {
                None => {
                    position += records;
                    bisection.succeeded(records);
                }
                Some(at) if records == 1 => {
                    failures += 1;
                    found.push(at);
                    position += 1;
                    bisection.found();
                }
                Some(at) => {
                    failures += 1;
                    bisection.failed(records, named.then_some(at - position));
                }
            }
        }
        (found, failures)
    }

    #[test]
    fn a_culprit_that_nobody_names_is_alone_after_log2_failures() {
        for at in 0..1000 {
            let (found, failures) = run(1000, &[at], 1000, false);
            assert_eq!(found, [at]);
            assert!(failures <= 11, "{failures} failed calls for record {at}");
        }
    }

    #[test]
    fn a_named_culprit_fails_twice() {
        for at in 0..1000 {
            assert_eq!(run(1000, &[at], 1000, true), (vec![at], 2));
        }
    }

    #[test]
    fn a_step_that_is_too_large_makes_the_next_ones_smaller_for_a_while() {
        let mut bisection = Bisection::new(1000);
        bisection.too_large(1000);
        assert_eq!(bisection.records(), 500);
        bisection.succeeded(500);
        assert_eq!(bisection.records(), 562);
        (0..10).for_each(|_| bisection.succeeded(500));
        assert_eq!(bisection.records(), 1000);
    }

    #[test]
    fn a_failure_that_does_not_come_again_ends_the_search() {
        let mut bisection = Bisection::new(100);
        bisection.failed(100, None);
        assert!(bisection.is_searching());
        for records in [50, 25, 12, 6, 3, 2, 1, 1] {
            assert_eq!(bisection.records(), records);
            bisection.succeeded(records);
        }
        assert!(!bisection.is_searching());
        assert_eq!(bisection.records(), 100);
    }

    proptest! {
        #[test]
        fn all_culprits_are_found_and_nobody_else(
            poison in proptest::collection::btree_set(0_usize..500, 0..20),
            records_max in 1_usize..200,
            named: bool,
        ) {
            let poison: Vec<usize> = poison.into_iter().collect();
            let (found, _) = run(500, &poison, records_max, named);
            prop_assert_eq!(found, poison);
        }
    }
}
