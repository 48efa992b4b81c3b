//! What holds for any text, and for any configuration that a text can say.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// Text that is nearly a configuration: lines of the right words in any order.
fn nearly() -> impl Strategy<Value = String> {
    let pieces = [
        "[mounts.a]\n",
        "[mounts.a",
        "[guests.g]\n",
        "[[mounts.a.disks]]\n",
        "[defaults]\n",
        "mounts",
        "disks = [",
        "]\n",
        "{ id = ",
        "}",
        "\"A\"",
        "'B'",
        ", ",
        " = ",
        ".",
        "partition = 1",
        "idle-timeout = \"5m\"\n",
        "\"",
        "\\",
        "options = \"a,b,,c=\\\"d\\\"\"\n",
        "usb = [\"051d:0002\"]\n",
        "\n",
        "\r\n",
        "\t",
        "0",
        "true",
        "1979-05-27",
        "key-file = \"/x\"\n",
        "ü",
        "\u{202e}",
        "\0",
        "#",
        "'''",
        "\"\"\"",
        "image = \"/a/../b\"",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..24)
        .prop_map(|pieces| pieces.concat())
}

/// A TOML string of any kind of text.
fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn duration() -> impl Strategy<Value = Duration> {
    (1_000u64..3_600_000).prop_map(Duration::from_millis)
}

fn options() -> impl Strategy<Value = MountOptions> {
    let words =
        ["acl", "suid", "dev", "ro", "noatime", "commit=5", "context=\"a,b\"", "subvol=/a b", "errors=ü"];
    proptest::sample::subsequence(words.to_vec(), 0..words.len())
        .prop_map(|words| MountOptions::base().merged(&words.join(",").parse().unwrap()))
}

/// A disk; its identities get a number that no other disk has.
#[derive(Clone, Debug)]
struct Shape {
    which: u8,
    text: String,
    partition: Option<u32>,
}

fn shape() -> impl Strategy<Value = Shape> {
    (1u8..128, "[A-Za-z0-9 \"'\\\\äß#=-]{0,8}", proptest::option::of(1u32..=255))
        .prop_map(|(which, text, partition)| Shape { which, text, partition })
}

fn disk(shape: &Shape, number: usize) -> DiskSpec {
    let given = |bit: u8| shape.which & (1 << bit) != 0;
    let uuid = format!("{number:08x}-0000-4000-8000-{:012x}", shape.text.len());
    // The other half of the space, so that no `uuid` is a `luks-uuid`.
    let luks = format!("{number:08x}-1111-4000-8000-{:012x}", shape.text.len());
    let name = format!("{number}{}", shape.text);
    let mut spec = DiskSpec {
        uuid: given(1).then(|| uuid.parse().unwrap()),
        luks_uuid: given(2).then(|| luks.parse().unwrap()),
        partition: shape.partition,
        ..DiskSpec::default()
    };
    if given(0) {
        spec.image = Some(format!("/images/{name}").into());
    } else {
        spec.id = given(3).then(|| name.parse().unwrap());
        spec.partuuid = given(4).then(|| uuid.parse().unwrap());
        spec.label = given(5).then(|| name.parse().unwrap());
        spec.wwn = given(6).then(|| format!("0x{number:x}").parse().unwrap());
    }
    spec
}

prop_compose! {
    fn mount()(
        shapes in proptest::collection::vec(shape(), 1..4),
        key_file in proptest::option::of("/[a-z \"\\\\]{1,8}"),
        filesystem in proptest::option::of(proptest::sample::select(Filesystem::ALL.to_vec())),
        options in options(),
        idle_timeout in proptest::option::of(duration()),
        access_timeout in duration(),
    ) -> (Vec<Shape>, Mount) {
        let mount = Mount {
            name: "replaced".parse().unwrap(), disks: vec![], key_file: key_file.map(Into::into), filesystem, options,
            idle_timeout, access_timeout,
        };
        (shapes, mount)
    }
}

prop_compose! {
    fn guest()(
        usb in proptest::collection::vec((0u8..3, "[ -~ä]{1,6}"), 1..4),
        shapes in proptest::collection::vec((shape(), any::<bool>(), any::<bool>()), 0..4),
    ) -> GuestShapes { (usb, shapes) }
}

