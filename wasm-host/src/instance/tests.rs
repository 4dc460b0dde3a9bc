//! Guests that behave, and guests that do not. Each is one idea in a few lines of WebAssembly.

use super::*;
use crate::HostFault;
use crate::host::{EmitError, StateError, TimerError};
use crate::packed::encode_timers;
use crate::runtime::{Runtime, RuntimeConfig};
use crate::testing::component::Guest;
use crate::testing::{TestHost, batch, compile, deployment, runtime, small_limits, start, start_with};

/// Emits the batch's data as the value of one record, by key, to output 1, and leaves the answer's code at 64.
const EMIT_DATA: &str = "
    (i64.store (i32.const 8) (i64.const 77))
    (i32.store (i32.const 16) (i32.const -1))
    (i32.store (i32.const 20) (local.get $data_len))
    (i32.store (i32.const 24) (i32.const 0))
    (i32.store (i32.const 28) (i32.const -1))
    (call $emit (i32.const 1) (i32.const 8) (i32.const 24) (local.get $data) (local.get $data_len) (i32.const 64))";
/// Fails with the u16 at 64 (an answer: 0 for ok, 1 and the code above it for an error) as its index.
const FAIL_WITH_ANSWER: &str = "
    (i32.store8 (i32.const 128) (i32.const 1))
    (i32.store8 (i32.const 132) (i32.const 1))
    (i32.store (i32.const 136) (i32.load16_u (i32.const 64)))
    (i32.const 128)";
const OK: &str = "(i32.const 0)";

fn guest_failure(error: CallError) -> GuestFailure {
    match error {
        CallError::Guest(failure) => failure,
        CallError::Host(error) => panic!("{error}"),
    }
}

/// What `process` with these data fails with.
fn failure(process: &str, data: &[u8]) -> GuestFailure {
    let (mut instance, _) = start(&Guest { process, ..Guest::default() }).unwrap();
    let failure = guest_failure(instance.process(batch(data)).unwrap_err());
    assert!(instance.is_dead());
    failure
}

fn answer(error: Result<(), CallError>) -> u32 {
    match guest_failure(error.unwrap_err()) {
        GuestFailure::Failed { index: Some(index), .. } => index,
        other => panic!("{other}"),
    }
}

/// An error code of an answer, as [`FAIL_WITH_ANSWER`] reads it.
fn code(number: u32) -> u32 {
    1 + 256 * number
}

fn trap(failure: GuestFailure) -> crate::TrapReport {
    match failure {
        GuestFailure::Trap(report) => report,
        other => panic!("{other}"),
    }
}

#[test]
fn records_go_in_and_come_out() {
    let process = format!("{EMIT_DATA} {OK}");
    let (mut instance, host) = start(&Guest { process: &process, ..Guest::default() }).unwrap();
    instance.process(batch(b"first")).unwrap();
    instance.process(batch(b"")).unwrap();
    let emitted = |value: &[u8]| (1, 77, None, Some(value.to_vec()), None);
    assert_eq!(host.lock().emitted, [emitted(b"first"), emitted(b"")]);
    let usage = instance.usage();
    assert_eq!(usage.calls, 2);
    assert_eq!(usage.memory_bytes, 64 << 10);
    assert!(usage.cpu > Duration::ZERO);
}

#[test]
fn a_guest_reads_the_batch_as_the_contract_lays_it_out() {
    // Emits the index entry instead of the data, and checks the numbers.
    let process = "
        (if (i32.ne (local.get $input) (i32.const 1)) (then unreachable))
        (if (i32.ne (local.get $partition) (i32.const 2)) (then unreachable))
        (if (i64.ne (local.get $base) (i64.const 3)) (then unreachable))
        (if (i64.ne (local.get $stream) (i64.const -1)) (then unreachable))
        (if (i32.ne (local.get $index_len) (i32.const 40)) (then unreachable))
        (call $log (i32.const 2) (local.get $index) (local.get $index_len))
        (call $log (i32.const 2) (local.get $data) (local.get $data_len))
        (i32.const 0)";
    let (mut instance, host) = start(&Guest { process, ..Guest::default() }).unwrap();
    let index = [b'i'; 40];
    let batch = InputBatch { input: 1, partition: 2, base_offset: 3, stream_time: -1, index: &index, data: b"data" };
    instance.process(batch).unwrap();
    let info = |text: &str| (LogLevel::Info, text.to_owned());
    assert_eq!(host.lock().lines, [info(&"i".repeat(40)), info("data")]);
}

