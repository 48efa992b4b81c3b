//! Attaching in a process of its own. Between the claim on a disk and libvirt's answer there can be minutes, if the
//! guest's QEMU stands still, and libvirt goes on with what it was asked for whoever has asked. The daemon may end or be
//! killed meanwhile; this process stays, and with it the claim: nothing on the host gets the disk before the guest has it
//! or does not get it.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::{Attach, Claim, attach};

/// The program's own command that attaches; not for people.
pub const COMMAND: &str = "attach-for-daemon";

/// What it writes before it ends.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// For the log.
    warnings: Vec<String>,
    result: Result<(), String>,
}

/// Has it attached by a process of its own, and waits for the answer.
///
/// # Errors
/// One sentence.
pub(super) fn attach_in_process(order: &Attach) -> Result<(), String> {
    let failed = |error: io::Error| format!("the process that attaches cannot be asked: {error}");
    let order = serde_json::to_vec(order).map_err(|error| failed(error.into()))?;
    let mut process = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .env_clear()
        .current_dir("/")
        // What a terminal sends is for the daemon.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    // If it does not read, it does not answer either.
    let asked = process.stdin.take().map_or(Ok(()), |mut order_to| order_to.write_all(&order));
    let output = process.wait_with_output().map_err(failed)?;
    match serde_json::from_slice::<Answer>(&output.stdout) {
        Ok(answer) => {
            answer.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            answer.result
        }
        Err(_) => {
            asked.map_err(failed)?;
            Err(format!("the process that attaches has ended without an answer: {}", output.status))
        }
    }
}

/// What [`COMMAND`] does: reads an order from standard input, carries it out and writes the answer to standard output. If
/// nobody is there to read that, nothing is begun.
///
/// # Errors
/// No order, or nobody who listens.
pub fn attach_for_daemon(claim: &Claim) -> io::Result<()> {
    let mut order = Vec::new();
    io::stdin().read_to_end(&mut order)?;
    let order: Attach = serde_json::from_slice(&order)?;
    let mut output = io::stdout();
    let mut warnings = Vec::new();
    let result = attach::attach(&order, claim, || has_reader(&output), |warning| warnings.push(warning));
    output.write_all(&serde_json::to_vec(&Answer { warnings, result })?)?;
    output.flush()
}

/// Whether anybody can read what is written into a pipe (`POLLERR`, poll(2)).
fn has_reader(pipe: impl AsFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::empty())];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) => !fds[0].revents().contains(PollFlags::ERR),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::PipeFlags;

    #[test]
    fn a_pipe_that_nobody_reads_is_told_from_one_that_somebody_does() {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        assert!(has_reader(&writer));
        drop(reader);
        assert!(!has_reader(&writer));
    }
}
