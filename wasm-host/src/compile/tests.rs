//! What the parent makes of answers and of silence. The process itself: `tests/compile.rs`.

use super::*;
use std::os::unix::process::ExitStatusExt;

fn outcome(stdout: Vec<u8>, raw_status: i32, stderr: &str) -> Outcome {
    Outcome { status: ExitStatus::from_raw(raw_status), stdout, stderr: stderr.to_owned() }
}

fn answered(answer: Answer<'_>) -> Result<Vec<u8>, LoadError> {
    let (header, payload) = answer.encode();
    judged(&outcome([&header, payload].concat(), 0, ""))
}

fn judged(outcome: &Outcome) -> Result<Vec<u8>, LoadError> {
    judge(outcome, &CompileLimits::default()).map(|code| code.bytes().to_vec())
}

fn limit(result: Result<Vec<u8>, LoadError>) -> &'static str {
    match result {
        Err(LoadError::Limit { name, .. }) => name,
        other => panic!("{other:?}"),
    }
}

// covers W5
#[test]
fn answers_and_deaths_are_told_apart() {
    assert_eq!(answered(Answer::Compiled(b"code")).unwrap(), b"code");
    assert!(matches!(answered(Answer::Invalid("bad type")), Err(LoadError::Invalid(message)) if message == "bad type"));
    assert!(matches!(answered(Answer::Mismatch), Err(LoadError::Host(HostError::CompilerMismatch))));
    assert_eq!(limit(answered(Answer::OutOfMemory)), "memory_bytes_max");
    assert_eq!(limit(answered(Answer::TooLarge)), "artefact_bytes_max");

    const SIGABRT: i32 = 6;
    const SIGSEGV: i32 = 11;
    let xcpu = Signal::XCPU.as_raw();
    assert_eq!(limit(judged(&outcome(Vec::new(), xcpu, ""))), "cpu_max");
    let words = "memory allocation of 4096 bytes failed";
    assert_eq!(limit(judged(&outcome(Vec::new(), SIGABRT, words))), "memory_bytes_max");
    for raw_status in [SIGABRT, SIGSEGV, PANIC_EXIT_CODE << 8] {
        let judged = judged(&outcome(Vec::new(), raw_status, "thread 'main' panicked"));
        assert!(matches!(judged, Err(LoadError::Crashed { .. })), "{judged:?}");
    }
    let usage = judged(&outcome(b"Usage: ...".to_vec(), 2 << 8, "unknown command"));
    assert!(matches!(usage, Err(LoadError::Host(HostError::CompilerAnswer { .. }))), "{usage:?}");
}
