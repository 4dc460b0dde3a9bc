//! `headwater:module/state`: the task's stores.

use super::{HostFault, ProcessorHost, ScanRange, StateError, lock};
use crate::bindings::{Page, STATE, ScanParameters, StateCode, StoreParameters};
use crate::instance::StoreData;
use crate::packed::{Malformed, PackedEntries, PackedKeys, PackedWriter};
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(STATE)?;
    interface.func_wrap("get-many", get_many)?;
    interface.func_wrap("put-many", put_many)?;
    interface.func_wrap("scan", scan)
}

type Answer<T> = wasmtime::Result<(Result<T, StateCode>,)>;

impl From<Malformed> for StateError {
    fn from(Malformed(fault): Malformed) -> Self {
        Self::Malformed(fault)
    }
}

fn get_many(store: StoreContextMut<'_, StoreData>, (number, keys): StoreParameters) -> Answer<Vec<u8>> {
    let keys = keys.as_le_slice(&store);
    in_step(store.data(), "get-many", number, keys.len(), |host, bytes_max| {
        let keys = PackedKeys::decode(keys)?;
        let mut values = PackedWriter::new(bytes_max);
        host.get_many(number, keys, &mut values)?;
        if values.count() != keys.len() {
            let message = format!("store {number} answered {} values for {} keys", values.count(), keys.len());
            return Err(HostFault(message).into());
        }
        Ok(values.into_bytes())
    })
}

fn put_many(store: StoreContextMut<'_, StoreData>, (number, entries): StoreParameters) -> Answer<()> {
    let entries = entries.as_le_slice(&store);
    in_step(store.data(), "put-many", number, entries.len(), |host, _| {
        host.put_many(number, PackedEntries::decode(entries)?)
    })
}

fn scan(store: StoreContextMut<'_, StoreData>, parameters: ScanParameters) -> Answer<Page> {
    let (number, start, end, limit, descending) = parameters;
    let start = start.as_le_slice(&store);
    let end = end.as_le_slice(&store);
    in_step(store.data(), "scan", number, start.len().saturating_add(end.len()), |host, bytes_max| {
        let range = ScanRange { start, end: (!end.is_empty()).then_some(end), limit, descending };
        let mut entries = PackedWriter::new(bytes_max);
        let more = host.scan(number, range, &mut entries)?;
        Ok(Page { entries: entries.into_bytes(), more })
    })
}

/// Does what all three have in common: phase, size of the arguments, lock, and the answer's code.
fn in_step<T>(
    data: &StoreData,
    function: &str,
    number: u32,
    argument_bytes: usize,
    call: impl FnOnce(&mut dyn ProcessorHost, usize) -> Result<T, StateError>,
) -> Answer<T> {
    if !data.in_step() {
        return Ok((Err(StateCode::OutsideStep),));
    }
    if !data.carries(argument_bytes) {
        return Ok((Err(StateCode::TooLarge),));
    }
    let shared = Arc::clone(&data.host);
    let mut host = lock(&shared)?;
    let code = match call(&mut *host, data.limits.hostcall_bytes_max) {
        Ok(answer) => return Ok((Ok(answer),)),
        Err(StateError::Host(fault)) => return Err(fault.into()),
        Err(StateError::Malformed(fault)) => {
            data.warn(&mut *host, &format!("{function} of store {number}: {fault}"));
            StateCode::Malformed
        }
        Err(StateError::UnknownStore) => StateCode::UnknownStore,
        Err(StateError::TooLarge) => StateCode::TooLarge,
        Err(StateError::QuotaExceeded) => StateCode::QuotaExceeded,
    };
    Ok((Err(code),))
}
