//! Components from hand-written core modules: the canonical ABI spelled out, no guest compiler needed.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract.
pub(crate) const WIT: &str = include_str!("../../../guest-sdk/wit/headwater.wit");

/// Wraps a core module, in text, as a component of a world of `wit`.
pub(crate) fn component(wit: &str, world: &str, core: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(core).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let mut encoder = ComponentEncoder::default().validate(true).module(&module).unwrap();
    encoder.encode().unwrap()
}

/// A processor, in pieces of WebAssembly text. Memory below 4096 is the pieces' own, and zero unless they write it:
/// a function that returns 0 so returns ok, an answer at 64 reads as ok.
#[derive(Clone, Copy)]
pub(crate) struct Guest<'a> {
    /// Definitions beside the functions below: data, globals.
    pub(crate) definitions: &'a str,
    /// Memory, in pages of 64 KiB.
    pub(crate) pages: u32,
    /// Body of `init`; `$processor`, `$processor_len`, `$settings` …
    pub(crate) init: &'a str,
    /// Body of `process`; `$input $partition $base $stream $index $index_len $data $data_len`.
    pub(crate) process: &'a str,
    /// Body of `on-timers`; `$stream $timers $timers_len`.
    pub(crate) on_timers: &'a str,
}

impl Default for Guest<'_> {
    fn default() -> Self {
        let ok = "(i32.const 0)";
        Self { definitions: "", pages: 1, init: ok, process: ok, on_timers: ok }
    }
}

impl Guest<'_> {
    pub(crate) fn component(&self) -> Vec<u8> {
        component(WIT, "processor", &self.core())
    }

    pub(crate) fn core(&self) -> String {
        let Self { definitions, pages, init, process, on_timers } = self;
        format!(
            r#"(module $guest
  (import "headwater:module/output@0.1.0" "emit" (func $emit (param i32 i32 i32 i32 i32 i32)))
  (import "headwater:module/state@0.1.0" "get-many" (func $get_many (param i32 i32 i32 i32)))
  (import "headwater:module/state@0.1.0" "put-many" (func $put_many (param i32 i32 i32 i32)))
  (import "headwater:module/state@0.1.0" "scan" (func $scan (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "headwater:module/timers@0.1.0" "set-many" (func $set_timers (param i32 i32 i32)))
  (import "headwater:module/timers@0.1.0" "cancel-many" (func $cancel_timers (param i32 i32 i32)))
  (import "headwater:module/log@0.1.0" "write" (func $log (param i32 i32 i32)))
  (memory (export "memory") {pages})
  (global $heap (mut i32) (i32.const 4096))
  (func $realloc (export "cabi_realloc") (param i32 i32 i32) (param $len i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $len)))
    (block $enough (loop $more
      (br_if $enough (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
      (br $more)))
    (local.get $at))
  (func $init (export "init") (param $processor i32) (param $processor_len i32) (param $task i32)
    (param $inputs i32) (param $inputs_len i32) (param $outputs i32) (param $outputs_len i32)
    (param $stores i32) (param $stores_len i32) (param $settings i32) (param $settings_len i32) (param $level i32)
    (result i32) {init})
  (func $process (export "process") (param $input i32) (param $partition i32) (param $base i64) (param $stream i64)
    (param $index i32) (param $index_len i32) (param $data i32) (param $data_len i32) (result i32)
    {process})
  (func $on_timers (export "on-timers") (param $stream i64) (param $timers i32) (param $timers_len i32) (result i32)
    {on_timers})
  {definitions})"#
        )
    }
}
