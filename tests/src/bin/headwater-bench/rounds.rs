//! Contenders that take turns, and what to make of their samples.

use crate::Result;

/// Something that is measured: one call, one sample.
pub(crate) type Contender<'a> = &'a mut dyn FnMut() -> Result<f64>;

/// Samples by contender, in rounds.
pub(crate) struct Samples<const N: usize>([Vec<f64>; N]);

/// Lets every contender warm up once, then runs rounds: in each everyone has a turn, and another one is first.
pub(crate) fn interleave<const N: usize>(rounds: usize, mut contenders: [Contender<'_>; N]) -> Result<Samples<N>> {
    for contender in &mut contenders {
        contender()?;
    }
    let mut samples: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..rounds {
        for place in 0..N {
            let number = (round + place) % N;
            samples[number].push(contenders[number]()?);
        }
    }
    Ok(Samples(samples))
}

impl<const N: usize> Samples<N> {
    /// The middle sample of a contender.
    pub(crate) fn median(&self, contender: usize) -> f64 {
        median(self.0[contender].iter().copied())
    }

    /// The middle of what `of` makes of each round's samples.
    pub(crate) fn median_of(&self, of: impl Fn([f64; N]) -> f64) -> f64 {
        let rounds = self.0[0].len();
        median((0..rounds).map(|round| of(std::array::from_fn(|contender| self.0[contender][round]))))
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.get(values.len() / 2), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(middle), 1) => *middle,
        (Some(upper), _) => (values[values.len() / 2 - 1] + upper) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn everyone_has_a_turn_in_each_round_and_another_one_is_first() {
        let order = RefCell::new(String::new());
        let turn = |name: char, value: f64| {
            order.borrow_mut().push(name);
            Ok(value)
        };
        let samples = interleave(3, [&mut || turn('a', 1.0), &mut || turn('b', 4.0)]).unwrap();
        assert_eq!(*order.borrow(), "ababbaab");
        assert_eq!(samples.median(1), 4.0);
        assert_eq!(samples.median_of(|[a, b]| b / a), 4.0);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([5.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), 3.0);
        assert!(median([]).is_nan());
    }
}
