//! `headwater:module/timers`: timers on stream time.

use super::{ProcessorHost, TimerError, lock};
use crate::bindings::{TIMERS, TimerCode};
use crate::instance::StoreData;
use crate::packed::{Malformed, PackedKeys, PackedTimers};
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmList};

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(TIMERS)?;
    interface.func_wrap("set-many", set_many)?;
    interface.func_wrap("cancel-many", cancel_many)
}

type Answer = wasmtime::Result<(Result<(), TimerCode>,)>;

impl From<Malformed> for TimerError {
    fn from(Malformed(fault): Malformed) -> Self {
        Self::Malformed(fault)
    }
}

fn set_many(store: StoreContextMut<'_, StoreData>, (timers,): (WasmList<u8>,)) -> Answer {
    let timers = timers.as_le_slice(&store);
    in_step(store.data(), "set-many", timers.len(), |host| host.set_timers(PackedTimers::decode(timers)?))
}

fn cancel_many(store: StoreContextMut<'_, StoreData>, (ids,): (WasmList<u8>,)) -> Answer {
    let ids = ids.as_le_slice(&store);
    in_step(store.data(), "cancel-many", ids.len(), |host| host.cancel_timers(PackedKeys::decode(ids)?))
}

fn in_step(
    data: &StoreData,
    function: &str,
    argument_bytes: usize,
    call: impl FnOnce(&mut dyn ProcessorHost) -> Result<(), TimerError>,
) -> Answer {
    if !data.in_step() {
        return Ok((Err(TimerCode::OutsideStep),));
    }
    if !data.carries(argument_bytes) {
        return Ok((Err(TimerCode::TooLarge),));
    }
    let shared = Arc::clone(&data.host);
    let mut host = lock(&shared)?;
    let code = match call(&mut *host) {
        Ok(()) => return Ok((Ok(()),)),
        Err(TimerError::Host(fault)) => return Err(fault.into()),
        Err(TimerError::Malformed(fault)) => {
            data.warn(&mut *host, &format!("{function} of timers: {fault}"));
            TimerCode::Malformed
        }
        Err(TimerError::TooLarge) => TimerCode::TooLarge,
        Err(TimerError::QuotaExceeded) => TimerCode::QuotaExceeded,
    };
    Ok((Err(code),))
}
