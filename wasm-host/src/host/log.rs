//! `headwater:module/log`: lines for the operator.

use super::lock;
use crate::bindings::{LOG, WriteParameters};
use crate::failure::cut;
use crate::instance::StoreData;
use headwater_protocol::messages::processor::LogLevel;
use std::borrow::Cow;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(LOG)?;
    interface.func_wrap("write", write)
}

fn write(mut store: StoreContextMut<'_, StoreData>, (level, message): WriteParameters) -> wasmtime::Result<()> {
    let level = LogLevel::from(level);
    let data = store.data();
    let keep = level == LogLevel::Error;
    if !keep && level < data.log_level {
        return Ok(());
    }
    let whole: Cow<'_, str> = message.to_str(&store)?;
    let line = cut(&whole, data.limits.log_message_bytes_max);
    if level >= data.log_level {
        let shared = Arc::clone(&data.host);
        lock(&shared)?.log(level, line);
    }
    if keep {
        // A panic hook speaks so right before the trap, which itself carries no message.
        let line = line.to_owned();
        store.data_mut().last_error = Some(line);
    }
    Ok(())
}
