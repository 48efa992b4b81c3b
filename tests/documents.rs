//! The documents say what is there: every test that docs/semantics.md names exists where it says.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the tests of each prefix are.
const PLACES: [(&str, &[&str]); 9] = [
    ("core", &["src/core/tests"]),
    ("lab", &["tests/lab/scenarios/host_disks"]),
    ("guest", &["tests/lab/scenarios/guests"]),
    ("claim", &["tests/claim.rs"]),
    ("fact", &["tests/lab/scenarios/facts"]),
    ("disk", &["tests/disk"]),
    ("holders", &["tests/holders.rs"]),
    ("service", &["tests/service.rs"]),
    ("faults", &["tests/faults"]),
];

#[test]
fn every_test_that_the_semantics_name_exists() -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(inside("docs/semantics.md"))?;
    let mut named = 0;
    for (prefix, places) in PLACES {
        let mut sources = String::new();
        for place in places {
            collect(&inside(place), &mut sources)?;
        }
        // Code stands between backquotes, so every second piece is code.
        let code = text.split('`').skip(1).step_by(2);
        for name in code.filter_map(|code| code.strip_prefix(prefix)?.strip_prefix("::")) {
            named += usize::from(!name.is_empty());
            let is_there = name.is_empty() || sources.contains(&format!("fn {name}("));
            assert!(is_there, "docs/semantics.md names {prefix}::{name}, which is not in {places:?}");
        }
    }
    assert!(named > 0, "docs/semantics.md names no test");
    Ok(())
}

#[test]
fn every_file_that_the_documents_link_to_exists() -> Result<(), Box<dyn Error>> {
    for document in ["README.md", "CONTRIBUTING.md", "docs/semantics.md", "tests/lab/README.md"] {
        let text = fs::read_to_string(inside(document))?;
        let base = inside(document);
        let base = base.parent().ok_or("no directory")?;
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            assert!(base.join(target).exists(), "{document} links to {target}, which is not there");
        }
    }
    Ok(())
}

fn inside(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file, or of all files in a directory.
fn collect(path: &Path, text: &mut String) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), text)?;
        }
        return Ok(());
    }
    text.push_str(&fs::read_to_string(path)?);
    Ok(())
}
