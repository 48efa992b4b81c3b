//! The program `mydisks`; also what mount(8) and umount(8) run under the names of their helpers.

use std::process::ExitCode;

fn main() -> ExitCode {
    mydisks::cli::main(std::env::args_os().collect())
}
