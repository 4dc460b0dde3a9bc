//! What holds for the crate as a whole.

mod allocation;
mod documents;

pub(crate) use allocation::measure;
