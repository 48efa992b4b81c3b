//! The library's functions against its own driver for tests, which lives within the process and knows domains, their
//! XML and their events, but neither a daemon nor devices that are attached.

use std::ffi::{CString, c_int};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use libloading::os::unix::Library;
use virt_sys as sys;

use super::{Connection, Error, Notice, Watched};

/// Long enough for every machine; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A driver with one domain, for each file its own: `default` would be shared by all tests.
pub(in crate::guests) struct Power {
    directory: tempfile::TempDir,
}

impl Power {
    pub(in crate::guests) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domain =
            "<domain type='test'><name>test</name><memory>1024</memory><os><type>hvm</type></os></domain>";
        std::fs::write(directory.path().join("node.xml"), format!("<node>{domain}</node>")).unwrap();
        Self { directory }
    }

    pub(in crate::guests) fn uri(&self) -> String {
        format!("test://{}", self.directory.path().join("node.xml").display())
    }

    /// Calls virDomainDestroy or virDomainCreate, which the program itself has no use for.
    fn turn(connection: &Connection, function: &str) {
        type Call = unsafe extern "C" fn(sys::virDomainPtr) -> c_int;
        let name = CString::new(function).unwrap();
        // SAFETY: the library is loaded already, and both functions have this signature.
        let call: Call =
            unsafe { *Library::new("libvirt.so.0").unwrap().get(name.as_bytes_with_nul()).unwrap() };
        let domain = connection.domain("test").unwrap().unwrap();
        // SAFETY: a domain that we hold.
        assert_eq!(unsafe { call(domain.raw()) }, 0, "{function}");
    }
}

fn watched(power: &Power) -> (Watched, Receiver<Notice>) {
    let (told, notices) = unbounded();
    let tell = Arc::new(move |notice| drop(told.send(notice)));
    (Watched::new(Connection::open(&power.uri()).unwrap(), tell).unwrap(), notices)
}

#[test]
fn domains_are_listed_found_and_described() {
    let power = Power::new();
    let connection = Connection::open(&power.uri()).unwrap();
    assert!(connection.is_alive());
    let domains = connection.domains().unwrap();
    assert_eq!(domains.len(), 1);
    assert!(domains[0].xml().unwrap().contains("<name>test</name>"));
    assert!(connection.domain("test").unwrap().is_some());
    assert!(connection.domain("no such").unwrap().is_none());
    assert!(matches!(connection.domain("a\0b"), Err(Error::Nul(_))));
}

#[test]
fn what_cannot_be_connected_to_says_why() {
    let error = Connection::open("nosuch:///system").err().unwrap();
    assert!(!error.to_string().is_empty() && matches!(error, Error::Libvirt { .. }), "{error:?}");
}

#[test]
fn each_start_and_stop_of_a_domain_is_told_by_its_name() {
    let power = Power::new();
    let (watched, notices) = watched(&power);
    for function in ["virDomainDestroy", "virDomainCreate"] {
        Power::turn(watched.connection(), function);
        assert_eq!(notices.recv_timeout(PATIENCE).unwrap(), Notice::Changed("test".into()), "{function}");
    }
}

#[test]
fn nothing_is_told_after_the_end_and_what_was_given_is_released() {
    let power = Power::new();
    let (told, notices) = unbounded();
    let tell: Arc<super::events::Tell> = Arc::new(move |notice| drop(told.send(notice)));
    let watched = Watched::new(Connection::open(&power.uri()).unwrap(), Arc::clone(&tell)).unwrap();
    drop(watched);
    // That of the connection's end stays where the driver has no end: libvirt 9.0 then takes it, and forgets it.
    let deadline = Instant::now() + PATIENCE;
    while Arc::strong_count(&tell) > 2 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(Arc::strong_count(&tell), 2);
    assert!(notices.is_empty());
}
