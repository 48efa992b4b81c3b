//! Makes the disks that scenarios plug in: file systems, LUKS with a cheap key derivation, partition tables.
//! They are made in memory, then copied without their holes to the share, where the QEMU outside finds them.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::Outcome;
use crate::program::Program;
use crate::udevdb;

const MIB: u64 = 1 << 20;
const MAKING: &str = "lab-making";

/// What can be put on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filesystem {
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
    Exfat,
    Ntfs,
}

/// How it is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Luks1,
    Luks2,
}

/// A disk, or the content of a partition, that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) filesystem: Option<Filesystem>,
    pub(crate) lock: Option<(Lock, Vec<u8>)>,
    pub(crate) files: Vec<(String, String)>,
}

impl Filesystem {
    /// The kernel's name of its driver.
    pub(crate) fn kernel_name(self) -> &'static str {
        match self {
            Filesystem::Ext4 => "ext4",
            Filesystem::Xfs => "xfs",
            Filesystem::Btrfs => "btrfs",
            Filesystem::Vfat => "vfat",
            Filesystem::Exfat => "exfat",
            Filesystem::Ntfs => "ntfs3",
        }
    }

    fn make(self, device: &Path) -> Outcome {
        let words: &[&str] = match self {
            Filesystem::Ext4 => &["mkfs.ext4", "-q", "-F"],
            Filesystem::Xfs => &["mkfs.xfs", "-q", "-f"],
            Filesystem::Btrfs => &["mkfs.btrfs", "-q", "-f"],
            Filesystem::Vfat => &["mkfs.vfat"],
            Filesystem::Exfat => &["mkfs.exfat"],
            Filesystem::Ntfs => &["mkfs.ntfs", "-q", "-Q", "-F"],
        };
        Program::new(words[0]).args(&words[1..]).arg(device).ok().map(drop)
    }

    /// mkfs.xfs and mkfs.btrfs refuse small devices.
    fn size(self) -> u64 {
        match self {
            Filesystem::Xfs => 320 * MIB,
            Filesystem::Btrfs => 128 * MIB,
            _ => 48 * MIB,
        }
    }
}

impl Recipe {
    pub(crate) fn plain(filesystem: Filesystem) -> Recipe {
        let files = vec![("hello".to_owned(), "from the disk\n".to_owned())];
        Recipe { filesystem: Some(filesystem), lock: None, files }
    }

    pub(crate) fn empty() -> Recipe {
        Recipe { filesystem: None, lock: None, files: Vec::new() }
    }

    pub(crate) fn locked(mut self, lock: Lock, key: &[u8]) -> Recipe {
        self.lock = Some((lock, key.to_vec()));
        self
    }

    pub(crate) fn file(mut self, name: &str, content: &str) -> Recipe {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// Makes it in the file `image`, which must not be on the 9p share.
    pub(crate) fn make(&self, image: &Path) -> Outcome {
        let header = if self.lock.is_some() { 16 * MIB } else { 0 };
        let size = header + self.filesystem.map_or(MIB, Filesystem::size);
        File::create(image)?.set_len(size)?;
        match &self.lock {
            None => self.fill(image),
            Some((lock, key)) => {
                format_luks(image, *lock, key)?;
                unlock(image, key, MAKING)?;
                let filled = self.fill(&Path::new("/dev/mapper").join(MAKING));
                udevdb::settle()?;
                let closed = Program::new("cryptsetup").args(["close", MAKING]).ok();
                filled.and(closed.map(drop))
            }
        }
    }

    fn fill(&self, device: &Path) -> Outcome {
        let Some(filesystem) = self.filesystem else { return Ok(()) };
        filesystem.make(device)?;
        if filesystem == Filesystem::Ntfs {
            return self.fill_ntfs(device);
        }
        let point = PathBuf::from("/run/lab-making");
        fs::create_dir_all(&point)?;
        Program::new("mount").arg("-t").arg(filesystem.kernel_name()).args([device, &point]).ok()?;
        let written: std::io::Result<()> =
            self.files.iter().try_for_each(|(name, content)| fs::write(point.join(name), content));
        Program::new("umount").arg(&point).ok()?;
        written.map_err(Into::into)
    }

    /// Without the kernel's driver, which Debian 12 does not have.
    fn fill_ntfs(&self, device: &Path) -> Outcome {
        let source = Path::new("/run/lab-ntfs-file");
        for (name, content) in &self.files {
            fs::write(source, content)?;
            Program::new("ntfscp").arg("-q").args([device, source]).arg(name).ok()?;
        }
        Ok(())
    }
}

/// Puts a LUKS header on `device`.
pub(crate) fn format_luks(device: &Path, lock: Lock, key: &[u8]) -> Outcome {
    let derivation = match lock {
        Lock::Luks1 => "--type luks1 --pbkdf-force-iterations 1000",
        Lock::Luks2 => "--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000",
    };
    Program::new("cryptsetup")
        .args(["-q", "luksFormat", "--key-file=-"])
        .args(derivation.split(' '))
        .arg(device)
        .input(key)
        .ok()
        .map(drop)
}

/// Opens the mapping `name` by hand.
pub(crate) fn unlock(device: &Path, key: &[u8], name: &str) -> Outcome {
    Program::new("cryptsetup")
        .args(["open", "--type", "luks", "--key-file=-"])
        .arg(device)
        .arg(name)
        .input(key)
        .ok()
        .map(drop)
}

/// A GPT disk in the file `image` with these contents as its partitions, in order.
pub(crate) fn partition(image: &Path, contents: &[&Path]) -> Outcome {
    let mut table = "label: gpt\n".to_owned();
    let mut start = MIB;
    let mut places = Vec::new();
    for content in contents {
        let size = fs::metadata(content)?.len();
        table += &format!("start={}, size={}\n", start / 512, size / 512);
        places.push(start);
        start += size;
    }
    File::create(image)?.set_len(start + MIB)?;
    Program::new("sfdisk").arg("-q").arg(image).input(table).ok()?;
    for (content, place) in contents.iter().zip(places) {
        copy(content, image, place)?;
    }
    Ok(())
}

/// Copies what has been written of the sparse file `from` to the place `offset` of the existing file `to`.
fn copy(from: &Path, to: &Path, offset: u64) -> Outcome {
    let source = File::open(from)?;
    let target = File::options().write(true).open(to)?;
    let mut end = 0;
    while let Some(start) = written_from(&source, end)? {
        end = seek(&source, SeekFrom::Hole(start))?;
        let mut content = vec![0; usize::try_from(end - start)?];
        source.read_exact_at(&mut content, start)?;
        target.write_all_at(&content, offset + start)?;
    }
    Ok(())
}

/// Where something has been written, from `position` on.
fn written_from(file: &File, position: u64) -> Outcome<Option<u64>> {
    match seek(file, SeekFrom::Data(position)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A copy of `image` in the directory `share`, under the name `name`.
pub(crate) fn publish(image: &Path, share: &Path, name: &str) -> Outcome<PathBuf> {
    let target = share.join(name);
    File::create(&target)?.set_len(fs::metadata(image)?.len())?;
    copy(image, &target, 0)?;
    Ok(target)
}
