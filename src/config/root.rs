//! Reads the whole file's tree: the keys at its top and, through the other readers, its tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::findings::Findings;
use super::node::Node;
use super::source::quoted;
use super::{Config, OnExit, exclusive, guest, keys, mount};

const MOUNTPOINT: &str = "/mnt/mydisks";
const LIBVIRT: &str = "qemu:///system";

/// Reads everything that can be read. What could not is missing from the result and noted, so the result counts
/// only if there are no findings.
pub(super) fn read(node: &Node<'_>, findings: &mut Findings<'_>) -> Config {
    let mut config = Config {
        mountpoint: MOUNTPOINT.into(),
        libvirt: LIBVIRT.to_owned(),
        on_exit: OnExit::default(),
        mounts: Vec::new(),
        guests: Vec::new(),
    };
    let Some(root) = node.table(keys::ROOT, findings) else { return config };
    if let Some(path) = root.get("mountpoint").and_then(|node| mountpoint(&node, findings)) {
        config.mountpoint = path;
    }
    if let Some(uri) = root.get("libvirt").and_then(|node| libvirt(&node, findings)) {
        config.libvirt = uri;
    }
    if let Some(on_exit) = root.get("on-exit").and_then(|node| on_exit(&node, findings)) {
        config.on_exit = on_exit;
    }
    let defaults = root.get("defaults").map(|node| mount::read_defaults(&node, findings)).unwrap_or_default();
    let mut claims = guest::Claims::default();
    let mountpoint = &config.mountpoint;
    for entry in root.get("mounts").map(|node| node.named(findings)).unwrap_or_default() {
        let mount = mount::read(&entry, &defaults, mountpoint, &mut claims.disks, findings);
        config.mounts.extend(mount.map(Arc::new));
    }
    for entry in root.get("guests").map(|node| node.named(findings)).unwrap_or_default() {
        config.guests.extend(guest::read(&entry, mountpoint, &mut claims, findings));
    }
    exclusive::check_disks(&claims.disks, findings);
    exclusive::check_usb(claims.usb, findings);
    config
}

fn on_exit(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<OnExit> {
    match node.string(findings)? {
        "unmount" => Some(OnExit::Unmount),
        "keep" => Some(OnExit::Keep),
        other => {
            findings.add(&node.spot, format!("{} must be `unmount` or `keep`", quoted(other)));
            None
        }
    }
}

fn mountpoint(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let path = node.path(findings)?;
    if path == Path::new("/") {
        findings.add(&node.spot, "must not be `/`");
        return None;
    }
    Some(path)
}

/// A libvirt URI, `driver[+transport]://[host]/path[?parameters]` (<https://libvirt.org/uri.html>), of this host:
/// devices that are plugged in here cannot go to guests elsewhere.
fn libvirt(node: &Node<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let text = node.string(findings)?;
    let graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    let Some((_, rest)) = text.split_once("://").filter(|(scheme, _)| graphic && !scheme.is_empty()) else {
        findings.add(&node.spot, format!("{} must be a libvirt URI like `qemu:///system`", quoted(text)));
        return None;
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let local = |host: &str| host.is_empty() || ["localhost", "127.0.0.1", "[::1]"].contains(&host);
    let name = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(name, _)| name);
    if !local(name) {
        let message = format!(
            "names the host {}, but what is plugged in here can only go to guests here",
            quoted(name)
        );
        findings.add(&node.spot, message);
        return None;
    }
    Some(text.to_owned())
}
