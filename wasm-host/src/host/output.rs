//! `headwater:module/output`: where a processor writes.

use super::{EmitError, lock};
use crate::bindings::{EmitCode, EmitParameters, OUTPUT};
use crate::instance::StoreData;
use crate::packed::Malformed;
use crate::records::EmittedRecords;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(OUTPUT)?;
    interface.func_wrap("emit", emit)
}

type Answer = wasmtime::Result<(Result<(), EmitCode>,)>;

fn emit(mut store: StoreContextMut<'_, StoreData>, (output, records): EmitParameters) -> Answer {
    let data = store.data();
    if !data.in_step() {
        return Ok((Err(EmitCode::OutsideStep),));
    }
    let shared = Arc::clone(&data.host);
    let mut host = lock(&shared)?;
    let index = records.index.as_le_slice(&store);
    let bytes = records.data.as_le_slice(&store);
    let emitted = if data.carries(index.len().saturating_add(bytes.len())) {
        EmittedRecords::decode(index, bytes)
            .map_err(|Malformed(fault)| EmitError::Malformed(fault))
            .and_then(|records| host.emit(output, records))
    } else {
        Err(EmitError::TooLarge)
    };
    let code = match emitted {
        Ok(()) => return Ok((Ok(()),)),
        Err(EmitError::Host(fault)) => return Err(fault.into()),
        Err(EmitError::Malformed(fault)) => {
            data.warn(&mut *host, &format!("emit to output {output}: {fault}"));
            EmitCode::Malformed
        }
        Err(EmitError::UnknownOutput) => EmitCode::UnknownOutput,
        Err(EmitError::UnknownPartition) => EmitCode::UnknownPartition,
        Err(EmitError::TooLarge) => EmitCode::TooLarge,
    };
    if code == EmitCode::TooLarge {
        store.data_mut().output_too_large = true;
    }
    Ok((Err(code),))
}
