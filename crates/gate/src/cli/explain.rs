//! `keywheel-gate explain`: why a token is accepted or refused.

use std::io::Read as _;

use clap::Args;
use keywheel_verifier::VerifyError;

use super::output::print;
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
        let verdict = gate.verifier().verify::<TokenClaims>(token.trim()).await;
        let (text, result) = match verdict {
            Ok(_) => ("the token holds\n".to_owned(), Ok(())),
            Err(VerifyError::KeysUnavailable { .. }) => {
                return Err(Failure::failed("the keys can't be fetched, so nobody can say whether the token holds"));
            }
            Err(error) => (format!("{}\n", chain(&error)), Err(Failure::failed("the token is refused"))),
        };
        print(&text).map_err(|error| Failure::failed(format!("cannot write the result: {error}")))?;
        result
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

/// Longer than any token that is read.
const MAX_INPUT: u64 = 128 * 1024;
