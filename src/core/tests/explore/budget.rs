//! How often what need not happen may happen in one search, which makes its states finite: within its budget a search
//! is complete. What happens by itself costs nothing: jobs end well, time passes, callers are looked at.

use super::super::hypervisor::End as Work;
use super::steps::{End, Step};

/// What is left of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// Accesses and walks.
    pub(super) callers: u8,
    /// Disks that are pulled and plugged in.
    pub(super) devices: u8,
    /// Jobs and work of guests that end badly or too late.
    pub(super) failures: u8,
    /// What others do to mounts.
    pub(super) others: u8,
    /// Guests that stop or lose what they have, connections that break.
    pub(super) guests: u8,
    /// Commands, reloads, signals to the daemon.
    pub(super) commands: u8,
}

impl Budget {
    /// What is left after this step; `None` = it cannot be paid.
    pub(super) fn after(mut self, step: Step) -> Option<Self> {
        let of = match step {
            Step::Enter(..) | Step::Walk(_) | Step::EnterInterrupted(_) => &mut self.callers,
            Step::Plug(_) | Step::Pull(_) => &mut self.devices,
            Step::End(_, End::Badly(_) | End::PreparedAlthoughPulled) => &mut self.failures,
            Step::Work(_, Work::OnlySaid | Work::DoneAllTheSame | Work::Failed | Work::Unanswered) => {
                &mut self.failures
            }
            Step::GuestStops(_) | Step::GuestLoses(..) | Step::Disconnect => &mut self.guests,
            Step::UnmountOutside(_) | Step::MoveOutside(_) | Step::CoverOutside(_) => &mut self.others,
            Step::Umount(..) | Step::Attach(..) | Step::Detach(_) => &mut self.commands,
            Step::Reload(_) | Step::Stop | Step::Signal | Step::RootGone => &mut self.commands,
            // They are bounded by what they follow.
            Step::Interrupt(_) | Step::Caller(..) | Step::GiveUp(_) | Step::Forget | Step::RootBusy => {
                return Some(self);
            }
            Step::End(_, End::Well) | Step::OthersGo | Step::ReadMounts | Step::Pass | Step::Tick => {
                return Some(self);
            }
            Step::Work(_, Work::Good) | Step::Look(_) | Step::GuestStarts(_) | Step::Connect => {
                return Some(self);
            }
        };
        *of = of.checked_sub(1)?;
        Some(self)
    }

    /// So many more of each kind, of what others, guests and commands do only if there is any.
    pub(super) fn with(self, more: u8) -> Self {
        let if_any = |count: u8| if count == 0 { 0 } else { count + more };
        Self {
            callers: self.callers + more,
            devices: self.devices + more,
            failures: self.failures + more,
            others: if_any(self.others),
            guests: if_any(self.guests),
            commands: if_any(self.commands),
        }
    }

    pub(super) fn bytes(self) -> [u8; 6] {
        let Self { callers, devices, failures, others, guests, commands } = self;
        [callers, devices, failures, others, guests, commands]
    }
}
