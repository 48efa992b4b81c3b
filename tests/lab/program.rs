//! Runs external programs by absolute path with a clean environment and keeps what they said.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Outcome;

const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// A call of a program that is being put together.
pub(crate) struct Program {
    name: String,
    arguments: Vec<OsString>,
    input: Option<Vec<u8>>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit status; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    pub(crate) fn new(name: &str) -> Program {
        Program { name: name.to_owned(), arguments: Vec::new(), input: None }
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Program {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Program {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Program {
        self.input = Some(bytes.into());
        self
    }

    /// The command with its environment, for those who want to spawn it themselves.
    pub(crate) fn command(&self) -> Outcome<Command> {
        let mut command = Command::new(locate(&self.name)?);
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", PLACES.join(":"))
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs it to its end, whatever that is.
    pub(crate) fn finish(self) -> Outcome<Finished> {
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.name))?;
        if let Some(input) = &self.input {
            feed(&mut child, input)?;
        }
        let output = child.wait_with_output()?;
        Ok(Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it; its standard output if it succeeds.
    pub(crate) fn ok(self) -> Outcome<String> {
        let line = self.line();
        let finished = self.finish()?;
        match finished.code {
            Some(0) => Ok(finished.stdout),
            code => Err(format!("{line}: status {code:?}: {}{}", finished.stderr, finished.stdout).into()),
        }
    }

    /// As a person would type it.
    pub(crate) fn line(&self) -> String {
        let words = self.arguments.iter().map(|argument| argument.to_string_lossy());
        std::iter::once(self.name.as_str().into()).chain(words).collect::<Vec<_>>().join(" ")
    }
}

/// A program that closes its input before it has read all is a result, not an error of ours.
fn feed(child: &mut Child, input: &[u8]) -> Outcome {
    let mut pipe = child.stdin.take().ok_or("no pipe to the program")?;
    match pipe.write_all(input) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn locate(name: &str) -> Outcome<PathBuf> {
    if name.starts_with('/') {
        return Ok(name.into());
    }
    PLACES
        .iter()
        .map(|place| Path::new(place).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{name} is not installed: run \"make deps\"").into())
}
