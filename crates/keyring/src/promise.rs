//! How long sets may still be cached that were handed out under another policy.
//!
//! `announce` covers the ages of the policy in force. When the ages are lowered (and `announce` with them), verifiers
//! still hold sets that were handed out under the higher ones; and while a fleet is restarted one by one, some replicas go
//! on handing out under the old policy. So the highest ages in use are remembered beside the keys, and every replica
//! announces new keys for at least as long as those need. They are lowered only when every set handed out under them
//! has ended.
//!
//! 1. A replica whose ages are the highest says so, and until when its sets may be cached (`held_until`), well ahead.
//! 2. A replica with lower ages leaves that as it is until `held_until` has passed, and only then lowers it.
//! 3. Keys are announced by the [policy that honours](RotationPolicy::honouring) what is remembered.

use std::time::Duration;

use keywheel_jose::Timestamp;

use crate::policy::RotationPolicy;

/// The highest ages under which key sets are handed out, or were so lately that some may still be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgesInUse {
    /// `jwks_max_age + jwks_shared_max_age`.
    pub ages: Duration,
    /// Until when a set with these ages may be cached.
    pub held_until: Timestamp,
}

impl AgesInUse {
    /// What is to be remembered from `now` on by a replica with this policy; `stored` is what is remembered.
    #[must_use]
    pub fn renewed(stored: Option<Self>, policy: &RotationPolicy, now: Timestamp) -> Self {
        let ages = policy.jwks_max_age() + policy.jwks_shared_max_age();
        // A replica that is cut off hands out sets for `jwks_staleness_bound` more, and each is cached for the ages; with
        // the skew that is `announce`, unless the least bound counts.
        let reach = policy.announce().max(policy.jwks_staleness_bound() + ages + policy.clock_skew());
        let renewed = Self { ages, held_until: now + 2 * reach };
        match stored {
            Some(stored) if ages < stored.ages && now < stored.held_until => stored,
            // Renewed at half time, so that it is written rarely.
            Some(stored) if ages == stored.ages && now + reach < stored.held_until => stored,
            // Never shortened, by whatever replica.
            Some(stored) if ages == stored.ages => {
                Self { held_until: renewed.held_until.max(stored.held_until), ..stored }
            }
            _ => renewed,
        }
    }
}

impl RotationPolicy {
    /// This policy with an `announce` that covers the `ages` in use as well (inequality 1).
    #[must_use]
    pub fn honouring(&self, ages: Duration) -> Self {
        if !self.is_safe {
            return self.clone();
        }
        let least = ages + self.replica_convergence() + self.clock_skew();
        self.clone().with_announce(self.announce().max(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RotationSettings;

    const NOW: Timestamp = Timestamp::from_unix(1_000_000);

    fn policy(max_age_s: u64, announce_s: u64) -> RotationPolicy {
        RotationPolicy::new(RotationSettings {
            jwks_max_age: Duration::from_secs(max_age_s),
            jwks_shared_max_age: Some(Duration::from_secs(1)),
            announce: Duration::from_secs(announce_s),
            poll: Duration::from_secs(1),
            clock_skew: Duration::from_secs(2),
            ..RotationSettings::default()
        })
        .expect("a safe policy")
    }

    #[test]
    fn the_first_replica_tells_its_ages_and_how_long_its_sets_reach() {
        let first = AgesInUse::renewed(None, &policy(10, 20), NOW);

        assert_eq!(first, AgesInUse { ages: Duration::from_secs(11), held_until: NOW + Duration::from_secs(40) });
    }

    #[test]
    fn it_is_renewed_at_half_time_and_not_at_every_visit() {
        let policy = policy(10, 20);
        let first = AgesInUse::renewed(None, &policy, NOW);
        let after = |seconds| AgesInUse::renewed(Some(first), &policy, NOW + Duration::from_secs(seconds));

        assert_eq!(after(19), first);
        assert_eq!(after(20).held_until, NOW + Duration::from_secs(60));
    }

    #[test]
    fn higher_ages_count_at_once_and_lower_ones_when_the_last_set_has_ended() {
        let (low, high) = (policy(10, 20), policy(100, 110));
        let first = AgesInUse::renewed(None, &low, NOW);

        let raised = AgesInUse::renewed(Some(first), &high, NOW);
        let early = AgesInUse::renewed(Some(raised), &low, NOW + Duration::from_secs(219));
        let late = AgesInUse::renewed(Some(raised), &low, NOW + Duration::from_secs(220));

        assert_eq!(raised.ages, Duration::from_secs(101));
        assert_eq!(early, raised);
        assert_eq!(late.ages, Duration::from_secs(11));
    }

    #[test]
    fn a_replica_that_still_has_the_higher_ages_keeps_them_in_use() {
        let (low, high) = (policy(10, 20), policy(100, 110));
        let mut stored = AgesInUse::renewed(None, &high, NOW);

        for second in 0..2_000 {
            let now = NOW + Duration::from_secs(second);
            stored = AgesInUse::renewed(Some(stored), &low, now);
            if second % 30 == 0 {
                stored = AgesInUse::renewed(Some(stored), &high, now);
            }
            assert_eq!(stored.ages, Duration::from_secs(101), "after {second} s");
        }
    }

    #[test]
    fn an_announcement_covers_the_ages_in_use() {
        let policy = policy(10, 20);

        assert_eq!(policy.honouring(Duration::from_secs(5)).announce(), Duration::from_secs(20));
        // 101 s, two polls of 1 s, and 2 s of skew
        assert_eq!(policy.honouring(Duration::from_secs(101)).announce(), Duration::from_secs(105));
    }
}
