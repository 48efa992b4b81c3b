//! Whole test programs of this checkout that must hold on this machine's kernel as well, or need its device mapper.

use std::path::PathBuf;

use crate::Outcome;
use crate::lab::Lab;
use crate::program::Program;

/// The repetitions with a forgotten name are left to faster machines.
pub(super) fn every_first_access_comes_out_as_on_a_plain_mount(_: &mut Lab) -> Outcome {
    run("first_access", &["--alone"])
}

pub(super) fn first_accesses_at_once_come_out_as_on_a_plain_mount(_: &mut Lab) -> Outcome {
    run("first_access", &["--company"])
}

pub(super) fn disks_are_unlocked_and_locked_as_the_kernel_says(_: &mut Lab) -> Outcome {
    run("disk", &["--ignored", "--test-threads=1"])
}

pub(super) fn whichever_system_call_on_an_encrypted_disk_fails_it_is_answered_and_nothing_leaks(
    _: &mut Lab,
) -> Outcome {
    run("faults", &["--ignored", "--test-threads=1"])
}

fn run(suite: &str, arguments: &[&str]) -> Outcome {
    let program = newest(suite)?.to_string_lossy().into_owned();
    let finished = Program::new(&program).args(arguments).finish()?;
    if finished.code != Some(0) {
        return Err(format!("{suite}: {:?}\n{}\n{}", finished.code, finished.stdout, finished.stderr).into());
    }
    Ok(())
}

/// Cargo puts test programs beside each other, with a hash behind their names.
fn newest(suite: &str) -> Outcome<PathBuf> {
    let here = std::env::current_exe()?;
    let directory = here.parent().ok_or("a program is in a directory")?;
    let mut found = None;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hash = name.strip_prefix(suite).and_then(|rest| rest.strip_prefix('-'));
        if hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            let made = path.metadata()?.modified()?;
            found = found.max(Some((made, path)));
        }
    }
    let (_, path) = found.ok_or_else(|| format!("{suite} is not built: `cargo test --no-run`"))?;
    Ok(path)
}