#[test]
fn init_is_told_the_deployment() {
    let init = "
        (call $log (i32.const 2) (local.get $processor) (local.get $processor_len))
        (call $log (i32.const 2) (i32.load (local.get $inputs)) (i32.load offset=4 (local.get $inputs)))
        (call $log (i32.const 2) (i32.load offset=8 (local.get $outputs)) (i32.load offset=12 (local.get $outputs)))
        (call $log (i32.const 2) (i32.load (local.get $stores)) (i32.load offset=4 (local.get $stores)))
        (call $log (i32.const 2) (i32.load (local.get $settings)) (i32.load offset=4 (local.get $settings)))
        (call $log (i32.const 2) (i32.load offset=8 (local.get $settings)) (i32.load offset=12 (local.get $settings)))
        (if (i32.ne (local.get $task) (i32.const 3)) (then unreachable))
        (if (i32.ne (local.get $level) (i32.const 1)) (then unreachable))
        (i32.const 0)";
    let (_, host) = start(&Guest { init, ..Guest::default() }).unwrap();
    let lines = host.lock().lines.iter().map(|line| line.1.clone()).collect::<Vec<_>>();
    assert_eq!(lines, ["word-count", "lines", "rest", "counts", "case", "lower"]);
}

#[test]
fn init_may_refuse_the_deployment() {
    let init = r#"(i32.store8 (i32.const 64) (i32.const 1))
        (i32.store (i32.const 68) (i32.const 16)) (i32.store (i32.const 72) (i32.const 7)) (i32.const 64)"#;
    let definitions = r#"(data (i32.const 16) "no case")"#;
    let error = start(&Guest { init, definitions, ..Guest::default() }).err().unwrap();
    assert_eq!(guest_failure(error), GuestFailure::Init("no case".to_owned()));
    let error = start(&Guest { init: "unreachable", ..Guest::default() }).err().unwrap();
    assert!(trap(guest_failure(error)).cause.contains("unreachable"));
}

#[test]
fn init_may_not_touch_anything() {
    // Six calls, each with its answer at 64; the largest code so far plus 1 goes where the next step would read it.
    let check = "(if (i32.ne (i32.load16_u (i32.const 64)) (i32.const OUTSIDE)) (then unreachable))";
    let zeros = "(i32.const 0) (i32.const 0)";
    let calls = [
        (format!("(call $emit (i32.const 0) {zeros} {zeros} (i32.const 64))"), 4),
        (format!("(call $get_many (i32.const 0) {zeros} (i32.const 64))"), 4),
        (format!("(call $put_many (i32.const 0) {zeros} (i32.const 64))"), 4),
        (format!("(call $scan (i32.const 0) {zeros} {zeros} {zeros} (i32.const 64))"), 4),
        (format!("(call $set_timers {zeros} (i32.const 64))"), 3),
        (format!("(call $cancel_timers {zeros} (i32.const 64))"), 3),
    ];
    let mut init = String::new();
    for (call, outside) in calls {
        // The answers of state functions have a payload at 68, where the code is.
        let at = if call.contains("get_many") || call.contains("scan") { 68 } else { 65 };
        init.push_str("(i64.store (i32.const 64) (i64.const -1))");
        init.push_str(&call);
        let check = check
            .replace("OUTSIDE", &outside.to_string())
            .replace("load16_u (i32.const 64)", &format!("load8_u (i32.const {at})"));
        init.push_str(&check);
    }
    init.push_str(OK);
    start(&Guest { init: &init, ..Guest::default() }).unwrap();
}

