//! The conformance suite of the trigger: each call as the very first access to an unmounted name, alone, in twos and
//! in sixteens, compared with the same call on a plain mount of the same disk. Needs root, /dev/fuse and loop devices.
//!
//! `first_access [--list] [--alone | --company] [WORD…]` runs the tests whose names contain each word.

mod calls;
mod child;
mod exceptions;
mod hostile;
mod image;
mod place;
mod raw;
mod several_at_once;
mod subject;
mod under_unmounts;

use calls::{Case, Entry};
use rustix::mount::MountPropagationFlags;
use std::process::ExitCode;
use subject::{Afterwards, Run, Subject, Workshop};

/// One line of the report.
struct Test {
    name: String,
    what: What,
}

enum What {
    /// These calls, made at once, come out as on a plain mount.
    Calls {
        cases: Vec<Case>,
        /// The kernel has forgotten the name: its lookup is part of the access.
        forgotten: bool,
    },
    /// What is seen over a longer time; what goes wrong, in words.
    Scene(fn(&Workshop, &mut Subject<'_>) -> Vec<String>),
}

/// Which of the tests; what is slow, such as an emulated machine, takes them in parts.
#[derive(Clone, Copy)]
enum Part {
    All,
    /// Each call once, by itself.
    Alone,
    /// Each call once, in a company of sixteen.
    Company,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_given = |option: &str| words.iter().any(|word| word == option);
    let list = is_given("--list");
    let part = match (is_given("--alone"), is_given("--company")) {
        (true, _) => Part::Alone,
        (_, true) => Part::Company,
        _ => Part::All,
    };
    let wanted =
        |test: &Test| words.iter().filter(|word| !word.starts_with('-')).all(|word| test.name.contains(word));
    let tests: Vec<Test> = tests(part).into_iter().filter(wanted).collect();
    if list {
        tests.iter().for_each(|test| println!("{}", test.name));
        return ExitCode::SUCCESS;
    }
    let workshop = Workshop::new();
    let mut subject = Subject::start(&workshop);
    let (mut passed, mut failed) = (0, 0);
    for test in &tests {
        let faults = match &test.what {
            What::Calls { cases, forgotten } => faults(cases, *forgotten, &workshop, &mut subject),
            What::Scene(faults) => faults(&workshop, &mut subject),
        };
        if faults.is_empty() {
            passed += 1;
            continue;
        }
        failed += 1;
        println!("FAILED {}", test.name);
        faults.iter().for_each(|fault| println!("    {fault}"));
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The tests of that part.
fn tests(part: Part) -> Vec<Test> {
    let cases = calls::all();
    let alone = |forgotten| {
        cases.iter().map(move |case| {
            let name = format!("{}{}", case.name, if forgotten { " (name forgotten)" } else { "" });
            Test { name, what: What::Calls { cases: vec![*case], forgotten } }
        })
    };
    let company = |size, rounds| {
        several_at_once::companies(&cases, size, rounds).into_iter().enumerate().map(
            move |(number, cases)| {
                let first = format!("{}, with {}", cases[0].name, cases[1].name);
                let name = format!("{size} at once, {number}: {first}");
                Test { name, what: What::Calls { cases, forgotten: false } }
            },
        )
    };
    let scenes = [
        Test { name: hostile::TEST.into(), what: What::Scene(|workshop, _| hostile::faults(workshop)) },
        Test { name: under_unmounts::NAME.into(), what: What::Scene(|_, subject| subject.under_unmounts()) },
    ];
    match part {
        Part::Alone => alone(false).collect(),
        Part::Company => company(16, 1).chain(scenes).collect(),
        Part::All => {
            alone(false).chain(alone(true)).chain(company(2, 2)).chain(company(16, 4)).chain(scenes).collect()
        }
    }
}

/// Makes the calls on both sides; what differs, in words.
fn faults(cases: &[Case], forgotten: bool, workshop: &Workshop, subject: &mut Subject<'_>) -> Vec<String> {
    let cases: Vec<&Case> = cases.iter().collect();
    let exception = if cases.len() == 1 { exceptions::of(cases[0].name) } else { None };
    let afterwards = exception.map_or_else(|| expected_entry(&cases), |exception| exception.afterwards);
    let plain = workshop.on_plain_mount(&cases);
    if forgotten {
        subject.forget_the_name();
    }
    let (first, state) = subject.on_first_access(&cases, afterwards);
    let mut faults = Vec::new();
    if let Err(complaint) = state {
        faults.push(format!("the daemon: {complaint}"));
    }
    match afterwards {
        Afterwards::Mounted if !first.mounted => faults.push("the disk was not mounted".into()),
        Afterwards::Untouched if first.mounted => faults.push("the disk was mounted or attached".into()),
        _ => {}
    }
    match exception {
        Some(exception) if !(exception.by_chance && plain.ended == first.ended) => {
            faults.extend(against_exception(exception, &plain, &first))
        }
        _ => faults.extend(against_plain(&cases, &plain, &first)),
    }
    faults
}

fn expected_entry(cases: &[&Case]) -> Afterwards {
    match cases[0].entry {
        Entry::Enters => Afterwards::Mounted,
        Entry::StaysOut => Afterwards::Untouched,
        Entry::Either => Afterwards::Either,
    }
}

fn against_plain(cases: &[&Case], plain: &Run, first: &Run) -> Vec<String> {
    let mut faults = Vec::new();
    for ((case, plain), first) in cases.iter().zip(&plain.ended).zip(&first.ended) {
        if plain != first {
            faults.push(format!("{}: on a plain mount {plain}, as the first access {first}", case.name));
        }
    }
    let (before, after): (Vec<&str>, Vec<&str>) =
        (plain.disk.lines().collect(), first.disk.lines().collect());
    faults.extend(
        before.iter().filter(|line| !after.contains(line)).map(|line| format!("disk, plain mount:  {line}")),
    );
    faults.extend(
        after.iter().filter(|line| !before.contains(line)).map(|line| format!("disk, first access: {line}")),
    );
    faults
}

fn against_exception(exception: &exceptions::Exception, plain: &Run, first: &Run) -> Option<String> {
    let (said, right) = (first.ended[0].to_string(), plain.ended[0].to_string());
    if said == right {
        return Some(format!("is as on a plain mount ({said}): take it off the table of exceptions"));
    }
    if exception.instead.contains(&said.as_str()) {
        return None;
    }
    let instead = exception.instead.join(" or ");
    Some(format!("known to return {instead} ({}), returned {said}; a plain mount {right}", exception.why))
}

/// Leaves the mount namespace of the caller, so that whatever happens no mount outlives the suite.
fn own_mount_namespace() {
    let propagation = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    raw::unshare(rustix::thread::UnshareFlags::NEWNS)
        .and_then(|()| rustix::mount::mount_change("/", propagation))
        .unwrap_or_else(|errno| panic!("a mount namespace of its own ({errno}): the suite needs root"));
}
