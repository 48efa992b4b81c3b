//! What a connection tells by itself: that something happened to a domain, and its own end. The callbacks run on
//! libvirt's event thread; they copy a name, send it, and call nothing that asks the daemon.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use virt_sys as sys;

use super::connection::{self, Connection, Error};
use super::library;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guests) enum Notice {
    /// Something happened to the domain of this name, perhaps its end.
    Changed(String),
    /// The connection has ended, and why.
    Closed(&'static str),
}

pub(super) type Tell = dyn Fn(Notice) + Send + Sync;

/// A connection that tells. It ends when this is dropped.
pub(in crate::guests) struct Watched {
    connection: Connection,
    registered: Vec<c_int>,
    tells_its_end: bool,
}

impl Watched {
    /// Has every change of every domain, and the connection's end, told from now on.
    pub(in crate::guests) fn new(connection: Connection, tell: Arc<Tell>) -> Result<Self, Error> {
        let mut watched = Self { connection, registered: Vec::new(), tells_its_end: false };
        watched.register_end(&tell)?;
        watched.register(sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, Callback::Lifecycle(lifecycle), &tell)?;
        watched.register(sys::VIR_DOMAIN_EVENT_ID_REBOOT, Callback::Plain(plain), &tell)?;
        for event in [
            sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
            sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
        ] {
            watched.register(event, Callback::Device(device), &tell)?;
        }
        Ok(watched)
    }

    /// The connection, to ask on.
    pub(in crate::guests) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn register(&mut self, event: u32, callback: Callback, tell: &Arc<Tell>) -> Result<(), Error> {
        let library = self.connection.library;
        let Ok(event) = c_int::try_from(event) else { return Ok(()) };
        let opaque = give(tell);
        // SAFETY: an open connection, all domains, the kind of callback that belongs to the event, and a box that
        // `release` takes back.
        let id = unsafe {
            (library.virConnectDomainEventRegisterAny)(
                self.connection.raw(),
                std::ptr::null_mut(),
                event,
                Some(callback.generic()),
                opaque,
                Some(release),
            )
        };
        if id < 0 {
            let error = library.last_error();
            // SAFETY: what could not be registered is not released by libvirt.
            unsafe { release(opaque) };
            return Err(error);
        }
        self.registered.push(id);
        Ok(())
    }

    /// Not every driver has an end: one within the process has none.
    fn register_end(&mut self, tell: &Arc<Tell>) -> Result<(), Error> {
        let library = self.connection.library;
        let opaque = give(tell);
        // SAFETY: an open connection, and a box that `release` takes back.
        let result = unsafe {
            (library.virConnectRegisterCloseCallback)(
                self.connection.raw(),
                Some(closed),
                opaque,
                Some(release),
            )
        };
        self.tells_its_end = result == 0;
        if self.tells_its_end {
            return Ok(());
        }
        let error = library.last_error();
        // SAFETY: what could not be registered is not released by libvirt.
        unsafe { release(opaque) };
        match error {
            Error::Libvirt { code, .. } if u32::try_from(code) == Ok(sys::VIR_ERR_NO_SUPPORT) => Ok(()),
            error => Err(error),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let (library, raw) = (self.connection.library, self.connection.raw());
        for &id in &self.registered {
            // SAFETY: registered on this connection, which is still ours.
            unsafe { (library.virConnectDomainEventDeregisterAny)(raw, id) };
        }
        if self.tells_its_end {
            // SAFETY: as above.
            unsafe { (library.virConnectUnregisterCloseCallback)(raw, Some(closed)) };
        }
    }
}

/// The forms that events have; each event has one of them (libvirt-domain.h).
enum Callback {
    Lifecycle(
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int,
    ),
    Plain(unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void)),
    Device(unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void)),
}

impl Callback {
    /// All forms travel as one (`VIR_DOMAIN_EVENT_CALLBACK`).
    fn generic(&self) -> unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void) {
        match *self {
            // SAFETY: libvirt casts it back before it calls.
            Self::Lifecycle(callback) => unsafe {
                std::mem::transmute::<
                    unsafe extern "C" fn(
                        sys::virConnectPtr,
                        sys::virDomainPtr,
                        c_int,
                        c_int,
                        *mut c_void,
                    ) -> c_int,
                    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
                >(callback)
            },
            Self::Plain(callback) => callback,
            // SAFETY: as above.
            Self::Device(callback) => unsafe {
                std::mem::transmute::<
                    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void),
                    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void),
                >(callback)
            },
        }
    }
}

/// A box per registration, which libvirt keeps.
fn give(tell: &Arc<Tell>) -> *mut c_void {
    Box::into_raw(Box::new(Arc::clone(tell))).cast()
}

/// Takes the box back. libvirt calls it once, when no callback can come any more.
unsafe extern "C" fn release(opaque: *mut c_void) {
    // SAFETY: made by `give`.
    drop(unsafe { Box::from_raw(opaque.cast::<Arc<Tell>>()) });
}

/// # Safety
/// `opaque` is of [`give`], and not released.
unsafe fn tell(opaque: *mut c_void, notice: Notice) {
    // SAFETY: as the caller promises.
    let tell = unsafe { &*opaque.cast::<Arc<Tell>>() };
    tell(notice);
}

/// # Safety
/// As a callback gets them from libvirt.
unsafe fn changed(domain: sys::virDomainPtr, opaque: *mut c_void) {
    let Some(library) = library::loaded() else { return };
    // SAFETY: libvirt holds the domain during the callback, and its name with it.
    let name = unsafe { connection::text((library.virDomainGetName)(domain)) };
    if let Some(name) = name {
        // SAFETY: libvirt hands on what it was given at the registration.
        unsafe { tell(opaque, Notice::Changed(name)) };
    }
}

unsafe extern "C" fn lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: from libvirt.
    unsafe { changed(domain, opaque) };
    0
}

unsafe extern "C" fn plain(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: from libvirt.
    unsafe { changed(domain, opaque) };
}

unsafe extern "C" fn device(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: from libvirt.
    unsafe { changed(domain, opaque) };
}

unsafe extern "C" fn closed(_: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    let why = match u32::try_from(reason) {
        Ok(sys::VIR_CONNECT_CLOSE_REASON_EOF) => "its daemon has ended",
        Ok(sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE) => "its daemon does not answer",
        _ => "the connection has failed",
    };
    // SAFETY: libvirt hands on what it was given at the registration.
    unsafe { tell(opaque, Notice::Closed(why)) };
}