// covers W2: CPU budget
#[test]
fn spin_is_stopped_by_its_cpu_budget_and_nobody_else_minds() {
    let (mut other, _) = start(&Guest::default()).unwrap();
    let budget = small_limits().cpu_per_call_min;
    let GuestFailure::CpuLimit { budget: said, frames } = failure("(loop $again (br $again)) (i32.const 0)", b"")
    else {
        panic!("not stopped");
    };
    assert_eq!(said, budget);
    assert_eq!(frames, ["process"]);
    other.process(batch(b"")).unwrap();
    let spin = Guest { init: "(loop $again (br $again)) (i32.const 0)", ..Guest::default() };
    let limits = InstanceLimits { cpu_init_max: Duration::from_millis(30), ..small_limits() };
    let error = start_with(&spin, limits, &Arc::new(Mutex::new(TestHost::default()))).err().unwrap();
    assert!(matches!(guest_failure(error), GuestFailure::CpuLimit { budget, .. } if budget == limits.cpu_init_max));
}

#[test]
fn budget_is_of_each_call_not_of_all() {
    // Spins through about 10^6 rounds a call: much less than the budget each time, more than it together.
    let process = "(local $i i32) (loop $again
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 10000000)))) (i32.const 0)";
    let (mut instance, _) = start(&Guest { process, ..Guest::default() }).unwrap();
    while instance.usage().cpu < small_limits().cpu_per_call_min * 2 {
        instance.process(batch(b"")).unwrap();
    }
}

// covers W1: memory
#[test]
fn hog_meets_its_memory_limit() {
    let hog = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    let GuestFailure::MemoryLimit { limit_bytes, wanted_bytes, panic } = failure(hog, b"") else {
        panic!("not limited");
    };
    assert_eq!((limit_bytes, wanted_bytes, panic), (4 << 20, (4 << 20) + (64 << 10), None));
    let message = failure(hog, b"").to_string();
    assert!(message.contains("memory limit 4 MiB reached"), "{message}");
    let error = start(&Guest { pages: 65, ..Guest::default() }).err().unwrap();
    assert!(matches!(guest_failure(error), GuestFailure::MemoryLimit { limit_bytes, .. } if limit_bytes == 4 << 20));
}

#[test]
fn a_guest_may_survive_a_refused_allocation() {
    // Grows beyond the limit only when there are data; then survives. Traps when they begin with "t".
    let process = "
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 103)) (then (drop (memory.grow (i32.const 9999)))))
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 116)) (then unreachable))
        (i32.const 0)";
    let (mut instance, _) = start(&Guest { process, ..Guest::default() }).unwrap();
    instance.process(batch(b"g")).unwrap();
    let report = trap(guest_failure(instance.process(batch(b"t")).unwrap_err()));
    assert!(report.cause.contains("unreachable"), "an earlier call's refusal explains nothing: {}", report.cause);
}

#[test]
fn a_trap_carries_the_panic_message_of_its_own_call() {
    let definitions = r#"(data (i32.const 16) "index out of bounds")"#;
    let process = "
        (if (local.get $data_len) (then (call $log (i32.const 4) (i32.const 16) (i32.const 19)) unreachable))
        (i32.const 0)";
    let (mut instance, host) = start(&Guest { process, definitions, ..Guest::default() }).unwrap();
    let report = trap(guest_failure(instance.process(batch(b"x")).unwrap_err()));
    assert_eq!(report.panic.as_deref(), Some("index out of bounds"));
    assert_eq!(report.frames, ["process"]);
    assert_eq!(host.lock().line(LogLevel::Error), Some("index out of bounds"));

    let process = "
        (if (local.get $data_len) (then unreachable))
        (call $log (i32.const 4) (i32.const 16) (i32.const 19))
        (i32.const 0)";
    let (mut instance, _) = start(&Guest { process, definitions, ..Guest::default() }).unwrap();
    instance.process(batch(b"")).unwrap();
    assert_eq!(trap(guest_failure(instance.process(batch(b"x")).unwrap_err())).panic, None);

    let process = "(call $log (i32.const 4) (i32.const 16) (i32.const 19)) (i32.load (i32.const -4))";
    let (mut instance, _) = start(&Guest { process, definitions, ..Guest::default() }).unwrap();
    let report = trap(guest_failure(instance.process(batch(b"")).unwrap_err()));
    assert_eq!((report.panic, report.cause.as_str()), (None, "out of bounds memory access"), "logged, but no panic");
}

