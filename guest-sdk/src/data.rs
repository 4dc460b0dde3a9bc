//! Keys and values as types.

/// What a key, a value or an entry of a store is read as and written as. Null is `None` of an [`Option`]; for every
/// other type it is an error, so that a tombstone is never taken for a value.
///
/// Numbers are decimal text, which `headwater consume` shows as it is. Types of your own go as [`Json`] or
/// [`Postcard`], or implement this:
///
/// ```
/// use headwater_guest_sdk::{Data, Failure, Json, Record};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Order {
///     cents: u64,
/// }
///
/// /// A value that is no order is a failure that names its record.
/// fn cents(record: &Record<'_>) -> Result<u64, Failure> {
///     let Json(order) = record.value_as::<Json<Order>>()?;
///     Ok(order.cents)
/// }
///
/// assert_eq!(Json(Order { cents: 5 }).encode().unwrap().unwrap(), br#"{"cents":5}"#);
/// assert!(u64::decode(Some(b"many")).unwrap_err().contains("invalid digit"));
/// assert_eq!(Option::<u64>::decode(None), Ok(None));
/// ```
pub trait Data: Sized + 'static {
    /// Reads the bytes of a field, or null.
    ///
    /// # Errors
    /// Why these bytes are no such value, for the operator.
    fn decode(field: Option<&[u8]>) -> Result<Self, String>;

    /// Writes the bytes of a field, or null.
    ///
    /// # Errors
    /// Why this value has no bytes, for the operator.
    fn encode(&self) -> Result<Option<Vec<u8>>, String>;
}

fn present(field: Option<&[u8]>) -> Result<&[u8], String> {
    field.ok_or_else(|| "it is null: read it as an Option where that may be".to_owned())
}

fn text(field: Option<&[u8]>) -> Result<&str, String> {
    str::from_utf8(present(field)?).map_err(|error| error.to_string())
}

impl<T: Data> Data for Option<T> {
    fn decode(field: Option<&[u8]>) -> Result<Self, String> {
        field.map(|bytes| T::decode(Some(bytes))).transpose()
    }

    fn encode(&self) -> Result<Option<Vec<u8>>, String> {
        self.as_ref().map_or(Ok(None), T::encode)
    }
}

impl Data for Vec<u8> {
    fn decode(field: Option<&[u8]>) -> Result<Self, String> {
        present(field).map(<[u8]>::to_vec)
    }

    fn encode(&self) -> Result<Option<Vec<u8>>, String> {
        Ok(Some(self.clone()))
    }
}

impl Data for String {
    fn decode(field: Option<&[u8]>) -> Result<Self, String> {
        text(field).map(str::to_owned)
    }

    fn encode(&self) -> Result<Option<Vec<u8>>, String> {
        Ok(Some(self.clone().into_bytes()))
    }
}

macro_rules! decimal_text {
    ($($number:ty),*) => {$(
        impl Data for $number {
            fn decode(field: Option<&[u8]>) -> Result<Self, String> {
                let text = text(field)?;
                text.parse().map_err(|error| format!("{text:?} is no number of this type: {error}"))
            }

            fn encode(&self) -> Result<Option<Vec<u8>>, String> {
                Ok(Some(self.to_string().into_bytes()))
            }
        }
    )*};
}
decimal_text!(i32, i64, u32, u64, f64);

/// JSON of a type that serde knows.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> Data for Json<T> {
    fn decode(field: Option<&[u8]>) -> Result<Self, String> {
        serde_json::from_slice(present(field)?).map(Self).map_err(|error| error.to_string())
    }

    fn encode(&self) -> Result<Option<Vec<u8>>, String> {
        serde_json::to_vec(&self.0).map(Some).map_err(|error| error.to_string())
    }
}

/// Postcard of a type that serde knows: compact, without names; both sides must have the same definition of the type.
#[cfg(feature = "postcard")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Postcard<T>(pub T);

#[cfg(feature = "postcard")]
impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> Data for Postcard<T> {
    fn decode(field: Option<&[u8]>) -> Result<Self, String> {
        match postcard::take_from_bytes(present(field)?) {
            Ok((value, [])) => Ok(Self(value)),
            Ok((_, rest)) => Err(format!("{} bytes are left over: it is postcard of another type", rest.len())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn encode(&self) -> Result<Option<Vec<u8>>, String> {
        postcard::to_stdvec(&self.0).map(Some).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
#[cfg(all(feature = "json", feature = "postcard"))]
mod tests {
    use super::*;
    use crate::testing::{TestRecord, TestRunner};
    use crate::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor};
    use std::fmt::Debug;

    fn back<T: Data + PartialEq + Debug>(value: T) {
        assert_eq!(T::decode(value.encode().unwrap().as_deref()).unwrap(), value);
    }

    #[test]
    fn what_is_written_is_read_back() {
        back(vec![0u8, 255]);
        back("é".to_owned());
        back((i32::MIN, u64::MAX).0);
        back(u64::MAX);
        back(-0.5f64);
        back(Json(vec![Some(1), None]));
        back(Postcard(("a".to_owned(), -3i64)));
        back(Some(7u32));
        back(None::<String>);
    }

    #[test]
    fn what_is_no_such_value_says_why() {
        assert!(String::decode(None).unwrap_err().contains("Option"));
        assert!(String::decode(Some(b"\xff")).unwrap_err().contains("utf-8"));
        assert!(Json::<u8>::decode(Some(b"{}")).unwrap_err().contains("line 1"));
        assert!(Postcard::<u8>::decode(Some(b"\x01\x02")).unwrap_err().contains("1 bytes are left over"));
        Postcard::<String>::decode(Some(b"\xff\xff\xff\xff\x0f")).unwrap_err();
    }

    struct Double;

    impl RecordProcessor for Double {
        fn init(_: &Deployment) -> Result<Self, String> {
            Ok(Self)
        }

        fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
            let Json(number) = record.value_as::<Json<i64>>()?;
            let key = record.key_as::<Option<String>>()?.unwrap_or_default();
            Ok(context.emit(0, OutRecord::at(record.timestamp).key(&key).value(&(2 * number).to_string()))?)
        }
    }

    #[test]
    fn a_field_that_cant_be_read_names_its_record() {
        let mut runner = TestRunner::<Double>::new(Deployment::for_test().output("out")).unwrap();
        runner.run([TestRecord::from("4"), ("k", "5").into()]).unwrap();
        assert_eq!(runner.take_output(0), [("", "8").into(), ("k", "10").into()]);
        let failure = runner.run(["1", "x"]).unwrap_err();
        assert_eq!(failure.index, Some(1));
        assert!(failure.message.starts_with("the value can't be read: expected value at line 1"), "{failure:?}");
        let keyed = TestRecord { key: Some(vec![0xff]), ..TestRecord::from("1") };
        assert!(runner.run([keyed]).unwrap_err().message.starts_with("the key can't be read: invalid utf-8"));
    }
}
