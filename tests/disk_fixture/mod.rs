//! Disks for tests: image files with file systems, loop devices made by losetup(8), and orders for them.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mydisks::disk::{Cancel, Closing, DiskError, Locked, Opened, Order, Prepared, Source, lock, prepare};
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;

/// Long enough for every machine; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a program that must succeed, and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {words}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A sparse file in a directory of its own.
pub(crate) struct Image {
    pub(crate) directory: TempDir,
    pub(crate) path: PathBuf,
}

impl Image {
    pub(crate) fn empty(size: u64) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests mount: run them as root");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        File::create(&path).unwrap().set_len(size).unwrap();
        Self { directory, path }
    }

    /// With a fresh file system of the kernel's name `filesystem`.
    pub(crate) fn of(filesystem: &str) -> Self {
        // Each mkfs has a smallest size that it accepts.
        let size = match filesystem {
            "xfs" => 320 * MIB,
            "btrfs" => 128 * MIB,
            _ => 32 * MIB,
        };
        let image = Self::empty(size);
        make_filesystem(filesystem, &image.path);
        image
    }

    /// With a LUKS1 header that nothing is wrong with, but that opens with no key.
    pub(crate) fn with_luks_header() -> Self {
        let image = Self::empty(4 * MIB);
        for (offset, bytes) in [
            (0, &b"LUKS\xba\xbe\0\x01"[..]),
            (8, b"aes"),
            (40, b"xts-plain64"),
            (72, b"sha256"),
            (104, &4096_u32.to_be_bytes()),
            (108, &64_u32.to_be_bytes()),
            (168, b"123e4567-e89b-12d3-a456-426614174000"),
        ] {
            image.write(offset, bytes);
        }
        image
    }

    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        File::options().write(true).open(&self.path).unwrap().write_all_at(bytes, offset).unwrap();
    }

    /// Makes a file beside the image that is good as a key file.
    pub(crate) fn key(&self, key: &[u8]) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join("key");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        path
    }

    pub(crate) fn order(&self) -> Order {
        order(Source::Image(self.path.clone()))
    }
}

pub(crate) fn make_filesystem(filesystem: &str, device: &Path) {
    let device = device.to_str().unwrap();
    match filesystem {
        "ext2" | "ext3" | "ext4" => run(&format!("mkfs.{filesystem}"), &["-q", "-F", device]),
        "xfs" | "btrfs" => run(&format!("mkfs.{filesystem}"), &["-q", "-f", device]),
        "vfat" | "exfat" => run(&format!("mkfs.{filesystem}"), &[device]),
        "ntfs3" => run("mkfs.ntfs", &["-q", "-F", "-f", device]),
        other => panic!("no mkfs for {other}"),
    };
}

/// An order that asks for nothing special.
pub(crate) fn order(source: Source) -> Order {
    Order {
        source,
        partition: None,
        uuid: None,
        luks_uuid: None,
        hint: None,
        key_file: None,
        filesystem: None,
        options: Vec::new(),
        mapping: format!("mydisks-test-{}", std::process::id()),
        deadline: Instant::now() + PATIENCE,
    }
}

pub(crate) fn words(options: &[&str]) -> Vec<String> {
    options.iter().map(|&option| option.to_owned()).collect()
}

/// [`prepare`] without anybody who cancels.
pub(crate) fn prepare_now(order: &Order) -> Result<Prepared, DiskError> {
    prepare(order, &Cancel::new().unwrap())
}

/// [`lock`] without anybody who cancels.
pub(crate) fn lock_now(opened: &Opened, closing: Closing) -> Result<Locked, DiskError> {
    lock(opened, closing, Instant::now() + PATIENCE, &Cancel::new().unwrap())
}

/// Drops the mount and locks: nothing must be left.
pub(crate) fn put_away(prepared: Prepared) {
    let opened = prepared.opened.clone();
    drop(prepared);
    assert_eq!(lock_now(&opened, Closing::IfUnused), Ok(Locked::Closed));
}

/// A loop device that losetup(8) made: a stand-in for a disk on a cable.
pub(crate) struct LoopDisk {
    pub(crate) node: PathBuf,
    pub(crate) name: String,
}

impl LoopDisk {
    pub(crate) fn new(image: &Path, arguments: &[&str]) -> Self {
        let mut all = vec!["--find", "--show"];
        all.extend(arguments);
        all.push(image.to_str().unwrap());
        let node = PathBuf::from(run("losetup", &all));
        let name = node.file_name().unwrap().to_string_lossy().into_owned();
        Self { node, name }
    }

    pub(crate) fn sequence(&self) -> u64 {
        let path = format!("/sys/block/{}/diskseq", self.name);
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// The node of a partition, which the kernel is told of if it has not found it itself; in MiB.
    pub(crate) fn partition(&self, number: u32, start: u64, length: u64) -> (u32, PathBuf) {
        let name = format!("{}p{number}", self.name);
        if !Path::new("/sys/block").join(&self.name).join(&name).exists() {
            let numbers = [u64::from(number), start * 2048, length * 2048].map(|n| n.to_string());
            run("addpart", &[self.node.to_str().unwrap(), &numbers[0], &numbers[1], &numbers[2]]);
        }
        (number, Path::new("/dev").join(name))
    }

    pub(crate) fn order(&self, partitions: &[(u32, PathBuf)]) -> Order {
        order(Source::Device {
            disk: self.node.clone(),
            diskseq: self.sequence(),
            partitions: partitions.to_vec(),
        })
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Partitions that were added by hand outlive the file, and would be those of the next one.
        let _ = Command::new("partx").arg("--delete").arg(&self.node).stderr(Stdio::null()).status();
        // A test that failed may have left it in use.
        let _ = Command::new("losetup").arg("--detach").arg(&self.node).status();
    }
}

/// Whether this process holds a descriptor of that file or device.
pub(crate) fn holds_open(path: &Path) -> bool {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    descriptors.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()).any(|target| target == path)
}

/// Waits until `condition` holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
