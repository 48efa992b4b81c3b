//! The demonstration: an encrypted USB disk from the plug to the pull, each step with a line of explanation, the
//! command that a person would type and what it really prints.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::daemon::{self, MOUNTPOINT};
use crate::disks::{Filesystem, Lock, Recipe};
use crate::lab::Lab;
use crate::program::Program;
use crate::wait::{self, PATIENCE};
use crate::{Outcome, mounts};

const SERIAL: &str = "WX91A848D77S";
const KEY: &[u8] = b"a key that lies in a file\n";
const CONFIG: &str = "\
[mounts.backup]
disks = [\"WX91A848D77S\"]
key-file = \"/etc/mydisks/backup.key\"
idle-timeout = \"3s\"
";

/// Runs it, inside the machine.
pub(crate) fn run() -> Outcome {
    let mut lab = Lab::open()?;
    let mut story = Story { output: File::create(lab.share.join("demo"))?, step: 0 };
    let told = tell(&mut lab, &mut story);
    if let Err(error) = &told {
        story.line(&format!("\nThis went wrong: {error}\nThe daemon said:\n{}", daemon::log_text()))?;
    }
    let cleared = lab.clear();
    told.and(cleared)
}

fn tell(lab: &mut Lab, story: &mut Story) -> Outcome {
    story.line("A machine without hardware of its own: everything below happens in a virtual one.")?;
    let recipe = Recipe::plain(Filesystem::Ext4)
        .file("letter.txt", "Dear reader, this was encrypted.\n")
        .locked(Lock::Luks2, KEY);
    let backing = lab.disk(&recipe)?;
    daemon::write_key("backup.key", KEY)?;
    daemon::write_config(CONFIG)?;
    daemon::install_fstab("nofail")?;
    let backup = Path::new(MOUNTPOINT).join("backup");

    story.explain(
        "The configuration: the directory \"backup\" is the disk with this serial, and it must be encrypted.",
    )?;
    story.show(Program::new("cat").arg(daemon::CONFIG))?;
    story.explain("One line in /etc/fstab, so that mount(8) starts the daemon.")?;
    story.show(Program::new("cat").arg("/etc/fstab"))?;
    story.show(Program::new("mount").arg(MOUNTPOINT))?;
    story.explain("The directory is there before the disk is; entering it says what is missing.")?;
    story.show_any(Program::new("ls").arg(&backup))?;

    story.explain("A USB disk with LUKS2 and ext4 on it is plugged in. That alone unlocks nothing.")?;
    let disk = lab.plug(&backing, SERIAL)?;
    story
        .show(Program::new("lsblk").args(["-o", "NAME,TRAN,SERIAL,FSTYPE,MOUNTPOINT"]).arg(&disk.devnode))?;
    wait_for(&backup, "ready")?;
    story.show(Program::new("ls").arg("-l").arg(MOUNTPOINT))?;

    story
        .explain("Listing the directory is the first access: the disk is unlocked and mounted on the way.")?;
    story.show(Program::new("ls").arg("-l").arg(&backup))?;
    story.explain("It is a normal kernel mount of a normal mapping.")?;
    story.show(Program::new("findmnt").args(["-o", "TARGET,SOURCE,FSTYPE,OPTIONS"]).arg(&backup))?;
    story.explain("Entering and reading.")?;
    story.show(Program::new("cat").arg(backup.join("letter.txt")))?;
    story.explain("What the daemon knows.")?;
    story.show(Program::new(daemon::BINARY).arg("status"))?;

    story.explain("Nobody uses it for a while (idle-timeout): it is unmounted and locked.")?;
    wait::until_true("the disk to be locked", PATIENCE, || {
        mounts::mappings().is_empty() && mounts::at(&backup).is_ok_and(|mounts| mounts.is_empty())
    })?;
    story
        .show(Program::new("lsblk").args(["-o", "NAME,TRAN,SERIAL,FSTYPE,MOUNTPOINT"]).arg(&disk.devnode))?;
    story.show(Program::new("dmsetup").arg("ls"))?;
    story.show(Program::new(daemon::BINARY).arg("status"))?;

    story.explain("It is pulled out; the directory stays and says so.")?;
    lab.pull(&disk)?;
    wait_for(&backup, "absent")?;
    story.show_any(Program::new("ls").arg(&backup))?;
    story.show(Program::new("umount").arg(MOUNTPOINT))?;
    story.line("\nThat was the main job.")
}

/// Waits until the status file says that the name has this state.
fn wait_for(name: &Path, state: &str) -> Outcome {
    let status: PathBuf = Path::new(MOUNTPOINT).join(".status/status.json");
    let name = name.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    wait::until_true(&format!("{name} to be {state}"), PATIENCE, || {
        let text = std::fs::read(&status).unwrap_or_default();
        let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let mounts = parsed["mounts"].as_array().cloned().unwrap_or_default();
        mounts.iter().any(|mount| mount["name"] == name && mount["state"] == state)
    })
}

/// The text that grows on the screen of the person outside.
struct Story {
    output: File,
    step: u32,
}

impl Story {
    fn line(&mut self, text: &str) -> Outcome {
        Ok(self.output.write_all(format!("{text}\n").as_bytes())?)
    }

    fn explain(&mut self, text: &str) -> Outcome {
        self.step += 1;
        let step = self.step;
        self.line(&format!("\n{step}. {text}"))
    }

    /// Shows a command that must succeed.
    fn show(&mut self, program: Program) -> Outcome {
        match self.show_any(program)? {
            Some(0) => Ok(()),
            status => Err(format!("that ended with status {status:?}").into()),
        }
    }

    /// Shows a command and what it printed; its exit status.
    fn show_any(&mut self, program: Program) -> Outcome<Option<i32>> {
        let line = program.line().replace(daemon::BINARY, "mydisks");
        let finished = program.finish()?;
        let mut text = format!("   # {line}\n");
        for line in finished.stdout.lines().chain(finished.stderr.lines()) {
            text += &format!("   {line}\n");
        }
        self.line(text.trim_end())?;
        Ok(finished.code)
    }
}