// covers §4.4 "recursion", "trap"
#[test]
fn every_kind_of_trap_is_named() {
    let cases = [
        ("(drop (i32.div_u (i32.const 1) (i32.const 0))) (i32.const 0)", "integer divide by zero"),
        ("(i32.load (i32.const -4))", "out of bounds memory access"),
        (
            "(call $process (i32.const 0) (i32.const 0) (i64.const 0) (i64.const 0)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
          (i32.const 1) (i32.add)",
            "call stack exhausted",
        ),
        // The answer lies outside of memory, or is not aligned; its tag means nothing.
        ("(i32.const -4)", "pointer"),
        ("(i32.const 2)", "pointer"),
        ("(i32.store8 (i32.const 64) (i32.const 9)) (i32.const 64)", "discriminant"),
        // An error whose message lies outside of memory, and one that is not text.
        (
            "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store (i32.const 76) (i32.const 1))
          (i32.store (i32.const 80) (i32.const -1)) (i32.const 64)",
            "out of bounds",
        ),
        (
            "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store (i32.const 76) (i32.const 64))
          (i32.store8 (i32.const 65) (i32.const 255)) (i32.store (i32.const 80) (i32.const 2))
          (i32.const 64)",
            "utf-8",
        ),
        // Arguments of imports outside of memory: pointer plus length overflows, or is just too long.
        ("(call $log (i32.const 2) (i32.const -1) (i32.const -1)) (i32.const 0)", "out of bounds"),
        (
            "(call $emit (i32.const 0) (i32.const 0) (i32.const 65537) (i32.const 0) (i32.const 0) (i32.const 64))
          (i32.const 0)",
            "out of bounds",
        ),
        ("(call $get_many (i32.const 0) (i32.const -1) (i32.const 2) (i32.const 64)) (i32.const 0)", "out of bounds"),
        ("(call $log (i32.const 7) (i32.const 0) (i32.const 0)) (i32.const 0)", "discriminant"),
    ];
    for (process, cause) in cases {
        let report = trap(failure(process, b""));
        assert!(report.cause.contains(cause), "{process}: {}", report.cause);
    }
}

// covers W3: after a trap the instance is never entered again, and its memory is given back
#[test]
fn after_a_failure_the_instance_is_gone() {
    let process = "(if (local.get $data_len) (then unreachable)) (i32.const 0)";
    let (mut instance, _) = start(&Guest { process, ..Guest::default() }).unwrap();
    instance.process(batch(b"")).unwrap();
    assert!(instance.usage().memory_bytes > 0);
    instance.process(batch(b"x")).unwrap_err();
    assert_eq!(instance.usage().memory_bytes, 0);
    assert_eq!(guest_failure(instance.process(batch(b"")).unwrap_err()), GuestFailure::Dead);
    assert_eq!(guest_failure(instance.on_timers(0, &[]).unwrap_err()), GuestFailure::Dead);
    assert_eq!(instance.usage().calls, 2);
}

#[test]
fn a_guest_names_the_record_and_its_call_is_discarded() {
    let definitions = r#"(data (i32.const 16) "not JSON")"#;
    let process = "(i32.store8 (i32.const 64) (i32.const 1))
        (i32.store8 (i32.const 68) (i32.const 1)) (i32.store (i32.const 72) (i32.const 7))
        (i32.store (i32.const 76) (i32.const 16)) (i32.store (i32.const 80) (i32.const 8)) (i32.const 64)";
    let (mut instance, _) = start(&Guest { process, definitions, ..Guest::default() }).unwrap();
    let failed = guest_failure(instance.process(batch(b"")).unwrap_err());
    assert_eq!(failed, GuestFailure::Failed { index: Some(7), message: "not JSON".to_owned() });
    assert!(instance.is_dead(), "the contract: a call that fails is discarded, and the instance with it");
}

