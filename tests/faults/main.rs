//! Each system call that a job of the daemon makes fails once, in each plausible way, or hangs: strace injects the fault
//! into the job's thread of a real daemon. The access must end in time with a fitting errno, nothing may leak, and the
//! next access must succeed. Needs root, /dev/fuse, loop devices, and strace that may trace.
// In a test program a panic is the report.
#![allow(clippy::unwrap_used)]

#[path = "../disk_fixture/mod.rs"]
mod disk_fixture;
mod encrypted;
mod strace;
mod subject;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use disk_fixture::{Image, LoopDisk, run};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use strace::{Fault, Tracer};
use subject::{Settings, Subject};

/// What each call is made to fail with. A job's call that is neither here nor in [`LEFT_OUT`] fails the test.
const ERRORS: &[(&str, &[&str])] = &[
    ("clone3", &["EAGAIN", "ENOMEM"]),
    ("eventfd2", &["EMFILE", "ENOMEM"]),
    ("faccessat2", &["EACCES"]),
    ("fadvise64", &["EINVAL"]),
    // What is not watched is mounted all the same.
    ("fanotify_mark", &["ENOSPC", "EPERM"]),
    ("fsconfig", &["EINVAL", "EIO", "ENOMEM", "EBUSY", "ENXIO"]),
    ("fsmount", &["ENOMEM", "EBUSY"]),
    ("fsopen", &["ENODEV", "EMFILE", "EPERM"]),
    ("fstat", &["EIO"]),
    ("ftruncate", &["EINVAL"]),
    ("getdents64", &["EIO"]),
    ("ioctl", &["EIO", "EBUSY", "ENXIO", "ENOMEM"]),
    ("lseek", &["EINVAL"]),
    ("memfd_create", &["EMFILE", "ENOMEM"]),
    ("move_mount", &["ENOENT", "ENOMEM", "EBUSY"]),
    ("newfstatat", &["EIO"]),
    ("openat", &["EMFILE", "EACCES", "EIO", "ENXIO"]),
    ("pidfd_open", &["EMFILE"]),
    ("pipe2", &["EMFILE"]),
    ("poll", &["ENOMEM"]),
    ("ppoll", &["ENOMEM", "EINTR"]),
    ("pread64", &["EIO"]),
    ("pwrite64", &["ENOMEM"]),
    ("read", &["EIO"]),
    ("readlink", &["EIO"]),
    ("statx", &["EIO", "ENOMEM"]),
    ("umount2", &["EBUSY", "EIO", "EPERM"]),
    ("wait4", &["ECHILD"]),
];

/// They cannot fail, or in no way that a program could deal with (memory, scheduling, closing), or they are not the
/// disk's: answers to callers, the log, the daemon's clock.
const LEFT_OUT: &[&str] = &[
    "brk",
    "clock_gettime",
    "close",
    "exit",
    "fcntl",
    "futex",
    "getpid",
    "gettid",
    "getrandom",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "prlimit64",
    "recvfrom",
    "restart_syscall",
    "sendto",
    "setsockopt",
    "shutdown",
    "set_robust_list",
    "sigaltstack",
    "rseq",
    "rt_sigprocmask",
    "sched_yield",
    "timerfd_settime",
    "write",
    "writev",
];

/// What an access may end with because of a fault: the errnos of mydisks(8) but for those that speak of keys.
const FITTING: &[Errno] =
    &[Errno::IO, Errno::NOMEDIUM, Errno::BUSY, Errno::ACCESS, Errno::UCLEAN, Errno::MEDIUMTYPE, Errno::AGAIN];

/// No access takes so long by itself, on the slowest machine.
const AMPLE: Duration = Duration::from_secs(50);

/// One test at a time: between the fork and the exec of another test's program, that has the files open that this one
/// has, and a disk is busy that should not be.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn whichever_system_call_of_an_access_fails_it_is_answered_and_nothing_leaks() {
    let _alone = alone();
    each_call_fails_once(&Subject::start(Image::of("ext4"), &Settings::patient()));
}

