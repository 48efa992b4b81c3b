//! libvirt's events of devices that it has put into a guest's live XML, heard by virsh, each with the moment.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

use crate::Outcome;
use crate::program::Program;

/// A `virsh event` that listens.
pub(crate) struct Additions {
    virsh: Child,
    heard: Receiver<Instant>,
}

impl Additions {
    pub(crate) fn listen() -> Outcome<Self> {
        let words =
            ["-oL", "virsh", "-q", "-c", "qemu:///system", "event", "--event", "device-added", "--loop"];
        let mut command = Program::new("stdbuf").args(words).command()?;
        let mut virsh = command.stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(virsh.stdout.take().ok_or("virsh has no output")?);
        let (sender, heard) = unbounded();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.contains("'device-added'") && sender.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { virsh, heard })
    }

    /// Forgets what was heard until now.
    pub(crate) fn forget(&self) {
        self.heard.try_iter().for_each(drop);
    }

    /// Waits for the next one, for so long.
    pub(crate) fn next(&self, patience: Duration) -> Option<Instant> {
        self.heard.recv_timeout(patience).ok()
    }
}

impl Drop for Additions {
    fn drop(&mut self) {
        let _ = self.virsh.kill();
        let _ = self.virsh.wait();
    }
}