// covers W6, §4.4 "garbage lengths"
#[test]
fn emitted_garbage_is_refused_and_logged() {
    let process = format!(
        "(call $emit (i32.const 0) (local.get $data) (local.get $data_len) (i32.const 0) (i32.const 0) (i32.const 64))
         {FAIL_WITH_ANSWER}"
    );
    let (mut instance, host) = start(&Guest { process: &process, ..Guest::default() }).unwrap();
    assert_eq!(answer(instance.process(batch(&[0xff; 25]))), code(2));
    let line = "emit to output 0: an index of 25 bytes is not a multiple of 24";
    assert_eq!(host.lock().line(LogLevel::Warn), Some(line));
    assert!(host.lock().emitted.is_empty());
}

#[test]
fn refusals_of_emit_reach_the_guest() {
    let process = format!("{EMIT_DATA} {FAIL_WITH_ANSWER}");
    let guest = Guest { process: &process, ..Guest::default() };
    let cases = [
        (EmitError::UnknownOutput, 0),
        (EmitError::UnknownPartition, 1),
        (EmitError::Malformed("a key is needed".to_owned()), 2),
    ];
    for (error, number) in cases {
        let (mut instance, host) = start(&guest).unwrap();
        host.lock().emit_error = Some(error);
        assert_eq!(answer(instance.process(batch(b"x"))), code(number));
    }
    let (mut instance, _) = start(&guest).unwrap();
    assert_eq!(answer(instance.process(batch(b"x"))), 0, "taken");
}

#[test]
fn too_much_output_discards_the_call_whatever_the_guest_says() {
    let process = format!("{EMIT_DATA} {OK}");
    let guest = Guest { process: &process, ..Guest::default() };
    let (mut instance, host) = start(&guest).unwrap();
    host.lock().emit_error = Some(EmitError::TooLarge);
    assert_eq!(guest_failure(instance.process(batch(b"x")).unwrap_err()), GuestFailure::OutputTooLarge);
    assert!(instance.is_dead());

    let panics = format!("{EMIT_DATA} unreachable");
    let (mut instance, host) = start(&Guest { process: &panics, ..Guest::default() }).unwrap();
    host.lock().emit_error = Some(EmitError::TooLarge);
    assert_eq!(guest_failure(instance.process(batch(b"x")).unwrap_err()), GuestFailure::OutputTooLarge);

    let host = Arc::new(Mutex::new(TestHost::default()));
    let limits = InstanceLimits { hostcall_bytes_max: 30, ..small_limits() };
    let mut instance = start_with(&guest, limits, &host).unwrap();
    instance.process(batch(b"123456")).unwrap();
    assert_eq!(guest_failure(instance.process(batch(b"1234567")).unwrap_err()), GuestFailure::OutputTooLarge);
    assert_eq!(host.lock().emitted.len(), 1, "the second never reached the host");
}

#[test]
fn our_own_failures_are_not_the_guests() {
    let process = format!("{EMIT_DATA} {OK}");
    let guest = Guest { process: &process, ..Guest::default() };
    let (mut instance, host) = start(&guest).unwrap();
    host.lock().emit_error = Some(EmitError::Host(HostFault("disk is gone".to_owned())));
    let error = instance.process(batch(b"x")).unwrap_err();
    assert!(matches!(error, CallError::Host(HostError::Fault(message)) if message == "disk is gone"));

    let (mut instance, host) = start(&guest).unwrap();
    let held = host.lock();
    let error = instance.process(batch(b"x")).unwrap_err();
    assert!(matches!(error, CallError::Host(HostError::HostLocked)), "no deadlock: {error}");
    drop(held);
}

