use proptest::prelude::*;

use super::*;
use crate::config::Config;

fn config(imported: &Imported) -> Config {
    parse(&imported.toml, Path::new("list")).unwrap_or_else(|error| panic!("{error}\n{}", imported.toml))
}

fn errors(list: &str) -> Vec<usize> {
    match import(list.as_bytes()) {
        Err(ImportError::Lines(lines)) => lines.iter().map(|note| note.line).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_old_list_comes_to_the_configuration_that_does_the_same() {
    let list = "\u{feff}# devices\r\n\r\nusb-051D:0002\tguest1\r\nusb-1-4.2 guest1 # by port\r\n\
                WDC_75S  guest2 vdb\r\nWDC_77S backup\r\nWDC_78S-part2 backup\r\n   \r\nWDC_76S guest2 sdc";
    let imported = import(list.as_bytes()).unwrap();
    assert_eq!(imported.notes, []);
    let body = imported.toml.split_once("\n\n").unwrap().1;
    let expected = "\
[mounts.backup]
disks = [
    \"WDC_77S\",
    { id = \"WDC_78S\", partition = 2 },
]

[guests.guest1]
usb = [
    \"051d:0002\",
    { port = \"1-4.2\" },
]

[guests.guest2]
disks = [
    { id = \"WDC_75S\", target = \"vdb\" },
    { id = \"WDC_76S\", target = \"sdc\" },
]
";
    assert_eq!(body, expected);
    let config = config(&imported);
    assert_eq!((config.mounts.len(), config.guests.len(), config.guests[1].disks.len()), (1, 2, 2));
}

#[test]
fn a_line_that_says_it_again_or_otherwise_is_left_out_and_noted() {
    let list = "WDC_1 backup\nWDC_1 backup\nWDC_1 guest vdb\nata-WDC_1 other\nusb-051d:0002 a\nusb-051d:0002 b\n\
                WDC_2 guest vdc\nWDC_3 guest vdc\nWDC_4-part1 guest vdd\nWDC_5 guest hda\n";
    let imported = import(list.as_bytes()).unwrap();
    let lines: Vec<usize> = imported.notes.iter().map(|note| note.line).collect();
    assert_eq!(lines, [2, 3, 4, 6, 8, 9, 10], "{:?}", imported.notes);
    assert!(
        imported.notes[1].text.ends_with("has a place already, on line 1 of the list"),
        "{:?}",
        imported.notes
    );
    let config = config(&imported);
    assert_eq!(config.mounts.len(), 1);
    let guest = config.guests.iter().find(|guest| guest.name.as_str() == "guest").unwrap();
    assert_eq!(guest.disks.len(), 2);
    assert_eq!(guest.disks[1].target, None, "hda becomes the next free one");
    assert!(imported.toml.contains("# line 2: "), "the notes stand in the file too");
}

#[test]
fn what_cannot_be_understood_refuses_the_list_with_every_such_line() {
    assert_eq!(
        errors("WDC_1\nWDC_2 backup\na b c d\nWDC_3 .status\nWDC_4 guest /dev/vdb\nWDC_5 <g> vdb\n"),
        [1, 3, 4, 5, 6]
    );
    assert_eq!(errors("WDC\u{1b}[2J backup"), [1]);
    assert_eq!(errors(&format!("ok backup\n{} backup", "x".repeat(5000))), [2]);
    assert!(
        matches!(import(b"ok backup\n\xff\xfe backup"), Err(ImportError::Lines(lines)) if lines[0].line == 2)
    );
    assert_eq!(import(&vec![b'x'; LONGEST_LIST + 1]), Err(ImportError::TooLong));
}

#[test]
fn an_empty_list_is_an_empty_configuration() {
    assert_eq!(config(&import(b"# nothing\n\n").unwrap()).mounts.len(), 0);
}

proptest! {
    #[test]
    fn whatever_is_printed_is_accepted(
        lines in prop::collection::vec(
            ("(ata-|usb-|)(WDC|x)(_1|_2|)(-part[12]|)|usb-051d:000[12]|usb-1-[12]|[\"'\\\\]{1,3}=\\{|é", "[abg]|\"g\\.1", "|vd[ab]|sda|hda|\t vdb", "|\r| # x"),
            0..20,
        ),
    ) {
        let list: String = lines.iter().map(|(device, owner, target, end)| format!("{device} {owner} {target}{end}\n")).collect();
        if let Ok(imported) = import(list.as_bytes()) {
            config(&imported);
        }
    }

    #[test]
    fn no_text_makes_it_panic_and_whatever_is_printed_is_accepted(list in any::<String>(), bytes in any::<Vec<u8>>()) {
        for list in [list.as_bytes(), &bytes] {
            if let Ok(imported) = import(list) {
                config(&imported);
            }
        }
    }
}