#[test]
fn whichever_system_call_of_an_access_fails_that_looks_for_a_uuid_it_is_answered_and_nothing_leaks() {
    let _alone = alone();
    let image = Image::of("ext4");
    let uuid = run("blkid", &["-p", "-o", "value", "-s", "UUID", image.path.to_str().unwrap()]);
    let settings = Settings { disk: format!(", uuid = {uuid:?}"), ..Settings::patient() };
    each_call_fails_once(&Subject::start(image, &settings));
}

#[test]
fn whichever_system_call_fails_a_disk_that_is_mounted_elsewhere_is_not_mounted_again() {
    let _alone = alone();
    let subject = Subject::start(Image::of("ext4"), &Settings::patient());
    let disk = LoopDisk::new(subject.image(), &[]);
    let elsewhere = subject.directory().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    mount(&disk.node, &elsewhere, "ext4", MountFlags::empty(), None).unwrap();
    assert_eq!(subject.access(), Err(Errno::BUSY));
    let mut met = 0;
    for (call, count) in calls(&subject, || assert_eq!(subject.access(), Err(Errno::BUSY))) {
        each_fault(&call, count, |fault| {
            // ENXIO of a loop device says that it has no file: that can only be true.
            if fault.error_is("ENXIO") {
                return;
            }
            let tracer = Tracer::attach(subject.spare_thread(), Some(&fault));
            let answered = subject.access();
            let fits = answered.is_err_and(|errno| FITTING.contains(&errno));
            assert!(fits, "{fault}: {answered:?}\n{}", subject.log());
            met += usize::from(tracer.detach().contains("(INJECTED)"));
            assert_eq!(subject.loops(), 1, "after {fault} it is attached once more\n{}", subject.log());
        });
    }
    println!("{met} faults met");
    assert!(met > 20, "only {met} faults were met");
    unmount(&elsewhere, UnmountFlags::empty()).unwrap();
    drop(disk);
    subject.works("it was unmounted elsewhere");
}

#[test]
fn whichever_system_call_of_an_access_hangs_the_caller_waits_no_longer_than_its_time_out() {
    let _alone = alone();
    let timeout = Duration::from_secs(1);
    let subject =
        Subject::start(Image::of("ext4"), &Settings { access_timeout: timeout, ..Settings::patient() });
    // Those that wait for a device, for a file system or for other processes.
    for (call, when) in
        [("openat", 1), ("ioctl", 1), ("ioctl", 2), ("fsconfig", 2), ("fsmount", 1), ("move_mount", 1)]
    {
        let hang = timeout + Duration::from_millis(1500);
        let tracer = Tracer::attach(subject.spare_thread(), Some(&Fault::hang(call, when, hang)));
        let answered = subject.access();
        // The first caller is let in before the mount is attached.
        assert!(
            answered == Err(Errno::TIMEDOUT) || call == "move_mount" && answered == Ok(()),
            "{call} hangs: {answered:?}\n{}",
            subject.log()
        );
        subject.until("the call goes on", || tracer.calls().contains("(DELAYED)"));
        subject.rests(&format!("{call} hung"));
        tracer.detach();
        subject.works(&format!("{call} hung"));
    }
}

#[test]
fn whichever_system_call_fails_after_a_disk_was_unmounted_by_hand_it_is_put_away() {
    let _alone = alone();
    let subject = Subject::start(Image::of("ext4"), &Settings::patient());
    // The first ones of the job that asks whether the loop device is free.
    for call in ["eventfd2", "openat", "statx", "ioctl"] {
        each_fault(call, 1, |fault| {
            subject.mounts();
            let tracer = Tracer::attach(subject.spare_thread(), Some(&fault));
            subject.until(&format!("{fault} is met"), || {
                subject.unmount();
                tracer.calls().contains("(INJECTED)")
            });
            subject.rests(&fault.to_string());
            tracer.detach();
            subject.works(&fault.to_string());
        });
    }
}