#[test]
fn state_is_reached_through_packed_lists() {
    // Data that begin with "p", "g", "s" behind it: put, get, scan; what comes back is emitted.
    let process = "
        (local $rest i32) (local $rest_len i32)
        (local.set $rest (i32.add (local.get $data) (i32.const 1)))
        (local.set $rest_len (i32.sub (local.get $data_len) (i32.const 1)))
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 112)) (then
          (call $put_many (i32.const 0) (local.get $rest) (local.get $rest_len) (i32.const 64))))
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 103)) (then
          (call $get_many (i32.const 0) (local.get $rest) (local.get $rest_len) (i32.const 64))))
        (if (i32.eq (i32.load8_u (local.get $data)) (i32.const 115)) (then
          (call $scan (i32.const 0) (local.get $rest) (local.get $rest_len) (i32.const 0) (i32.const 0)
            (i32.const 2) (i32.const 0) (i32.const 64))))
        (if (i32.load8_u (i32.const 64)) (then unreachable))
        (local.set $data (i32.load (i32.const 68)))
        (local.set $data_len (i32.load (i32.const 72)))";
    let process = format!("{process} {EMIT_DATA} (i32.load8_u (i32.const 76)) (i32.const 0) (i32.mul)");
    let (mut instance, host) = start(&Guest { process: &process, ..Guest::default() }).unwrap();
    let field = |bytes: &[u8]| [&i32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat();
    let entries = [field(b"a"), field(b"1"), field(b"b"), field(b"22"), field(b"c"), field(b"")].concat();
    instance.process(batch(&[b"p", entries.as_slice()].concat())).unwrap();
    assert_eq!(host.lock().entries.len(), 3);
    let keys = [field(b"b"), field(b"zz"), field(b"c")].concat();
    instance.process(batch(&[b"g", keys.as_slice()].concat())).unwrap();
    let values = [field(b"22"), vec![0xff; 4], field(b"")].concat();
    assert_eq!(host.lock().emitted.last().unwrap().3.as_ref(), Some(&values));
    instance.process(batch(b"sa")).unwrap();
    let page = [field(b"a"), field(b"1"), field(b"b"), field(b"22")].concat();
    assert_eq!(host.lock().emitted.last().unwrap().3.as_ref(), Some(&page));
}

#[test]
fn refusals_of_stores_and_timers_reach_the_guest() {
    let put = format!(
        "(call $put_many (i32.const 0) (local.get $data) (local.get $data_len) (i32.const 64)) {FAIL_WITH_ANSWER}"
    );
    let get = format!(
        "(call $get_many (i32.const 0) (local.get $data) (local.get $data_len) (i32.const 64))
         (i32.store8 (i32.const 65) (i32.load8_u (i32.const 68))) {FAIL_WITH_ANSWER}"
    );
    let cases = [
        (StateError::UnknownStore, 0),
        (StateError::Malformed("no".to_owned()), 1),
        (StateError::TooLarge, 2),
        (StateError::QuotaExceeded, 3),
    ];
    for process in [&put, &get] {
        let guest = Guest { process, ..Guest::default() };
        for (error, number) in cases.clone() {
            let (mut instance, host) = start(&guest).unwrap();
            host.lock().state_error = Some(error);
            assert_eq!(answer(instance.process(batch(b""))), code(number));
        }
        let (mut instance, host) = start(&guest).unwrap();
        assert_eq!(answer(instance.process(batch(b"xy"))), code(1), "malformed");
        assert!(host.lock().line(LogLevel::Warn).unwrap().contains("store 0: the list ends"));
        let limits = InstanceLimits { hostcall_bytes_max: 7, ..small_limits() };
        let mut instance = start_with(&guest, limits, &Arc::new(Mutex::new(TestHost::default()))).unwrap();
        assert_eq!(answer(instance.process(batch(&[0; 8]))), code(2), "too large");
    }
    let set = format!("(call $set_timers (local.get $data) (local.get $data_len) (i32.const 64)) {FAIL_WITH_ANSWER}");
    let guest = Guest { process: &set, ..Guest::default() };
    for (error, number) in [(TimerError::TooLarge, 1), (TimerError::QuotaExceeded, 2)] {
        let (mut instance, host) = start(&guest).unwrap();
        host.lock().timer_error = Some(error);
        assert_eq!(answer(instance.process(batch(b""))), code(number));
    }
    let (mut instance, _) = start(&guest).unwrap();
    assert_eq!(answer(instance.process(batch(b"xy"))), code(0), "malformed");
}

