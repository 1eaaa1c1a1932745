//! `keywheel-gate explain`: every check of a token, for the question why it is refused.

use std::io::Read as _;
use std::time::Duration;

use clap::Args;
use keywheel_verifier::{Explained, Outcome, Verifier, VerifyError};
use tokio::time::{Instant, sleep};

use super::output::{Table, print};
use super::{Failure, chain};
use crate::config::Config;
use crate::gate::{Gate, TokenClaims};

#[derive(Args)]
pub(super) struct Explain {
    /// The token, or - to read it from standard input, where no process list shows it
    #[arg(value_name = "TOKEN")]
    token: String,
}

impl Explain {
    pub(super) async fn run(&self, config: Config) -> Result<(), Failure> {
        let token = self.read()?;
        let gate = Gate::build(config)?;
        let (text, verdict) = explain(gate.verifier(), token.trim()).await;
        print(&text).map_err(|error| Failure::failed(format!("cannot write the result: {error}")))?;
        verdict.map_err(|error| Failure::failed(chain(&error)))
    }

    fn read(&self) -> Result<String, Failure> {
        if self.token != "-" {
            return Ok(self.token.clone());
        }
        let mut token = String::new();
        let read = std::io::stdin().lock().take(MAX_INPUT).read_to_string(&mut token);
        read.map_err(|error| Failure::usage(format!("cannot read the token: {error}")))?;
        Ok(token)
    }
}

/// The checks as a table, and the verdict. A token that needs no key to be refused is explained without any, if they don't
/// come in time.
async fn explain(verifier: &Verifier, token: &str) -> (String, Result<(), VerifyError>) {
    let verdict = verifier.verify::<TokenClaims>(token).await.map(drop);
    let began = Instant::now();
    loop {
        match verifier.explain::<TokenClaims>(token) {
            Ok(checks) => return (table(&checks), verdict),
            Err(VerifyError::KeysUnavailable { .. })
                if verdict_needs_no_keys(&verdict) && began.elapsed() < PATIENCE =>
            {
                sleep(PAUSE).await;
            }
            Err(_) => return (String::new(), verdict),
        }
    }
}

/// Such a verdict came before the first keys were there.
fn verdict_needs_no_keys(verdict: &Result<(), VerifyError>) -> bool {
    matches!(verdict, Err(VerifyError::Rejected(_)))
}

fn table(checks: &[Explained]) -> String {
    let mut table = Table::new(["CHECK", "RESULT", "EXPECTED", "FOUND"]);
    for check in checks {
        let result = match check.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "FAILED",
            Outcome::NotReached => "-",
        };
        table.row([check.step.as_str().to_owned(), result.to_owned(), check.expected.clone(), check.found.clone()]);
    }
    table.render()
}

/// Longer than any token that is read.
const MAX_INPUT: u64 = 128 * 1024;
/// Longer than the first fetch of keys takes when all is well.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use keywheel_verifier::testing::FakeIssuer;

    use super::*;

    fn row<'t>(table: &'t str, check: &str) -> &'t str {
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(check));
        row.unwrap_or_else(|| panic!("no {check} in\n{table}"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_check_that_failed_stands_out() {
        let issuer = FakeIssuer::in_memory();
        let verifier = issuer.verifier().build().expect("a verifier");
        let token = issuer.token().audience("https://elsewhere.example").sign();

        let (text, verdict) = explain(&verifier, &token).await;

        assert!(matches!(verdict, Err(VerifyError::Rejected(_))));
        assert!(row(&text, "signature").contains("passed"), "{text}");
        assert!(row(&text, "audience").contains("FAILED") && row(&text, "audience").contains("elsewhere"), "{text}");
        assert!(!token.split('.').any(|part| text.contains(part)), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_holds_passes_every_check() {
        let issuer = FakeIssuer::in_memory();
        let verifier = issuer.verifier().build().expect("a verifier");

        let (text, verdict) = explain(&verifier, &issuer.token().sign()).await;

        assert_eq!(verdict, Ok(()));
        let checks: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(checks.len(), keywheel_verifier::Step::ALL.len(), "{text}");
        assert!(checks.iter().all(|line| line.contains("passed")), "{text}");
    }
}
