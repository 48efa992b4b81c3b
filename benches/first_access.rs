//! The first access to a disk that is not mounted, beside mount(2) by hand and autofs: same disk, same run, in turns.

use std::path::{Path, PathBuf};

use crate::automount::{Automount, Map};
use crate::contender::{Contender, Disk};
use crate::daemon::Daemon;
use crate::figures::{Samples, goal, line};
use crate::place::Place;
use crate::{Outcome, image, machine};

const ROUNDS: usize = 40;
/// Rounds that are not counted: caches fill, threads start.
const WARM_UP: usize = 3;
/// At most this times mount(2).
const BY_RAW: f64 = 1.1;
/// Autofs with a program map takes at least this times as long.
const BY_AUTOFS: f64 = 6.0;

/// Of an image, which gets its loop device at each access.
pub(crate) fn of_images() -> Outcome {
    println!("first access, ext4 in an image file");
    let place = Place::new()?;
    let image = place.path().join("disk.image");
    image::make(&image)?;
    let config = format!("[mounts.disk]\ndisks = [{{ image = {:?} }}]\n", image.display().to_string());
    let location = format!("-fstype=ext4,nosuid,nodev,loop :{}", image.display());
    let before = Contender::RawAttached {
        image: image.clone(),
        directory: place.directory("attached")?,
        device: None,
    };
    compare(&place, &Disk::Image(image), &config, &location, Some(before))
}

/// Of disks that udev shows: in the machine of the lab only.
pub(crate) fn of_disks() -> Outcome {
    for disk in machine::DISKS {
        println!("first access, ext4 on a disk, {}", disk.kind);
        let device = std::fs::canonicalize(Path::new("/dev/disk/by-id").join(disk.link))?;
        let config = format!("[mounts.disk]\ndisks = [{:?}]\n", disk.serial);
        let location = format!("-fstype=ext4,nosuid,nodev :{}", device.display());
        compare(&Place::new()?, &Disk::Device(device), &config, &location, None)?;
    }
    Ok(())
}

fn compare(place: &Place, disk: &Disk, config: &str, location: &str, more: Option<Contender>) -> Outcome {
    let raw = match disk {
        Disk::Device(_) => "mount(2), opendir",
        Disk::Image(_) => "LOOP_CONFIGURE, mount(2), opendir",
    };
    let directory: PathBuf = place.directory("raw")?;
    let mut contenders = vec![
        (raw, Contender::Raw { disk: disk.clone(), directory }),
        ("mydisks", Contender::Mydisks { daemon: Daemon::start(config)?, name: "disk" }),
        ("autofs, program map", Contender::Autofs(Automount::start(Map::Program, location)?)),
        ("autofs, file map", Contender::Autofs(Automount::start(Map::File, location)?)),
    ];
    contenders.extend(more.map(|contender| ("mount(2) of an attached loop device, opendir", contender)));
    let mut samples = vec![Samples::default(); contenders.len()];
    for round in 0..WARM_UP + ROUNDS {
        for ((name, contender), samples) in contenders.iter_mut().zip(&mut samples) {
            let took = contender.measure(disk).map_err(|error| format!("{name}: {error}"))?;
            if round >= WARM_UP {
                samples.add(took);
            }
        }
    }
    for ((name, _), samples) in contenders.iter().zip(&samples) {
        line(name, samples);
    }
    let [raw, mydisks, autofs] = [0, 1, 2].map(|number: usize| samples[number].median().as_secs_f64());
    let (by_raw, by_autofs) = (mydisks / raw, autofs / mydisks);
    goal(&format!("mydisks at most {BY_RAW} x mount(2)"), format_args!("{by_raw:.2} x"), by_raw <= BY_RAW);
    let what = format!("autofs with a program map at least {BY_AUTOFS} x mydisks");
    goal(&what, format_args!("{by_autofs:.1} x"), by_autofs >= BY_AUTOFS);
    Ok(())
}
