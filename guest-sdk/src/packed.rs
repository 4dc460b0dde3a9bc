//! The packed lists of the contract: s32 length (-1 = absent), then the bytes; timers have an s64 time in front.

use crate::error::ContractError;

/// Appends one packed element.
pub(crate) fn push(packed: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => packed.extend_from_slice(&(-1i32).to_le_bytes()),
        Some(bytes) => {
            packed.extend_from_slice(&length(bytes.len()).to_le_bytes());
            packed.extend_from_slice(bytes);
        }
    }
}

/// A length as the contract writes it. What does not fit could not be in a guest's memory either; the host refuses it.
pub(crate) fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// Bytes that a packed element takes.
pub(crate) fn size(bytes: &[u8]) -> usize {
    4 + bytes.len()
}

/// Reads packed elements one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(packed: &'a [u8]) -> Self {
        Self { rest: packed }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element.
    pub(crate) fn bytes(&mut self) -> Result<Option<&'a [u8]>, ContractError> {
        let length = i32::from_le_bytes(self.array()?);
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| ContractError("a negative length in a packed list"))?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(Some(bytes))
    }

    /// The next element, which may not be absent.
    pub(crate) fn present(&mut self) -> Result<&'a [u8], ContractError> {
        self.bytes()?.ok_or(ContractError("an absent key in a packed list"))
    }

    /// The next eight bytes as a time.
    pub(crate) fn i64(&mut self) -> Result<i64, ContractError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ContractError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

const CUT_OFF: ContractError = ContractError("a packed list is cut off");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_read_back() {
        let mut packed = Vec::new();
        for element in [Some(&b"key"[..]), None, Some(b"")] {
            push(&mut packed, element);
        }
        assert_eq!(packed, b"\x03\0\0\0key\xff\xff\xff\xff\0\0\0\0");
        let mut reader = Reader::new(&packed);
        assert_eq!(reader.bytes(), Ok(Some(&b"key"[..])));
        assert_eq!(reader.bytes(), Ok(None));
        assert_eq!(reader.bytes(), Ok(Some(&b""[..])));
        assert!(reader.is_empty());
    }

    #[test]
    fn broken_lists_are_refused() {
        assert_eq!(Reader::new(b"\x03\0\0").bytes(), Err(CUT_OFF));
        assert_eq!(Reader::new(b"\x03\0\0\0ke").bytes(), Err(CUT_OFF));
        assert!(Reader::new(b"\xfe\xff\xff\xff").bytes().is_err());
        assert!(Reader::new(b"\xff\xff\xff\xff").present().is_err());
        assert!(Reader::new(b"\xff\xff\xff\x7f").bytes().is_err());
    }
}
