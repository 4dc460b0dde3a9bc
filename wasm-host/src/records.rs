//! Records on their way in and out of guests: a fixed-stride index beside the bytes it points into.

mod emitted;
mod input;

pub use emitted::{EmittedRecord, EmittedRecords};
pub(crate) use input::INPUT_STRIDE;
pub use input::{InputAssembly, InputError, InputIndex};