prop_compose! {
    fn config()(
        mounts in proptest::collection::btree_map("[a-zA-Z0-9_][a-zA-Z0-9_.+-]{0,5}", mount(), 0..5),
        guests in proptest::collection::btree_map("[a-z_][a-zA-Z0-9 .+:@,()-]{0,4}[a-z]", guest(), 0..4),
    ) -> Config { number(mounts, guests) }
}

/// USB rules (kind, serial) and disks (shape, with a target, read-only) of a guest.
type GuestShapes = (Vec<(u8, String)>, Vec<(Shape, bool, bool)>);

/// Gives each device a number of its own.
fn number(mounts: BTreeMap<String, (Vec<Shape>, Mount)>, guests: BTreeMap<String, GuestShapes>) -> Config {
    let mut numbers = 1usize..;
    let mut next = move || numbers.next().unwrap();
    let mounts = mounts
        .into_iter()
        .map(|(name, (shapes, mount))| {
            let disks = shapes.iter().map(|shape| disk(shape, next())).collect();
            Mount { name: name.parse().unwrap(), disks, ..mount }.into()
        })
        .collect();
    let mut next = {
        let mut numbers = 1000usize..;
        move || numbers.next().unwrap()
    };
    let guests = guests
        .into_iter()
        .map(|(name, (usb, shapes))| Guest {
            name: name.parse().unwrap(),
            usb: usb.into_iter().map(|(kind, serial)| rule(kind, &serial, next())).collect(),
            disks: shapes
                .into_iter()
                .enumerate()
                .map(|(at, (shape, target, read_only))| GuestDisk {
                    // An `id` in place of an image, which no guest gets.
                    disk: disk(&Shape { partition: None, which: (shape.which & !1).max(8), ..shape }, next()),
                    target: target.then(|| format!("vd{}", char::from(b'b' + at as u8))),
                    read_only,
                })
                .collect(),
        })
        .collect();
    Config {
        mountpoint: "/mnt/my disks".into(),
        libvirt: "test:///default".into(),
        on_exit: OnExit::Keep,
        mounts,
        guests,
    }
}

fn rule(kind: u8, serial: &str, number: usize) -> UsbRule {
    let id = format!("1234:{number:04x}").parse().unwrap();
    match kind {
        0 => UsbRule::Id { id, serial: None },
        1 => UsbRule::Id { id, serial: Some(serial.parse().unwrap()) },
        _ => UsbRule::Port(format!("{}-{}", number / 200 + 1, number % 200 + 1).parse().unwrap()),
    }
}

/// The text that says this configuration.
fn written(config: &Config) -> String {
    let mut text = format!("mountpoint = {}\n", string(config.mountpoint.to_str().unwrap()));
    writeln!(text, "libvirt = {}", string(&config.libvirt)).unwrap();
    writeln!(text, "on-exit = 'keep'").unwrap();
    for mount in &config.mounts {
        let disks: Vec<_> =
            mount.disks.iter().map(|disk| format!("{{ {} }}", keys_of(disk).join(", "))).collect();
        writeln!(text, "[mounts.{}]\ndisks = [{}]", string(mount.name.as_str()), disks.join(", ")).unwrap();
        if let Some(path) = &mount.key_file {
            writeln!(text, "key-file = {}", string(path.to_str().unwrap())).unwrap();
        }
        if let Some(filesystem) = mount.filesystem {
            writeln!(text, "filesystem = \"{filesystem}\"").unwrap();
        }
        writeln!(text, "options = {}", string(&mount.options.to_string())).unwrap();
        let idle = duration::format(mount.idle_timeout.unwrap_or_default());
        writeln!(text, "idle-timeout = \"{idle}\"").unwrap();
        writeln!(text, "access-timeout = \"{}\"", duration::format(mount.access_timeout)).unwrap();
    }
    for guest in &config.guests {
        writeln!(text, "[guests.{}]", string(guest.name.as_str())).unwrap();
        let usb: Vec<_> = guest.usb.iter().map(written_rule).collect();
        writeln!(text, "usb = [{}]", usb.join(", ")).unwrap();
        for disk in &guest.disks {
            writeln!(text, "[[guests.{}.disks]]", string(guest.name.as_str())).unwrap();
            writeln!(text, "{}\nreadonly = {}", keys_of(&disk.disk).join("\n"), disk.read_only).unwrap();
            if let Some(target) = &disk.target {
                writeln!(text, "target = \"{target}\"").unwrap();
            }
        }
    }
    text
}

