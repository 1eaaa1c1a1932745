//! All that can happen to small fleets, searched to the end (with stateright).
//!
//! A world is a database, replicas with skewed clocks, and every verifier there could be. Time passes in ticks. In each
//! of them a replica may read the rows or not (a poll, a notification that was late or lost, a partition), store what it
//! planned on rows that may be old by then (twice, late, or never), crash and start; an operator may act; the fleet may
//! restart with another policy. The rows, the signer, the published set, the plans and an operator's steps come from the
//! code of this crate; only the database's rules are told again ([`answers::stored`]).
//!
//! Three things keep worlds small and lose nothing:
//! - States are told relative to now ([`state`]), so there is no horizon: a search that ends has seen all of time.
//! - Verifiers and tokens are not drawn but all there at once. Every replica that can answers a verifier and signs a
//!   token in every state. What is kept is for how long a set without a key may still be in use, in whichever caches,
//!   and for how long the last token of a key may be accepted, by whichever clock. Both at once is a refused token.
//! - Replicas differ only in what they hold, so their order does not count.
//!
//! The tightest policy is `announce = cached + 2 × poll + clock_skew`, rotations `announce + clock_skew` apart and
//! `max_staleness = announce − clock_skew`, with a tick for `poll` and sets that may be in use for `cached` ticks after
//! they were served. Explored to the end:
//!
//! | world | replicas | cached | skew | apart | lifetime | states |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | any read and plan late or lost | 1 | 2 | 1 | 1 | 2 | 8,629 |
//! | the same | 2 | 2 | 1 | 2 | 2 | 280,875 |
//! | the same | 2 | 1 | 2 | 2 | 3 | 1,186,274 |
//! | the same | 3 | 1 | 0 | 0 | 1 | 13,786 |
//! | nothing late, so that I6 holds as well | 2 | 2 | 2 | 4 | 3 | 7,031 |
//! | crashes | 2 | 1 | 1 | 2 | 1 | 229,006 |
//! | clocks that step | 2 | 1 | 1 | 1 | 1 | 149,020 |
//! | a revocation of any key that waits or signs | 2 | 1 | 0 | 0 | 1 | 172,052 |
//! | two revocations, nothing late | 2 | 1 | 1 | 1 | 1 | 377,623 |
//! | a safe rotation, by slower timetable | 2 | 1 | 1 | 1 | 1 | 264,813 |
//! | sets cached for longer after a restart | 2 | 1, 3 | 1 | 1 | 1 | 832,580 |
//! | sets cached for less, announced as long | 2 | 3, 2 | 1 | 1 | 1 | 411,997 |
//! | sets cached and announced for less, the ages in use honoured | 2 | 4, 1 | 1 | 1 | 1 | 659,411 |
//! | longer tokens after a restart | 2 | 1 | 1 | 1 | 1, 3 | 242,190 |
//! | shorter tokens after a restart | 2 | 1 | 1 | 1 | 3, 1 | 720,388 |
//! | more skew after a restart | 2 | 1 | 1, 2 | 1, 2 | 1 | 585,563 |
//!
//! Apart is how far two clocks are from each other: twice the skew where each may be off by it in either direction, as
//! it is promised, and once in the worlds that would have too many states otherwise.
//!
//! [`weakened`] has the counterexamples that each inequality is there for. Two more bounds are assumed there and in the
//! code: a plan is stored within a poll of the read it was made from (or its keys are postponed), and the age of a read
//! is measured by a clock that does not step.

mod answers;
mod invariants;
mod state;
mod weakened;
mod world;
mod worlds;
