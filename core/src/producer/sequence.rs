//! Arithmetic on the short numbers in a batch's header: sequences of 31 bits and epochs of 15, both going round.

use headwater_protocol::ids::LeaderEpoch;

/// All bits that a sequence has: 2^31 - 1, the largest one; after it comes 0 (IDP-1).
pub const SEQUENCE_MAX: i32 = i32::MAX;
const SEQUENCE_MASK: u32 = SEQUENCE_MAX as u32;
const EPOCH_MASK: u16 = 0x7fff;

/// The sequence `count` places after `sequence`; both must be 0 or more.
pub fn advance(sequence: i32, count: i32) -> i32 {
    debug_assert!(sequence >= 0);
    debug_assert!(count >= 0);
    (sequence.wrapping_add(count) as u32 & SEQUENCE_MASK) as i32
}

/// The low 31 bits of a number: what a batch's base sequence holds of it (STEP-8).
pub fn low_bits(number: u64) -> i32 {
    (number & u64::from(SEQUENCE_MASK)) as i32
}

/// How far `a` is after `b`, from -2^30 to 2^30 - 1. True as long as the two are less than 2^30 apart.
pub fn distance(a: i32, b: i32) -> i32 {
    // Bit 30 of the difference becomes the sign.
    (a.wrapping_sub(b) << 1) >> 1
}

/// The number nearest to `around` whose low 31 bits are `sequence`.
pub fn number_near(around: u64, sequence: i32) -> u64 {
    let away = i64::from(distance(sequence, low_bits(around)));
    around.checked_add_signed(away).unwrap_or(u64::from(sequence.unsigned_abs()))
}

/// The low 15 bits of a leader epoch: what a batch's producer epoch holds of it.
pub fn low_epoch(epoch: LeaderEpoch) -> i16 {
    (epoch.0 as u16 & EPOCH_MASK) as i16
}

/// Whether epoch `a` is older than `b`, both of 15 bits and less than 2^14 apart.
pub fn epoch_is_older(a: i16, b: i16) -> bool {
    // Bit 14 of the difference says that it is negative.
    (a as u16).wrapping_sub(b as u16) & 0x4000 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_go_from_the_largest_to_zero() {
        // covers IDP-1
        assert_eq!(advance(SEQUENCE_MAX, 1), 0);
        assert_eq!(advance(SEQUENCE_MAX - 1, 3), 1);
        assert_eq!(advance(7, 0), 7);
        assert_eq!(advance(0, i32::MAX), i32::MAX);
    }

    #[test]
    fn distance_is_signed_and_goes_round() {
        assert_eq!(distance(5, 3), 2);
        assert_eq!(distance(3, 5), -2);
        assert_eq!(distance(0, SEQUENCE_MAX), 1);
        assert_eq!(distance(SEQUENCE_MAX, 0), -1);
        assert_eq!(distance(1 << 30, 0), -(1 << 30));
        assert_eq!(distance((1 << 30) - 1, 0), (1 << 30) - 1);
    }

    #[test]
    fn a_number_is_found_again_from_its_low_bits_and_a_near_one() {
        for number in [0, 1, (1 << 31) - 1, 1 << 31, (1 << 31) + 5, (1 << 40) + (1 << 30)] {
            for away in [-(1_i64 << 30) + 1, -7, 0, 7, (1 << 30) - 1] {
                if let Some(around) = u64::checked_add_signed(number, away) {
                    assert_eq!(number_near(around, low_bits(number)), number, "{number} from {around}");
                }
            }
        }
        assert_eq!(number_near(0, SEQUENCE_MAX), SEQUENCE_MAX as u64, "nothing lies below 0");
    }

    #[test]
    fn epochs_compare_across_their_wrap() {
        assert_eq!(low_epoch(LeaderEpoch(0x1_8001)), 1);
        assert!(epoch_is_older(0x7fff, 0) && !epoch_is_older(0, 0x7fff));
        assert!(epoch_is_older(3, 4) && !epoch_is_older(4, 3) && !epoch_is_older(4, 4));
    }
}