fn keys_of(disk: &DiskSpec) -> Vec<String> {
    let text = |key: &str, value: Option<&str>| value.map(|value| format!("{key} = {}", string(value)));
    [
        text("id", disk.id.as_ref().map(|id| id.as_str())),
        text("uuid", disk.uuid.as_ref().map(|uuid| uuid.as_str())),
        text("partuuid", disk.partuuid.as_ref().map(|uuid| uuid.as_str())),
        text("label", disk.label.as_ref().map(|label| label.as_str())),
        text("wwn", disk.wwn.as_ref().map(|wwn| wwn.as_str())),
        text("luks-uuid", disk.luks_uuid.as_ref().map(|uuid| uuid.as_str())),
        text("image", disk.image.as_ref().and_then(|path| path.to_str())),
        disk.partition.map(|number| format!("partition = {number}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn written_rule(rule: &UsbRule) -> String {
    match rule {
        UsbRule::Id { id, serial: None } => format!("\"{id}\""),
        UsbRule::Id { id, serial: Some(serial) } => {
            format!("{{ id = \"{id}\", serial = {} }}", string(serial.as_str()))
        }
        UsbRule::Port(port) => format!("{{ port = \"{port}\" }}"),
    }
}

/// Nothing in an error can do more to a terminal than show.
fn is_printable(error: &ConfigError) -> bool {
    error.to_string().chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}'))
}

proptest! {
    #[test]
    fn any_bytes_are_a_configuration_or_a_printable_error(bytes in any::<Vec<u8>>()) {
        if let Err(error) = parse_bytes(&bytes, Path::new("f")) {
            prop_assert!(is_printable(&error), "{}", error);
        }
    }

    #[test]
    fn any_text_is_a_configuration_or_a_printable_error(text in prop_oneof![any::<String>(), nearly()]) {
        if let Err(error) = parse(&text, Path::new("f")) {
            prop_assert!(is_printable(&error), "{}", error);
        }
    }

    #[test]
    fn a_configuration_reads_back_as_it_was_written(config in config()) {
        let text = written(&config);
        match parse(&text, Path::new("f")) {
            Ok(read) => prop_assert_eq!(read, config),
            Err(error) => prop_assert!(false, "{}\n{}", text, error),
        }
    }
}

#[test]
fn nesting_without_end_is_refused() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{ a = ".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
        format!("a = {}{}", "[".repeat(60), "]".repeat(60)),
        "[".repeat(100_000),
    ] {
        assert!(is_printable(&parse(&text, Path::new("f")).unwrap_err()));
    }
}

#[test]
fn of_a_flood_of_errors_the_first_are_kept_and_the_others_counted() {
    let text: String = (0..1000).map(|at| format!("colour-{at} = 1\n")).collect();
    let problems = problems(&text);
    assert_eq!((problems.list.len(), problems.omitted), (Problems::MOST, 800));
    assert!(problems.to_string().ends_with("1000 errors in mydisks.toml, the first 200 found are shown"));
    // The same key again and again.
    let problems = super::problems(&"a = 1\n".repeat(1000));
    assert_eq!(problems.list.len() + problems.omitted, 1000);
}

#[test]
fn no_error_is_much_longer_than_a_line_or_two() {
    let long = "k".repeat(100_000);
    for text in [
        format!("{long} = 1"),
        format!("mounts.{long} = 1"),
        format!("mounts.a = {{ disks = ['A'], options = '{long}' }}"),
        format!("defaults.idle-timeout = '{long}'"),
        format!("mounts.a = {{ disks = ['A'], filesystem = '{long}' }}"),
        format!("mounts.a.disks = ['{long}']"),
        format!("libvirt = 'qemu://{long}'"),
        format!("mountpoint = '/a//{long}'"),
        format!("mountpoint = {long}"),
    ] {
        let told = problems(&text).to_string();
        assert!(told.len() < 1500, "{told}");
    }
}
