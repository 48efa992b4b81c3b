//! Attaching in a process of its own, one for each guest that gets disks. Between the claim on a disk and libvirt's
//! answer there can be minutes, if the guest's QEMU stands still, and libvirt goes on with what it was asked for whoever
//! has asked. The daemon may end or be killed meanwhile; this process stays, and with it the claim: nothing on the host
//! gets the disk before the guest has it or does not get it. It ends when the daemon has ended and it has its answer.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::libvirt::Connection;
use super::worker::sentence;
use super::{Attach, Claim, attach};

/// The program's own command that attaches; not for people.
pub const COMMAND: &str = "attach-for-daemon";

/// The daemon's end of the process.
#[derive(Default)]
pub(super) struct Errands {
    process: Option<Process>,
}

struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// A line that it writes for each line that it reads, which is an [`Attach`].
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// For the log.
    warnings: Vec<String>,
    result: Result<(), String>,
}

impl Errands {
    /// Has it attached, and waits for the answer.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn attach(&mut self, order: &Attach) -> Result<(), String> {
        let living = self.process.take().and_then(Process::if_living);
        let mut process = match living.map_or_else(Process::start, Ok) {
            Ok(process) => process,
            Err(error) => return Err(format!("the process that attaches cannot be started: {error}")),
        };
        match process.ask(order) {
            Ok(answer) => {
                self.process = Some(process);
                answer.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                answer.result
            }
            Err(error) => Err(process.end(&error)),
        }
    }
}

impl Process {
    fn start() -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .env_clear()
            .current_dir("/")
            // What a terminal sends is for the daemon.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(orders), Some(answers)) => Ok(Self { child, orders, answers: BufReader::new(answers) }),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn if_living(mut self) -> Option<Self> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    fn ask(&mut self, order: &Attach) -> io::Result<Answer> {
        write_line(&mut self.orders, order)?;
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(serde_json::from_str(&line)?),
        }
    }

    /// What there is to say of one that has not answered.
    fn end(mut self, error: &io::Error) -> String {
        // Without an end of ours it ends by itself.
        drop((self.orders, self.answers));
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        format!("the process that attaches has ended without an answer: {error} ({status})")
    }
}

/// What [`COMMAND`] does: reads orders from standard input, carries out one after another and writes the answers to
/// standard output. If nobody is there to read an answer, nothing is begun.
///
/// # Errors
/// What is read is no order, or nobody listens.
pub fn attach_for_daemon(claim: &Claim) -> io::Result<()> {
    let mut output = io::stdout();
    let mut connection = None;
    for line in io::stdin().lines() {
        let order: Attach = serde_json::from_str(&line?)?;
        let mut warnings = Vec::new();
        let result = connected(&mut connection, &order).and_then(|connection| {
            let warn = |warning| warnings.push(warning);
            attach::attach(connection, &order, claim, || has_reader(&output), warn)
        });
        write_line(&mut output, &Answer { warnings, result })?;
    }
    Ok(())
}

/// Without an event loop a connection does not notice that its daemon has gone, so it is asked for something small.
fn connected<'a>(connection: &'a mut Option<Connection>, order: &Attach) -> Result<&'a Connection, String> {
    let living = connection.take().filter(|connection| connection.domain(&order.guest).is_ok());
    let living = match living {
        Some(living) => living,
        None => Connection::open_to_wait(&order.uri).map_err(|error| sentence(&error))?,
    };
    Ok(connection.insert(living))
}

fn write_line(output: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    output.write_all(&line)?;
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
