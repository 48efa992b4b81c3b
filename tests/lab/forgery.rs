//! LUKS2 headers changed as somebody would who has the disk but no key: metadata, sequence number, and a checksum that
//! fits again.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::Outcome;
use crate::program::Program;

/// Where the metadata begin in a copy of the header.
const HEAD: usize = 4096;

/// The length of a copy of the header, which is where the second one begins.
pub(crate) fn copy_size(disk: &File) -> Outcome<u64> {
    let mut number = [0; 8];
    disk.read_exact_at(&mut number, 8)?;
    Ok(u64::from_be_bytes(number))
}

/// Changes the metadata of the copies at these offsets, and raises their sequence numbers by `later`.
pub(crate) fn change(disk: &File, copies: &[u64], later: u64, edit: impl Fn(&mut Value)) -> Outcome {
    let size = copy_size(disk)?;
    for &copy in copies {
        let mut header = vec![0; usize::try_from(size)?];
        disk.read_exact_at(&mut header, copy)?;
        let end = header[HEAD..].iter().position(|byte| *byte == 0).ok_or("no end of the metadata")?;
        let mut metadata: Value = serde_json::from_slice(&header[HEAD..HEAD + end])?;
        edit(&mut metadata);
        let text = metadata.to_string();
        header[HEAD..].fill(0);
        header[HEAD..HEAD + text.len()].copy_from_slice(text.as_bytes());
        let sequence = u64::from_be_bytes(header[16..24].try_into()?) + later;
        header[16..24].copy_from_slice(&sequence.to_be_bytes());
        header[448..512].fill(0);
        let sum = sha256(&header)?;
        header[448..480].copy_from_slice(&sum);
        disk.write_all_at(&header, copy)?;
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> Outcome<Vec<u8>> {
    let text = Program::new("sha256sum").input(bytes).ok()?;
    let digits = text.get(..64).ok_or("sha256sum printed no sum")?;
    (0..32).map(|byte| Ok(u8::from_str_radix(&digits[2 * byte..2 * byte + 2], 16)?)).collect()
}
