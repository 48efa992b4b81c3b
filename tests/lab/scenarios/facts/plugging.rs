//! What a plug and a pull look like.

use std::fs;
use std::path::Path;

use crate::disks::{Filesystem, Recipe};
use crate::gadget::{Claims, Gadget};
use crate::lab::Lab;
use crate::qmp::Shape;
use crate::udevdb::{self, Recorder};
use crate::wait::{self, PATIENCE};
use crate::{Outcome, diskseq};

pub(super) fn diskseq_is_new_at_each_plug_and_shared_by_partitions(lab: &mut Lab) -> Outcome {
    let backing = lab.partitioned_disk(&[Recipe::plain(Filesystem::Ext4), Recipe::empty()])?;
    let first = lab.plug(&backing, "SEQ1")?;
    let partition = first.devnode.with_file_name(format!("{}1", first.name));
    wait::until_true("the partition", PATIENCE, || partition.exists())?;
    udevdb::settle()?;
    assert_eq!(diskseq::of(&first.devnode)?, first.diskseq, "the disk's ioctl and sysfs");
    assert_eq!(diskseq::of(&partition)?, first.diskseq, "the partition's ioctl");
    let known = udevdb::of_block(&first.name)?;
    assert_eq!(known.get("DISKSEQ"), Some(&first.diskseq.to_string()));
    let known = udevdb::of_block(&format!("{}1", first.name))?;
    assert_eq!(known.get("DISKSEQ"), Some(&first.diskseq.to_string()), "udev's of the partition");
    lab.pull(&first)?;
    let second = lab.plug(&backing, "SEQ1")?;
    assert!(second.diskseq > first.diskseq, "{} follows {}", second.diskseq, first.diskseq);
    Ok(())
}

pub(super) fn twins_share_one_by_id_link(lab: &mut Lab) -> Outcome {
    let backing = [lab.disk(&Recipe::empty())?, lab.disk(&Recipe::empty())?];
    let first = lab.plug(&backing[0], "TWIN")?;
    let link = Path::new("/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_TWIN-0:0");
    assert_eq!(fs::canonicalize(link)?, first.devnode);
    let second = lab.plug(&backing[1], "TWIN")?;
    let serials = [udevdb::of_block(&first.name)?, udevdb::of_block(&second.name)?]
        .map(|known| (known.get("ID_SERIAL").cloned(), known.get("ID_SERIAL_SHORT").cloned()));
    assert_eq!(serials[0], serials[1]);
    assert_eq!(serials[0].1.as_deref(), Some("TWIN"));
    let target = fs::canonicalize(link)?;
    assert!([&first.devnode, &second.devnode].contains(&&target), "one link, to {}", target.display());
    Ok(())
}

pub(super) fn wild_serials_reach_udev_and_do_no_harm(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::empty())?;
    for serial in
        ["../../etc/passwd", "a\"b'c`d$e", "two words", "line\nbreak", "\u{e9}\u{e8}\u{ea}", ".", ""]
    {
        let disk = lab.plug(&backing, serial)?;
        let known = udevdb::of_block(&disk.name)?;
        let id = known.get("ID_SERIAL").ok_or("no ID_SERIAL")?;
        assert!(!id.contains('/') && !id.contains('\n'), "{serial:?} became {id:?}");
        lab.pull(&disk)?;
    }
    // A SCSI vendor has eight bytes: the last character here is cut in two.
    let shape =
        Shape::Scsi { vendor: "abcdefg\u{e9}".into(), product: "cut".into(), serial: "BROKEN".into() };
    let disk = lab.plug_as(&backing, &shape)?;
    let vendor = fs::read(format!("/sys/block/{}/device/vendor", disk.name))?;
    assert_eq!(&vendor[..8], b"abcdefg ", "the kernel makes spaces of what is not ASCII");
    Ok(())
}

pub(super) fn usb_remove_lacks_the_serial_and_block_remove_keeps_it(lab: &mut Lab) -> Outcome {
    let backing = lab.disk(&Recipe::empty())?;
    let disk = lab.plug(&backing, "GOING")?;
    let recorder = Recorder::start()?;
    lab.pull(&disk)?;
    let usb = recorder.expect(&[("ACTION", "remove"), ("DEVTYPE", "usb_device")])?;
    for key in ["ID_SERIAL", "ID_SERIAL_SHORT", "ID_VENDOR_ID", "ID_MODEL_ID"] {
        assert_eq!(usb.get(key), None, "{key} of the usb_device: {usb:?}");
    }
    assert_eq!(usb.get("PRODUCT").map(String::as_str), Some("46f4/1/0"));
    let block = recorder.expect(&[("ACTION", "remove"), ("DEVTYPE", "disk"), ("SUBSYSTEM", "block")])?;
    assert_eq!(block.get("ID_SERIAL_SHORT").map(String::as_str), Some("GOING"));
    assert_eq!(block.get("DISKSEQ"), Some(&disk.diskseq.to_string()));
    Ok(())
}

pub(super) fn gadget_has_the_identity_it_claims(lab: &mut Lab) -> Outcome {
    let recorder = Recorder::start()?;
    let claims = Claims {
        vendor: 0x051d,
        product: 0x0002,
        manufacturer: "American Power".into(),
        model: "Back UPS".into(),
        serial: "UPS1".into(),
    };
    lab.gadgets.push(Gadget::serial_line("ups", 0, &claims)?);
    let event =
        recorder.expect(&[("ACTION", "bind"), ("DEVTYPE", "usb_device"), ("ID_VENDOR_ID", "051d")])?;
    assert_eq!(event.get("ID_MODEL_ID").map(String::as_str), Some("0002"));
    assert_eq!(event.get("ID_SERIAL_SHORT").map(String::as_str), Some("UPS1"));
    let image = lab.image(&Recipe::empty())?;
    let claims = Claims { vendor: 0x1058, product: 0x25a2, serial: "WX91A848D77S".into(), ..claims };
    lab.gadgets.push(Gadget::disk("disk", 1, &claims, &image)?);
    let event = recorder.expect(&[("ACTION", "add"), ("DEVTYPE", "disk"), ("ID_VENDOR_ID", "1058")])?;
    assert_eq!(event.get("ID_SERIAL_SHORT").map(String::as_str), Some("WX91A848D77S"));
    Ok(())
}
