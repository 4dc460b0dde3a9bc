//! The compiling process: reads a request, takes its own rights away, compiles, answers, ends.

use super::wire::{Answer, REQUEST_HEADER_BYTES, Request};
use crate::runtime::{Compatibility, engine_config};
use rustix::process::{Resource, Rlimit, Signal, nice, set_parent_process_death_signal, setrlimit};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use wasmtime::{Engine, OutOfMemory};

/// Steps by which the compiler stands back behind the broker.
const NICENESS: i32 = 10;
/// Seconds between the signal that says "too much CPU" and the one that ends the process anyway.
const CPU_GRACE_SECONDS: u64 = 2;

/// All of the hidden subcommand that a broker starts to compile a module: call it first thing in `main`, before any
/// thread, logging or configuration, and return what it returns. Standard input and output are its protocol with the
/// broker; it is of no use by hand.
pub fn compile_child_main() -> ExitCode {
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("this command is for brokers only: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(input: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
    let mut header = [0; REQUEST_HEADER_BYTES];
    input.read_exact(&mut header)?;
    let request = Request::decode(&header).ok_or_else(|| io::Error::other("not a request of this build"))?;
    confine(&request)?;
    let mut component = Vec::new();
    input.take(request.component_bytes).read_to_end(&mut component)?;
    if component.len() as u64 != request.component_bytes {
        return Err(io::Error::other("the broker is gone"));
    }
    let compiled = compile(&request, &component);
    let (header, payload) = match &compiled {
        Ok(code) if code.len() as u64 > request.artefact_bytes_max => Answer::TooLarge.encode(),
        Ok(code) => Answer::Compiled(code).encode(),
        Err(Refusal::Invalid(message)) => Answer::Invalid(message).encode(),
        Err(Refusal::OutOfMemory) => Answer::OutOfMemory.encode(),
        Err(Refusal::Mismatch) => Answer::Mismatch.encode(),
    };
    output.write_all(&header)?;
    output.write_all(payload)?;
    output.flush()
}

/// Limits for the rest of this process's life, set before it sees the first byte of the module.
fn confine(request: &Request) -> io::Result<()> {
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // If the broker dies, nobody waits for the answer.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    nice(NICENESS)?;
    // Writable memory, not address space: allocators reserve much more than they use.
    setrlimit(Resource::Data, both(request.memory_bytes_max))?;
    let cpu = request.cpu_seconds_max;
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu.saturating_add(CPU_GRACE_SECONDS)) })?;
    setrlimit(Resource::Core, both(0))?;
    // It answers through a pipe and writes no file.
    setrlimit(Resource::Fsize, both(0))?;
    Ok(())
}

enum Refusal {
    Invalid(String),
    OutOfMemory,
    Mismatch,
}

fn compile(request: &Request, component: &[u8]) -> Result<Vec<u8>, Refusal> {
    let engine = Engine::new(&engine_config()).map_err(|error| refusal(&error))?;
    if Compatibility::of(&engine) != request.compatibility {
        return Err(Refusal::Mismatch);
    }
    engine.precompile_component(component).map_err(|error| refusal(&error))
}

fn refusal(error: &wasmtime::Error) -> Refusal {
    let of_memory = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
            || cause.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
    };
    if error.is::<OutOfMemory>() || error.chain().any(of_memory) {
        return Refusal::OutOfMemory;
    }
    Refusal::Invalid(format!("{error:#}"))
}
