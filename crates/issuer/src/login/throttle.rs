//! How often one network address may fail to sign in, in the memory of this process. Accounts are counted in the
//! database, for all replicas together; this only keeps one machine from trying its way through many of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::LimitSettings;

/// The failures of addresses. Instants are those of [`Clock::elapsed`](crate::edges::Clock::elapsed).
pub(super) struct Addresses {
    allowed: u32,
    window: Duration,
    seen: Mutex<HashMap<IpAddr, Failures>>,
}

struct Failures {
    count: u32,
    /// When they no longer count, and an address that had too many may try again.
    over_at: Duration,
}

impl Addresses {
    pub(super) fn new(limits: &LimitSettings) -> Self {
        Self { allowed: limits.address_failures, window: limits.address_window, seen: Mutex::default() }
    }

    /// How long an address has to wait; `None` when it may try.
    pub(super) fn wait(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let seen = self.seen();
        let failures = seen.get(&household(address)).filter(|it| it.count >= self.allowed)?;
        failures.over_at.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// Counts a failure.
    pub(super) fn note_failure(&self, address: IpAddr, now: Duration) {
        let mut seen = self.seen();
        let address = household(address);
        if seen.len() >= CAPACITY && !seen.contains_key(&address) {
            seen.retain(|_, failures| failures.over_at > now);
            // Whoever has this many addresses is not stopped by counting them; memory must not grow for it.
            if seen.len() >= CAPACITY {
                seen.clear();
            }
        }
        let over_at = now + self.window;
        let failures = seen.entry(address).or_insert(Failures { count: 0, over_at });
        if failures.over_at <= now {
            *failures = Failures { count: 0, over_at };
        }
        failures.count = failures.count.saturating_add(1);
        if failures.count == self.allowed {
            failures.over_at = over_at;
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<IpAddr, Failures>> {
        // Counts are whole at every point where this could panic.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one household or machine has: an IPv4 address, or 2^64 of IPv6 (RFC 6177).
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Some 4 MiB.
const CAPACITY: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn addresses() -> Addresses {
        Addresses { allowed: 3, window: Duration::from_secs(60), seen: Mutex::default() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn an_address_that_failed_too_often_waits() {
        let addresses = addresses();
        addresses.note_failure(A, at(0));
        addresses.note_failure(A, at(1));
        assert_eq!(addresses.wait(A, at(1)), None);

        addresses.note_failure(A, at(50));

        assert_eq!(addresses.wait(A, at(50)), Some(Duration::from_secs(60)));
        assert_eq!(addresses.wait(A, at(109)), Some(Duration::from_secs(1)));
        assert_eq!(addresses.wait(A, at(110)), None);
        assert_eq!(addresses.wait(Ipv4Addr::new(192, 0, 2, 2).into(), at(50)), None, "another address");
    }

    #[test]
    fn failures_are_forgotten_after_a_while() {
        let addresses = addresses();
        addresses.note_failure(A, at(0));
        addresses.note_failure(A, at(1));

        addresses.note_failure(A, at(60));

        assert_eq!(addresses.wait(A, at(60)), None);
    }

    #[test]
    fn the_addresses_of_one_household_are_one() {
        let addresses = addresses();
        for last in 1..=3_u128 {
            addresses.note_failure(IpAddr::V6((0x2001_0db8_u128 << 96 | last).into()), at(0));
        }

        assert!(addresses.wait("2001:db8::ffff".parse().expect("an address"), at(1)).is_some());
        assert!(addresses.wait("2001:db8:0:1::1".parse().expect("an address"), at(1)).is_none());
    }

    #[test]
    fn memory_does_not_grow_without_end() {
        let addresses = addresses();
        for number in 0..=u32::try_from(CAPACITY).expect("it fits") {
            addresses.note_failure(IpAddr::V4(number.into()), at(0));
        }

        assert!(addresses.seen().len() <= CAPACITY);
    }
}
