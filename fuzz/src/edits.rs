//! Edits of valid bytes: what random bytes hardly ever reach lies one edit away from something valid.

/// Applies the edits that `input` spells out, three bytes or more each, to a copy of `valid`:
///
/// ```text
///   what: u8 │ where: u16 big-endian, modulo the length │ then, by what modulo 4:
///   0 overwrite with the next byte   1 flip one bit   2 cut off here   3 insert the next byte
/// ```
#[must_use]
pub fn edited(valid: &[u8], input: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    let mut input = input.iter().copied();
    while let (Some(what), Some(high), Some(low)) = (input.next(), input.next(), input.next()) {
        if bytes.is_empty() {
            break;
        }
        let place = usize::from(u16::from_be_bytes([high, low])) % bytes.len();
        match what % 4 {
            0 => bytes[place] = input.next().unwrap_or(0),
            1 => bytes[place] ^= 1 << (what / 4 % 8),
            2 => bytes.truncate(place),
            _ => bytes.insert(place, input.next().unwrap_or(0)),
        }
    }
    bytes
}

#[test]
fn edits_are_what_they_say() {
    assert_eq!(edited(b"abcd", &[]), b"abcd");
    assert_eq!(edited(b"abcd", &[0, 0, 1, b'x']), b"axcd");
    assert_eq!(edited(b"abcd", &[1, 0, 0]), b"`bcd");
    assert_eq!(edited(b"abcd", &[2, 0, 6]), b"ab");
    assert_eq!(edited(b"abcd", &[3, 0, 4, b'x']), b"xabcd");
    assert_eq!(edited(b"abcd", &[2, 0, 0, 1, 2, 3]), b"");
}