#[test]
fn whichever_system_call_of_an_umount_fails_the_disk_stays_mounted_or_is_locked() {
    let _alone = alone();
    let subject = Subject::start(Image::of("ext4"), &Settings::patient());
    subject.mounts();
    let calls = calls(&subject, || {
        assert!(subject.umount());
        subject.rests("nothing was injected");
    });
    assert!(calls.contains_key("umount2"), "{calls:?}");
    println!("system calls of a job: {calls:?}");
    let mut refused = 0;
    for (call, count) in calls {
        each_fault(&call, count, |fault| {
            subject.mounts();
            let tracer = Tracer::attach(subject.spare_thread(), Some(&fault));
            let is_done = subject.umount();
            let said = tracer.detach();
            println!("{fault}: {is_done} {}", said.contains("(INJECTED)"));
            if !is_done && subject.is_mounted() {
                refused += 1;
                assert!(said.contains("(INJECTED)"), "{fault}: {}", subject.log());
                assert_eq!(subject.access(), Ok(()), "{fault}: it is mounted still");
                assert!(subject.umount(), "after {fault}\n{}", subject.log());
            }
            subject.rests(&fault.to_string());
        });
    }
    assert!(refused >= 3, "{refused}: umount2 fails in three ways");
}

#[test]
fn a_disk_that_cannot_be_unmounted_after_disuse_stays_mounted_and_is_tried_again() {
    let _alone = alone();
    let settings = Settings { idle_timeout: "1s", ..Settings::patient() };
    let subject = Subject::start(Image::of("ext4"), &settings);
    for (error, when) in [("EIO", 1), ("EBUSY", 2)] {
        assert_eq!(subject.access(), Ok(()));
        let tracer = Tracer::attach(subject.spare_thread(), Some(&Fault::error("umount2", error, when)));
        subject.until("the fault", || tracer.calls().contains("(INJECTED)"));
        assert!(subject.is_mounted(), "{error}");
        subject.until("the next try", || !subject.is_mounted());
        tracer.detach();
        subject.rests(error);
    }
    assert!(subject.log().contains("cannot unmount"), "{}", subject.log());
}

fn each_call_fails_once(subject: &Subject) {
    let calls = calls(subject, || subject.mounts());
    subject.rests("nothing was injected");
    println!("system calls of a job: {calls:?}");
    let mut met = 0;
    for (call, count) in calls {
        let before = met;
        each_fault(&call, count, |fault| met += usize::from((0..3).any(|_| fails_once(subject, &fault))));
        assert!(met > before || LEFT_OUT.contains(&call.as_str()), "no fault of {call} was met");
    }
    println!("{met} faults met");
    assert!(met > 50, "only {met} faults were met");
}

/// Whether the fault was met at all.
fn fails_once(subject: &Subject, fault: &Fault) -> bool {
    let tracer = Tracer::attach(subject.spare_thread(), Some(fault));
    let began = Instant::now();
    let answered = subject.access();
    assert!(began.elapsed() < AMPLE, "{fault}: {answered:?} after {:?}", began.elapsed());
    if let Err(errno) = answered {
        assert!(FITTING.contains(&errno), "{fault}: {errno:?}\n{}", subject.log());
    }
    subject.rests(&fault.to_string());
    let said = tracer.detach();
    println!("{fault}: {answered:?} {}", said.contains("(INJECTED)"));
    subject.works(&fault.to_string());
    said.contains("(INJECTED)")
}

/// Each fault of a call that is made `count` times.
fn each_fault(call: &str, count: u32, mut inject: impl FnMut(Fault)) {
    if LEFT_OUT.contains(&call) {
        return;
    }
    let errors = ERRORS.iter().find(|(known, _)| *known == call).map(|(_, errors)| *errors);
    let errors = errors.unwrap_or_else(|| panic!("a job makes the call {call}: say how it can fail"));
    for when in 1..=count {
        errors.iter().for_each(|error| inject(Fault::error(call, error, when)));
    }
}

/// How often a job's thread makes each system call meanwhile.
fn calls(subject: &Subject, work: impl FnOnce()) -> BTreeMap<String, u32> {
    let tracer = Tracer::attach(subject.spare_thread(), None);
    work();
    let mut calls = BTreeMap::new();
    for name in tracer.detach().lines().filter_map(name_of_call) {
        *calls.entry(name).or_default() += 1;
    }
    calls
}

/// Of a line of strace's.
fn name_of_call(line: &str) -> Option<String> {
    let name: String = line.chars().take_while(|&letter| letter.is_alphanumeric() || letter == '_').collect();
    line[name.len()..].starts_with('(').then_some(name)
}
