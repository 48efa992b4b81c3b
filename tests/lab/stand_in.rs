//! A stand-in for `cryptsetup`: a script of the scenario's in its place, which goes wrong as it is told. The real one is
//! beside it meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::Outcome;

const PLACE: &str = "/usr/sbin/cryptsetup";
const REAL: &str = "/usr/sbin/cryptsetup.real";
const NEXT: &str = "/usr/sbin/cryptsetup.next";

/// The real one is back when it is dropped.
pub(crate) struct StandIn(());

impl StandIn {
    /// One that does what the real one does.
    pub(crate) fn new() -> Outcome<StandIn> {
        fs::rename(PLACE, REAL)?;
        let stand_in = StandIn(());
        stand_in.is_honest()?;
        Ok(stand_in)
    }

    /// It does what the real one does.
    pub(crate) fn is_honest(&self) -> Outcome {
        self.does("")
    }

    /// `open` begins with these lines of shell, in which `real "$@"` is the real one.
    pub(crate) fn open_does(&self, lines: &str) -> Outcome {
        self.does(&on("open", lines))
    }

    /// `close` does.
    pub(crate) fn close_does(&self, lines: &str) -> Outcome {
        self.does(&on("close", lines))
    }

    /// Both do.
    pub(crate) fn open_and_close_do(&self, open: &str, close: &str) -> Outcome {
        self.does(&format!("{}{}", on("open", open), on("close", close)))
    }

    /// This is in its place, with this mode.
    pub(crate) fn is(&self, content: &[u8], mode: u32) -> Outcome {
        fs::write(NEXT, content)?;
        fs::set_permissions(NEXT, fs::Permissions::from_mode(mode))?;
        // One that runs keeps its own.
        Ok(fs::rename(NEXT, PLACE)?)
    }

    /// There is none.
    pub(crate) fn is_absent(&self) -> Outcome {
        Ok(fs::remove_file(PLACE)?)
    }

    fn does(&self, lines: &str) -> Outcome {
        let script = format!("#!/bin/sh\nreal() {{ {REAL} \"$@\"; }}\n{lines}exec {REAL} \"$@\"\n");
        self.is(script.as_bytes(), 0o755)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if Path::new(REAL).exists() {
            let _ = fs::rename(REAL, PLACE);
        }
    }
}

fn on(action: &str, lines: &str) -> String {
    format!("if [ \"$1\" = {action} ]; then\n{lines}\nfi\n")
}
