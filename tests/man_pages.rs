//! The man pages that are checked in are those that `make man` makes of their sources. Needs no pandoc: each page
//! carries the checksum of the source that it was made from.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn every_man_page_was_made_from_its_present_source() -> Result<(), Box<dyn Error>> {
    let sources = sources()?;
    assert!(!sources.is_empty(), "man/ has no sources");
    for source in sources {
        let page = source.with_extension("");
        let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
        let sum = Command::new("/usr/bin/cksum").stdin(fs::File::open(&source)?).output()?;
        let line = format!(".\\\" Source checksum: {}", String::from_utf8(sum.stdout)?.trim());
        let is_current = text.lines().any(|found| found == line);
        assert!(is_current, "{} is not up to date: run \"make man\"", page.display());
    }
    Ok(())
}

#[test]
fn every_man_page_has_the_name_and_section_of_its_file() -> Result<(), Box<dyn Error>> {
    for source in sources()? {
        let page = source.with_extension("");
        let name = page.file_stem().and_then(|name| name.to_str()).ok_or("no name")?.to_uppercase();
        let section = page.extension().and_then(|section| section.to_str()).ok_or("no section")?;
        let text = fs::read_to_string(&page)?;
        let title = text.lines().find(|line| line.starts_with(".TH ")).ok_or("no title")?;
        let words: Vec<String> = title.split(' ').map(|word| word.trim_matches('"').to_uppercase()).collect();
        assert_eq!((words[1].as_str(), words[2].as_str()), (name.as_str(), section), "{}", page.display());
    }
    Ok(())
}

fn sources() -> std::io::Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect())
}