#[test]
fn timers_are_set_cancelled_and_told() {
    let process = "(call $set_timers (local.get $data) (local.get $data_len) (i32.const 64)) (i32.const 0)";
    // Logs what it is told without the length before it, then cancels by id: length and bytes behind the time.
    let on_timers = "
        (call $log (i32.const 2) (i32.add (local.get $timers) (i32.const 12))
          (i32.sub (local.get $timers_len) (i32.const 12)))
        (call $cancel_timers (i32.add (local.get $timers) (i32.const 8))
          (i32.sub (local.get $timers_len) (i32.const 8)) (i32.const 64))
        (if (i64.ne (local.get $stream) (i64.const 90)) (then unreachable))
        (i32.load8_u (i32.const 64))";
    let (mut instance, host) = start(&Guest { process, on_timers, ..Guest::default() }).unwrap();
    let mut timers = Vec::new();
    encode_timers([(80, b"tick".as_slice()), (99, b"tock")], &mut timers).unwrap();
    instance.process(batch(&timers)).unwrap();
    assert_eq!(host.lock().timers.len(), 2);
    let mut due = Vec::new();
    encode_timers([(80, b"tick".as_slice())], &mut due).unwrap();
    instance.on_timers(90, &due).unwrap();
    assert_eq!(host.lock().line(LogLevel::Info), Some("tick"));
    assert_eq!(host.lock().timers.keys().collect::<Vec<_>>(), [b"tock"]);
    assert!(matches!(instance.on_timers(90, b"junk"), Err(CallError::Host(HostError::Fault(_)))));
    assert!(!instance.is_dead(), "junk of ours never reached the guest");
}

#[test]
fn log_lines_are_filtered_cut_and_must_be_text() {
    let process = "(call $log (i32.const 0) (local.get $data) (local.get $data_len))
        (call $log (i32.const 3) (local.get $data) (local.get $data_len)) (i32.const 0)";
    let guest = Guest { process, ..Guest::default() };
    let host = Arc::new(Mutex::new(TestHost::default()));
    let limits = InstanceLimits { log_message_bytes_max: 6, ..small_limits() };
    let mut instance = start_with(&guest, limits, &host).unwrap();
    instance.process(batch("12345é".as_bytes())).unwrap();
    assert_eq!(host.lock().lines, [(LogLevel::Warn, "12345".to_owned())], "trace is below debug");
    let report = trap(guest_failure(instance.process(batch(&[0xff])).unwrap_err()));
    assert!(report.cause.contains("utf-8"), "{}", report.cause);
}

#[test]
fn a_running_guest_is_stopped_from_outside() {
    let process = "(call $log (i32.const 2) (i32.const 0) (i32.const 0)) (loop $again (br $again)) (i32.const 0)";
    let host = Arc::new(Mutex::new(TestHost::default()));
    let limits = InstanceLimits { cpu_per_call_min: Duration::from_secs(3600), ..small_limits() };
    let mut instance = start_with(&Guest { process, ..Guest::default() }, limits, &host).unwrap();
    let stopper = instance.stopper();
    let failure = std::thread::scope(|scope| {
        let running = scope.spawn(|| instance.process(batch(b"")));
        while host.lock().lines.is_empty() {
            std::thread::yield_now();
        }
        stopper.stop();
        running.join().unwrap().unwrap_err()
    });
    assert_eq!(guest_failure(failure), GuestFailure::Stopped);

    let mut instance = start(&Guest::default()).unwrap().0;
    instance.stopper().stop();
    assert_eq!(guest_failure(instance.process(batch(b"")).unwrap_err()), GuestFailure::Stopped);
}

