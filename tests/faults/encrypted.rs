//! The same for an encrypted disk: what asks the device mapper, and what runs cryptsetup. In the lab VM, with `--ignored`.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::io::Errno;

use crate::disk_fixture::{Image, MIB, make_filesystem, run};
use crate::strace::{Fault, Tracer};
use crate::subject::{Settings, Subject};
use crate::{ERRORS, FITTING, LEFT_OUT, alone, name_of_call};

/// The key file is one more thing that may be unreadable.
const FITTING_TOO: &[Errno] = &[Errno::NOKEY];

#[test]
#[ignore = "needs the lab VM"]
fn whichever_system_call_fails_that_unlocks_a_disk_it_is_answered_and_nothing_leaks() {
    let _alone = alone();
    let subject = encrypted();
    // What comes before and after is the same as for any disk.
    let faults = faults(&subject, "memfd_create(", "fsopen(", || subject.mounts());
    subject.rests("nothing was injected");
    let mut met = 0;
    for fault in &faults {
        let tracer = Tracer::attach(subject.spare_thread(), Some(fault));
        let answered = subject.access();
        if let Err(errno) = answered {
            let fits = FITTING.contains(&errno) || FITTING_TOO.contains(&errno);
            assert!(fits, "{fault}: {errno:?}\n{}", subject.log());
        }
        subject.rests(&fault.to_string());
        let is_met = tracer.detach().contains("(INJECTED)");
        println!("{fault}: {answered:?} {is_met}");
        met += usize::from(is_met);
        subject.works(&fault.to_string());
    }
    println!("{met} of {} faults met", faults.len());
    assert!(met > faults.len() / 2, "only {met} faults were met");
}

#[test]
#[ignore = "needs the lab VM"]
fn whichever_system_call_fails_that_locks_a_disk_it_is_locked_in_the_end() {
    let _alone = alone();
    let subject = encrypted();
    subject.mounts();
    // Unmounted by hand, so that the job's thread does nothing but to lock.
    let faults = faults(&subject, "", "exit(", || subject.rests("nothing was injected"));
    let mut met = 0;
    for fault in &faults {
        subject.mounts();
        let tracer = Tracer::attach(subject.spare_thread(), Some(fault));
        subject.rests(&fault.to_string());
        let is_met = tracer.detach().contains("(INJECTED)");
        println!("{fault}: {is_met}");
        met += usize::from(is_met);
    }
    println!("{met} of {} faults met", faults.len());
    assert!(met > faults.len() / 2, "only {met} faults were met");
    subject.works("all of them");
}

fn encrypted() -> Subject {
    const MAKING: &str = "mydisks-faults-making";
    let image = Image::empty(48 * MIB);
    let (key, path) = (image.key(b"key"), image.path.to_str().unwrap().to_owned());
    let key = key.to_str().unwrap();
    let format =
        "luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file";
    run("cryptsetup", &format.split(' ').chain([key, &path]).collect::<Vec<_>>());
    run("cryptsetup", &["open", "--key-file", key, &path, MAKING]);
    make_filesystem("ext4", &Path::new("/dev/mapper").join(MAKING));
    run("cryptsetup", &["close", MAKING]);
    let settings = Settings { more: format!("key-file = {key:?}\n"), ..Settings::patient() };
    Subject::start(image, &settings)
}

/// One fault for each system call that a job's thread makes meanwhile, between the first lines that begin so; two for
/// what is asked of the device mapper, and none for what is only repeated.
fn faults(subject: &Subject, from: &str, until: &str, work: impl FnOnce()) -> Vec<Fault> {
    let tracer = Tracer::attach(subject.spare_thread(), None);
    work();
    let trace = tracer.detach();
    assert!(trace.contains("DM_DEV_STATUS"), "{trace}");
    let (mut faults, mut counts, mut began) = (Vec::new(), BTreeMap::<String, u32>::new(), false);
    let mut last = String::new();
    for line in trace.lines().take_while(|line| !line.starts_with(until)) {
        let Some(call) = name_of_call(line) else { continue };
        let count = counts.entry(call.clone()).or_default();
        *count += 1;
        began = began || line.starts_with(from);
        let is_repeated = call == std::mem::replace(&mut last, call.clone());
        if !began || is_repeated || LEFT_OUT.contains(&call.as_str()) {
            continue;
        }
        let errors = ERRORS.iter().find(|(known, _)| *known == call).map(|(_, errors)| *errors);
        let errors = errors.unwrap_or_else(|| panic!("a job makes the call {call}: say how it can fail"));
        let errors = if line.contains("DM_") { &["EIO", "ENOMEM"] } else { &errors[..1] };
        faults.extend(errors.iter().map(|error| Fault::error(&call, error, *count)));
    }
    faults
}
