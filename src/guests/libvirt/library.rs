//! The functions of libvirt.so, by dlopen(3). Once loaded it stays.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use libloading::os::unix as dynamic;
use virt_sys as sys;

use super::Error;

/// The name that libvirt has had since its first release.
const NAME: &str = "libvirt.so.0";

/// Declares the table, reads it from the library, and compares each signature with that of the bindings.
macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)+) => {
        /// What is used of libvirt; see its documentation by these names.
        #[expect(non_snake_case, reason = "libvirt's own names")]
        pub(super) struct Library {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)+
        }

        $(const _: unsafe extern "C" fn($($argument),*) $(-> $result)? = sys::$name;)+

        impl Library {
            fn find(library: &dynamic::Library) -> Result<Self, libloading::Error> {
                // SAFETY: the signatures are those of libvirt's header, which the constants above compare.
                Ok(unsafe { Self { $($name: *library.get(concat!(stringify!($name), "\0").as_bytes())?,)+ } })
            }
        }
    };
}

functions! {
    virInitialize: fn() -> c_int;
    virSetErrorFunc: fn(*mut c_void, sys::virErrorFunc);
    virGetLastErrorCode: fn() -> c_int;
    virGetLastErrorMessage: fn() -> *const c_char;
    virEventRegisterDefaultImpl: fn() -> c_int;
    virEventRunDefaultImpl: fn() -> c_int;
    virConnectOpen: fn(*const c_char) -> sys::virConnectPtr;
    virConnectClose: fn(sys::virConnectPtr) -> c_int;
    virConnectIsAlive: fn(sys::virConnectPtr) -> c_int;
    virConnectSetKeepAlive: fn(sys::virConnectPtr, c_int, c_uint) -> c_int;
    virConnectRegisterCloseCallback:
        fn(sys::virConnectPtr, sys::virConnectCloseFunc, *mut c_void, sys::virFreeCallback) -> c_int;
    virConnectUnregisterCloseCallback: fn(sys::virConnectPtr, sys::virConnectCloseFunc) -> c_int;
    virConnectDomainEventRegisterAny:
        fn(
            sys::virConnectPtr,
            sys::virDomainPtr,
            c_int,
            sys::virConnectDomainEventGenericCallback,
            *mut c_void,
            sys::virFreeCallback
        ) -> c_int;
    virConnectDomainEventDeregisterAny: fn(sys::virConnectPtr, c_int) -> c_int;
    virConnectListAllDomains: fn(sys::virConnectPtr, *mut *mut sys::virDomainPtr, c_uint) -> c_int;
    virDomainLookupByName: fn(sys::virConnectPtr, *const c_char) -> sys::virDomainPtr;
    virDomainFree: fn(sys::virDomainPtr) -> c_int;
    virDomainGetName: fn(sys::virDomainPtr) -> *const c_char;
    virDomainGetXMLDesc: fn(sys::virDomainPtr, c_uint) -> *mut c_char;
    virDomainAttachDeviceFlags: fn(sys::virDomainPtr, *const c_char, c_uint) -> c_int;
    virDomainDetachDeviceAlias: fn(sys::virDomainPtr, *const c_char, c_uint) -> c_int;
}

static LOADED: OnceLock<Library> = OnceLock::new();

/// The library, with its event loop running. The loop is the process's only one, and stands before the first
/// connection (virEventRegisterDefaultImpl).
pub(super) fn library() -> Result<&'static Library, Error> {
    static LOADING: Mutex<()> = Mutex::new(());
    let _one = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = LOADED.get() {
        return Ok(library);
    }
    let loaded = load().map_err(|error| Error::Library(error.to_string()))?;
    loaded.start()?;
    Ok(LOADED.get_or_init(|| loaded))
}

/// The library, in its own callbacks.
pub(super) fn loaded() -> Option<&'static Library> {
    LOADED.get()
}

fn load() -> Result<Library, libloading::Error> {
    // SAFETY: its initialisers are those of a library that is made to be linked.
    let library = unsafe { dynamic::Library::new(NAME) }?;
    let functions = Library::find(&library)?;
    // Never closed: its threads and ours have its code on their stacks.
    let _ = library.into_raw();
    Ok(functions)
}

impl Library {
    fn start(&self) -> Result<(), Error> {
        // SAFETY: first thing of all, and more than once does no harm (virInitialize).
        let ready = unsafe { (self.virInitialize)() } == 0;
        if !ready {
            return Err(self.last_error());
        }
        // SAFETY: the handler takes any arguments. Without one each error is printed to standard error.
        unsafe { (self.virSetErrorFunc)(std::ptr::null_mut(), Some(quiet)) };
        // SAFETY: there is no other event loop: this function runs until it succeeds, and not again.
        let registered = unsafe { (self.virEventRegisterDefaultImpl)() } == 0;
        if !registered {
            return Err(self.last_error());
        }
        let run = self.virEventRunDefaultImpl;
        let events = thread::Builder::new().name("libvirt-events".into());
        let spawned = events.spawn(move || {
            loop {
                // SAFETY: the default implementation is registered.
                if unsafe { run() } < 0 {
                    // poll(2) has failed: out of memory. It is tried again, but not at full speed.
                    thread::sleep(Duration::from_secs(1));
                }
            }
        });
        spawned.map(drop).map_err(|error| Error::Library(format!("out of threads: {error}")))
    }

    /// What libvirt says of the last call on this thread that failed.
    pub(super) fn last_error(&self) -> Error {
        // SAFETY: both read what this thread's last call left.
        let (code, message) = unsafe { ((self.virGetLastErrorCode)(), (self.virGetLastErrorMessage)()) };
        // SAFETY: a string of libvirt's, which stays until the next call on this thread.
        let message = unsafe { super::connection::text(message) };
        Error::Libvirt { code, message: message.unwrap_or_default() }
    }
}

unsafe extern "C" fn quiet(_: *mut c_void, _: sys::virErrorPtr) {}