// covers W9: zero on reuse
#[test]
fn a_reused_slot_of_the_pool_is_zero() {
    let one = Runtime::new(RuntimeConfig { pooled_memories_max: 1, ..RuntimeConfig::default() }).unwrap();
    assert!(one.is_pooling());
    // Remembers what lay at 60000 and at 3 MiB, then leaves a mark there.
    let process = format!(
        "(drop (memory.grow (i32.const 48)))
         (i32.store16 (i32.const 64) (i32.add (i32.load8_u (i32.const 60000)) (i32.load8_u (i32.const 3145728))))
         (i32.store8 (i32.const 60000) (i32.const 85)) (i32.store8 (i32.const 3145728) (i32.const 85))
         (if (result i32) (i32.load16_u (i32.const 64)) (then {FAIL_WITH_ANSWER}) (else (i32.const 0)))"
    );
    let module = compile(&one, &Guest { process: &process, ..Guest::default() }.component());
    for round in 0..3 {
        let host = Arc::new(Mutex::new(TestHost::default()));
        let mut instance = ProcessorInstance::new(&module, &deployment(), small_limits(), host).unwrap();
        instance.process(batch(b"")).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(answer(instance.process(batch(b""))), 170, "the mark is seen by its own instance");
    }
}

// covers W9 and DESIGN §7: on demand beyond the pool
#[test]
fn when_the_pool_is_full_instances_live_outside_it() {
    let one = Runtime::new(RuntimeConfig { pooled_memories_max: 1, ..RuntimeConfig::default() }).unwrap();
    let module = compile(&one, &Guest::default().component());
    let new = || {
        let host = Arc::new(Mutex::new(TestHost::default()));
        ProcessorInstance::new(&module, &deployment(), small_limits(), host).unwrap()
    };
    let mut instances = [new(), new(), new()];
    for instance in &mut instances {
        instance.process(batch(b"")).unwrap();
    }
    let spin =
        compile(&one, &Guest { process: "(loop $again (br $again)) (i32.const 0)", ..Guest::default() }.component());
    let host = Arc::new(Mutex::new(TestHost::default()));
    let mut outside = ProcessorInstance::new(&spin, &deployment(), small_limits(), host).unwrap();
    let failure = guest_failure(outside.process(batch(b"")).unwrap_err());
    assert!(matches!(failure, GuestFailure::CpuLimit { .. }), "limits hold outside too: {failure}");
}

#[test]
fn a_table_too_large_for_the_pool_lives_outside_it() {
    let definitions = format!("(table $big {} funcref)", limits::POOLED_TABLE_ELEMENTS_MAX + 1);
    let guest = Guest { definitions: &definitions, ..Guest::default() };
    start(&guest).unwrap().0.process(batch(b"")).unwrap();
    let definitions = format!("(table $huge {} funcref)", limits::TABLE_ELEMENTS_MAX + 1);
    let guest = Guest { definitions: &definitions, ..Guest::default() };
    assert!(start(&guest).is_err());
    assert!(runtime().is_pooling());
}

// covers W2: fuel, where determinism counts
#[test]
fn fuel_stops_a_guest_at_the_same_instruction_each_time() {
    let paying = RuntimeConfig { pooled_memories_max: 0, fuel: true, ..RuntimeConfig::default() };
    let paying = Runtime::new(paying).unwrap();
    let logs = "(loop $again (call $log (i32.const 2) (i32.const 0) (i32.const 0)) (br $again)) (i32.const 0)";
    let module = paying.compile(&Guest { process: logs, ..Guest::default() }.component()).unwrap();
    let limits = InstanceLimits { fuel_per_record: Some(10_000), ..InstanceLimits::default() };
    let lines_before_the_end = || {
        let host = Arc::new(Mutex::new(TestHost::default()));
        let mut instance = ProcessorInstance::new(&module, &deployment(), limits, host.clone()).unwrap();
        let report = trap(guest_failure(instance.process(batch(b"")).unwrap_err()));
        assert!(report.cause.contains("fuel"), "{}", report.cause);
        assert!(instance.is_dead());
        let host = host.lock();
        host.lines.len()
    };
    let first = lines_before_the_end();
    assert!(first > 10, "{first}");
    assert_eq!(lines_before_the_end(), first);
    let unpaid = start_with(&Guest::default(), limits, &Arc::new(Mutex::new(TestHost::default())));
    assert!(matches!(unpaid.err().unwrap(), CallError::Host(_)), "a runtime without fuel can't take it");
    assert!(paying.compile(b"no component").is_err());
}
