//! Zigzag varints as record batches use them: seven bits a byte, lowest first, high bit "more follows".
//!
//! A number has exactly one accepted form: a longer one than needed is refused, so that bytes that differ mean
//! different records.

use bytes::{BufMut, BytesMut};

/// Bytes of the longest 32-bit varint.
pub const VARINT_BYTES_MAX: usize = 5;
/// Bytes of the longest 64-bit varint.
pub const VARLONG_BYTES_MAX: usize = 10;

/// Why bytes are not a varint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VarintError {
    /// The bytes end inside the number.
    #[error("the bytes end inside a varint")]
    Truncated,
    /// The number does not fit its type.
    #[error("a varint is too large for its field")]
    TooLarge,
    /// The number has a shorter form.
    #[error("a varint is longer than its value needs")]
    Overlong,
}

/// Maps signed to unsigned so that small magnitudes stay small: 0, -1, 1, -2 → 0, 1, 2, 3.
#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Bytes that [`put`] writes for `value`: 1 to 10, and at most 5 for a value in the range of `i32`.
#[inline]
pub fn encoded_bytes(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`. A value in the range of `i32` has the same form as varint and as varlong.
#[inline]
pub fn put(buffer: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    if rest < 0x80 {
        buffer.put_u8(rest as u8);
        return;
    }
    // Most lengths and offset deltas. Written as a number: a slice of a length known only at run time is a call.
    if rest < 0x4000 {
        buffer.put_u16_le((rest & 0x7f | 0x80 | (rest >> 7) << 8) as u16);
        return;
    }
    let mut bytes = [0; VARLONG_BYTES_MAX];
    let mut length = 0;
    for place in &mut bytes {
        length += 1;
        if rest < 0x80 {
            *place = rest as u8;
            break;
        }
        *place = rest as u8 | 0x80;
        rest >>= 7;
    }
    buffer.put_slice(&bytes[..length]);
}

/// Reads a 32-bit varint at the start of `bytes`: the value and how many bytes it took.
///
/// # Errors
/// [`VarintError`]; more than 5 bytes or more than 32 bits are [`VarintError::TooLarge`].
#[inline]
pub fn read_i32(bytes: &[u8]) -> Result<(i32, usize), VarintError> {
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Ok((unzigzag(u64::from(first)) as i32, 1));
    }
    let (raw, length) = read_raw(bytes, VARINT_BYTES_MAX)?;
    let raw = u32::try_from(raw).map_err(|_| VarintError::TooLarge)?;
    Ok((unzigzag(u64::from(raw)) as i32, length))
}

/// Reads a 64-bit varint at the start of `bytes`: the value and how many bytes it took.
///
/// # Errors
/// [`VarintError`]; more than 10 bytes or more than 64 bits are [`VarintError::TooLarge`].
#[inline]
pub fn read_i64(bytes: &[u8]) -> Result<(i64, usize), VarintError> {
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Ok((unzigzag(u64::from(first)), 1));
    }
    let (raw, length) = read_raw(bytes, VARLONG_BYTES_MAX)?;
    Ok((unzigzag(raw), length))
}

fn read_raw(bytes: &[u8], bytes_max: usize) -> Result<(u64, usize), VarintError> {
    let mut raw: u64 = 0;
    for (position, &byte) in bytes.iter().take(bytes_max).enumerate() {
        let group = u64::from(byte & 0x7f);
        let shift = 7 * position as u32;
        // The tenth byte has room for one bit.
        if shift == 63 && group > 1 {
            return Err(VarintError::TooLarge);
        }
        raw |= group << shift;
        if byte < 0x80 {
            let overlong = byte == 0 && position > 0;
            return if overlong { Err(VarintError::Overlong) } else { Ok((raw, position + 1)) };
        }
    }
    Err(if bytes.len() < bytes_max { VarintError::Truncated } else { VarintError::TooLarge })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: i64) -> BytesMut {
        let mut buffer = BytesMut::new();
        put(&mut buffer, value);
        buffer
    }

    #[test]
    fn known_values_have_known_bytes() {
        // The list of Kafka's ByteUtilsTest, which is protobuf's zigzag.
        let known: &[(i64, &[u8])] = &[
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (-65, &[0x81, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (-8192, &[0xff, 0x7f]),
            (8192, &[0x80, 0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ];
        for (value, bytes) in known {
            assert_eq!(encoded(*value), *bytes, "{value}");
            assert_eq!(encoded_bytes(*value), bytes.len(), "{value}");
            assert_eq!(read_i64(bytes), Ok((*value, bytes.len())));
            match i32::try_from(*value) {
                Ok(value) => assert_eq!(read_i32(bytes), Ok((value, bytes.len()))),
                Err(_) => assert_eq!(read_i32(bytes), Err(VarintError::TooLarge)),
            }
        }
    }

    #[test]
    fn bad_forms_are_refused_by_name() {
        assert_eq!(read_i32(&[]), Err(VarintError::Truncated));
        assert_eq!(read_i32(&[0x80, 0x80]), Err(VarintError::Truncated));
        assert_eq!(read_i32(&[0x80, 0x00]), Err(VarintError::Overlong));
        assert_eq!(read_i64(&[0xff, 0x80, 0x00]), Err(VarintError::Overlong));
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x10]), Err(VarintError::TooLarge));
        assert_eq!(read_i32(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]), Err(VarintError::TooLarge));
        assert_eq!(read_i64(&[0xff; 10]), Err(VarintError::TooLarge));
        let mut eleven_bits = [0xff; 10];
        eleven_bits[9] = 0x02;
        assert_eq!(read_i64(&eleven_bits), Err(VarintError::TooLarge));
    }

    proptest! {
        #[test]
        fn every_value_survives(value: i64) {
            let bytes = encoded(value);
            prop_assert_eq!(bytes.len(), encoded_bytes(value));
            prop_assert_eq!(read_i64(&bytes), Ok((value, bytes.len())));
            let narrow = value as i32;
            let bytes = encoded(i64::from(narrow));
            prop_assert_eq!(read_i32(&bytes), Ok((narrow, bytes.len())));
        }

        #[test]
        fn what_reads_is_what_would_be_written(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok((value, length)) = read_i64(&bytes) {
                prop_assert_eq!(&encoded(value)[..], &bytes[..length]);
            }
            if let Ok((value, length)) = read_i32(&bytes) {
                prop_assert_eq!(&encoded(i64::from(value))[..], &bytes[..length]);
            }
        }
    }
}
