//! The `headwater` binary; everything is in the library beside it, so that tests can build the same binary otherwise.

fn main() -> std::process::ExitCode {
    headwater_cli::main()
}
