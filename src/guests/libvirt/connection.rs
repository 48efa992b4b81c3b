//! A connection to a libvirt daemon and its domains. Every call may take as long as that daemon likes; with keepalive,
//! one that does not answer ends the connection and so the call.

use std::ffi::{CStr, CString, c_char, c_uint, c_void};
use std::ptr::NonNull;

use thiserror::Error;
use virt_sys as sys;

use super::library::{self, Library};

/// Seconds between two signs of life, and how many may be missed: a daemon that stands still is noticed within 20 s.
const KEEPALIVE: (i32, u32) = (5, 3);

/// Why libvirt did not do something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(in crate::guests) enum Error {
    /// There is no libvirt here.
    #[error("libvirt cannot be loaded (is it installed?): {0}")]
    Library(String),
    /// It said no. The code does not tell what the matter is: many cases share one.
    #[error("{message}")]
    Libvirt {
        /// `virErrorNumber`
        code: i32,
        /// As libvirt words it.
        message: String,
    },
    /// It would end a C string early.
    #[error("{0:?} contains a NUL")]
    Nul(String),
}

/// A connection. Calls on it are safe from any thread (libvirt's "Thread safety").
pub(in crate::guests) struct Connection {
    pub(super) library: &'static Library,
    raw: NonNull<sys::_virConnect>,
}

// SAFETY: "all calls on a virConnectPtr are safe from any thread" (libvirt's threads.rst).
unsafe impl Send for Connection {}
// SAFETY: as above.
unsafe impl Sync for Connection {}

impl Connection {
    /// Connects, without end if the daemon there accepts and then says nothing.
    pub(in crate::guests) fn open(uri: &str) -> Result<Self, Error> {
        let connection = Self::open_to_wait(uri)?;
        // Drivers within the process have none: that is no error of this connection.
        // SAFETY: an open connection.
        let _ = unsafe {
            (connection.library.virConnectSetKeepAlive)(connection.raw(), KEEPALIVE.0, KEEPALIVE.1)
        };
        Ok(connection)
    }

    /// The same without keepalive: a call on it is given up only when the daemon there has ended, and so cannot do later
    /// what it was asked for.
    pub(in crate::guests) fn open_to_wait(uri: &str) -> Result<Self, Error> {
        let library = library::library()?;
        let uri = c_string(uri)?;
        // SAFETY: a C string that outlives the call.
        let raw = unsafe { (library.virConnectOpen)(uri.as_ptr()) };
        let raw = NonNull::new(raw).ok_or_else(|| library.last_error())?;
        Ok(Self { library, raw })
    }

    /// False once the daemon has gone or has not answered in time. Asks nobody.
    pub(in crate::guests) fn is_alive(&self) -> bool {
        // SAFETY: an open connection.
        unsafe { (self.library.virConnectIsAlive)(self.raw()) == 1 }
    }

    /// All domains, running or not.
    pub(in crate::guests) fn domains(&self) -> Result<Vec<Domain<'_>>, Error> {
        let mut list = std::ptr::null_mut();
        // SAFETY: an open connection, and a place for a list that becomes ours.
        let count = unsafe { (self.library.virConnectListAllDomains)(self.raw(), &mut list, 0) };
        let Ok(count) = usize::try_from(count) else { return Err(self.library.last_error()) };
        let mut domains = Vec::new();
        for place in 0..count {
            // SAFETY: the list has so many entries, each of them a reference of ours.
            let raw = NonNull::new(unsafe { *list.add(place) });
            domains.extend(raw.map(|raw| Domain { connection: self, raw }));
        }
        // SAFETY: the list was allocated by libvirt with malloc for us to free; its entries have moved.
        unsafe { libc::free(list.cast::<c_void>()) };
        Ok(domains)
    }

    /// The domain of this name; `None` if there is none.
    pub(in crate::guests) fn domain(&self, name: &str) -> Result<Option<Domain<'_>>, Error> {
        let name = c_string(name)?;
        // SAFETY: an open connection and a C string that outlives the call.
        let raw = unsafe { (self.library.virDomainLookupByName)(self.raw(), name.as_ptr()) };
        match NonNull::new(raw) {
            Some(raw) => Ok(Some(Domain { connection: self, raw })),
            None => match self.library.last_error() {
                Error::Libvirt { code, .. } if u32::try_from(code) == Ok(sys::VIR_ERR_NO_DOMAIN) => Ok(None),
                error => Err(error),
            },
        }
    }

    pub(super) fn raw(&self) -> sys::virConnectPtr {
        self.raw.as_ptr()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once.
        unsafe { (self.library.virConnectClose)(self.raw()) };
    }
}

/// A domain of a connection.
pub(in crate::guests) struct Domain<'a> {
    connection: &'a Connection,
    raw: NonNull<sys::_virDomain>,
}

impl Domain<'_> {
    /// Its XML: the live one if it runs. Does not ask the guest or its QEMU.
    pub(in crate::guests) fn xml(&self) -> Result<String, Error> {
        // SAFETY: a domain that we hold.
        let xml = unsafe { (self.library().virDomainGetXMLDesc)(self.raw.as_ptr(), 0) };
        if xml.is_null() {
            return Err(self.library().last_error());
        }
        // SAFETY: a C string that libvirt has made for us.
        let text = unsafe { text(xml) };
        // SAFETY: allocated with malloc, ours to free, and read.
        unsafe { libc::free(xml.cast::<c_void>()) };
        Ok(text.unwrap_or_default())
    }

    /// Attaches a device to the running domain, and to nothing else.
    pub(in crate::guests) fn attach(&self, xml: &str) -> Result<(), Error> {
        let xml = c_string(xml)?;
        // SAFETY: a domain that we hold and a C string that outlives the call.
        self.checked(unsafe {
            (self.library().virDomainAttachDeviceFlags)(self.raw.as_ptr(), xml.as_ptr(), LIVE)
        })
    }

    /// Asks the running domain to release the device with this alias.
    pub(in crate::guests) fn detach(&self, alias: &str) -> Result<(), Error> {
        let alias = c_string(alias)?;
        // SAFETY: a domain that we hold and a C string that outlives the call.
        self.checked(unsafe {
            (self.library().virDomainDetachDeviceAlias)(self.raw.as_ptr(), alias.as_ptr(), LIVE)
        })
    }

    #[cfg(test)]
    pub(super) fn raw(&self) -> sys::virDomainPtr {
        self.raw.as_ptr()
    }

    fn checked(&self, result: i32) -> Result<(), Error> {
        if result < 0 { Err(self.library().last_error()) } else { Ok(()) }
    }

    fn library(&self) -> &'static Library {
        self.connection.library
    }
}

/// Never 0: on a domain that is off that means its persistent configuration.
const LIVE: c_uint = sys::VIR_DOMAIN_AFFECT_LIVE;

impl Drop for Domain<'_> {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once.
        unsafe { (self.library().virDomainFree)(self.raw.as_ptr()) };
    }
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Nul(text.to_owned()))
}

/// Copies a string of libvirt's.
///
/// # Safety
/// Null, or a C string that stays during the call.
pub(super) unsafe fn text(raw: *const c_char) -> Option<String> {
    if raw.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    Some(unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned())
}
