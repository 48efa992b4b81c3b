//! The other way round: from a present device to the words of a config that would name it, as TOML values to be
//! copied into `disks = [ … ]` or `usb = [ … ]`.

use super::printable::printable;
use super::{BlockNode, Disk, DiskId, FsLabel, FsUuid, LuksUuid, PartUuid, UsbDevice, UsbSerial, Wwn};

/// What could name this disk, the best first: its id, its world wide name, then what is on the whole disk and on
/// each partition. What no config would accept, or cannot be shown as it is, is left out; so it may be nothing.
pub fn disk_claims(disk: &Disk) -> Vec<String> {
    let mut claims = Vec::new();
    claims.extend(disk.preferred_id.as_deref().filter(|id| is_identity::<DiskId>(id)).map(quoted));
    claims.extend(disk.wwns.iter().filter_map(|wwn| pair::<Wwn>("wwn", Some(wwn))));
    claims.extend(content_claims(&disk.node));
    for partition in &disk.partitions {
        claims.extend(content_claims(&partition.node));
        claims.extend(pair::<PartUuid>("partuuid", partition.partuuid.as_deref()));
    }
    claims
}

/// What could name this USB device: its vendor and product, with its serial, its port. Nothing for a hub, which
/// is never handed to a guest.
pub fn usb_claims(device: &UsbDevice) -> Vec<String> {
    if device.is_hub {
        return Vec::new();
    }
    let id = quoted(&device.id.to_string());
    let with_serial = |serial: &str| format!("{{ id = {id}, serial = {} }}", quoted(serial));
    let serial = device.serial.as_deref().filter(|serial| is_identity::<UsbSerial>(serial)).map(with_serial);
    let port = format!("{{ port = {} }}", quoted(device.port.as_str()));
    [Some(id), serial, Some(port)].into_iter().flatten().collect()
}

fn content_claims(node: &BlockNode) -> impl Iterator<Item = String> {
    let content = &node.content;
    let uuid = content.uuid.as_deref();
    let of_header = uuid.filter(|_| content.fs_type.as_deref() == Some("crypto_LUKS"));
    let header = pair::<LuksUuid>("luks-uuid", of_header);
    let uuid = if header.is_some() { None } else { pair::<FsUuid>("uuid", uuid) };
    [header, uuid, pair::<FsLabel>("label", content.label.as_deref())].into_iter().flatten()
}

fn pair<T: std::str::FromStr>(key: &str, value: Option<&str>) -> Option<String> {
    value.filter(|value| is_identity::<T>(value)).map(|value| format!("{{ {key} = {} }}", quoted(value)))
}

/// A config would accept it, and a person can read and copy it.
fn is_identity<T: std::str::FromStr>(text: &str) -> bool {
    text.parse::<T>().is_ok() && printable(text) == text
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::arbitrary::{any_disk, disk, node, partition};
    use crate::device::{DiskSpec, UsbId};
    use proptest::prelude::*;

    /// The value as a config reader sees it.
    fn value(claim: &str) -> toml::Value {
        let table: toml::Table = format!("disks = [{claim}]").parse().expect(claim);
        table["disks"].as_array().filter(|values| values.len() == 1).expect(claim)[0].clone()
    }

    fn spec(claim: &str) -> DiskSpec {
        let value = value(claim);
        let text = |key: &str| Some(value.get(key)?.as_str().unwrap().to_owned());
        DiskSpec {
            id: value.as_str().map(|id| id.parse().unwrap()),
            uuid: text("uuid").map(|uuid| uuid.parse().unwrap()),
            partuuid: text("partuuid").map(|uuid| uuid.parse().unwrap()),
            label: text("label").map(|label| label.parse().unwrap()),
            wwn: text("wwn").map(|wwn| wwn.parse().unwrap()),
            luks_uuid: text("luks-uuid").map(|uuid| uuid.parse().unwrap()),
            image: None,
            partition: None,
        }
    }

    fn usb(serial: Option<&str>) -> UsbDevice {
        UsbDevice {
            port: "1-4.2".parse().unwrap(),
            id: UsbId { vendor: 0x403, product: 0x6001 },
            serial: serial.map(str::to_owned),
            bus: 1,
            address: 7,
            name: None,
            is_hub: false,
            bound: true,
        }
    }

    #[test]
    fn a_disk_is_named_by_id_then_by_its_content() {
        let luks = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
        let disk = disk(
            &["WDC_1"],
            node("crypto_LUKS", luks),
            vec![partition(1, "6e2d0b9d-01", node("vfat", "12AB-34CD"))],
        );
        let expected = [
            r#""WDC_1""#,
            r#"{ luks-uuid = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" }"#,
            r#"{ uuid = "12AB-34CD" }"#,
            r#"{ partuuid = "6e2d0b9d-01" }"#,
        ];
        assert_eq!(disk_claims(&disk), expected);
    }

    #[test]
    fn a_usb_device_is_named_by_id_serial_and_port() {
        let expected =
            [r#""0403:6001""#, r#"{ id = "0403:6001", serial = "FTDI1" }"#, r#"{ port = "1-4.2" }"#];
        assert_eq!(usb_claims(&usb(Some("FTDI1"))), expected);
        assert_eq!(usb_claims(&usb(Some("a\nb"))), [expected[0], expected[2]]);
        assert_eq!(usb_claims(&UsbDevice { is_hub: true, ..usb(None) }), [""; 0]);
    }

    #[test]
    fn what_no_config_would_accept_or_nobody_can_read_is_left_out() {
        for hostile in ["a\nb", "\0", "x\u{202e}y", &"n".repeat(600)] {
            let mut disk = disk(&[hostile], node("ext4", hostile), vec![]);
            disk.node.content.label = Some(hostile.into());
            disk.wwns.insert(hostile.into());
            assert_eq!(disk_claims(&disk), [""; 0], "{hostile:?}");
        }
    }

    proptest! {
        #[test]
        fn every_claim_is_toml_that_names_the_disk(disk in any_disk()) {
            for claim in disk_claims(&disk) {
                prop_assert!(spec(&claim).find(&disk).is_some(), "{claim}");
            }
        }

        #[test]
        fn any_text_is_quoted_so_that_it_comes_back(text in any::<String>(), odd in "[\"'\\\\/.\\]}#\n a]{0,12}") {
            for text in [text, odd] {
                let mut disk = disk(&[&text], node("ext4", ""), vec![]);
                disk.node.content.label = Some(text.clone());
                let claims = disk_claims(&disk);
                prop_assert!(claims.iter().all(|claim| !claim.chars().any(char::is_control)), "{claims:?}");
                for claim in &claims {
                    prop_assert!(spec(claim).find(&disk).is_some(), "{claim}");
                }
                for claim in usb_claims(&usb(Some(&text))) {
                    let value = value(&claim);
                    if let Some(serial) = value.get("serial") {
                        prop_assert_eq!(serial.as_str(), Some(text.as_str()));
                    }
                }
            }
        }
    }
}
