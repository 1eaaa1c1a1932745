//! `cargo xtask soak`: the stories' soaks, for longer and with other numbers.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::check::{cargo, metadata};
use crate::{clients, run};

/// Options, and the variables by which the story learns of them.
const OPTIONS: [(&str, &str); 5] = [
    ("--minutes", "KEYWHEEL_SOAK_MINUTES"),
    ("--replicas", "KEYWHEEL_SOAK_REPLICAS"),
    ("--rotate-every", "KEYWHEEL_SOAK_ROTATE_EVERY"),
    ("--kill-every", "KEYWHEEL_SOAK_KILL_EVERY"),
    ("--outage", "KEYWHEEL_SOAK_OUTAGE"),
];
const STORY: &str = "soak::no_valid_token_is_refused_whatever_fails";

/// The option that soaks something else: rotations of refresh tokens, on both databases.
const REFRESH: (&str, &str) = ("--refresh", "KEYWHEEL_SOAK_REFRESH");
const REFRESH_STORIES: &str = "sign_in::races::many_rotations_lose_nobody";

/// The option, before all others, that soaks everything at once, and how many minutes that takes by itself.
const MIXED: (&str, &str) = ("--mixed", "10");
const MIXED_STORY: &str = "mixed::a_busy_day_with_a_rolling_restart_fails_nobody";

/// Builds the programs and runs the soak with `arguments`.
///
/// # Errors
/// An option that is not known, something missing that cannot be brought, or a soak that failed.
pub(crate) fn run_with(arguments: &[&str]) -> Result<()> {
    let (is_mixed, arguments) = match arguments {
        [first, rest @ ..] if *first == MIXED.0 => (true, rest),
        all => (false, all),
    };
    let mut settings = parse(arguments)?;
    if is_mixed && settings.is_empty() {
        settings.push((OPTIONS[0].1, MIXED.1));
    }
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata has no target_directory")?;
    clients::bring(&Path::new(target).join("test-clients"))?;
    run(cargo("build").args(["--workspace", "--bins", "--tests", "--locked"]))?;
    let story = match settings.iter().any(|(variable, _)| *variable == REFRESH.1) {
        true => &[REFRESH_STORIES][..],
        false if is_mixed => &["--exact", MIXED_STORY],
        false => &["--exact", STORY],
    };
    // Not nextest, which ends a test that takes minutes.
    let test = ["--workspace", "--locked", "--test", "stories", "--", "--nocapture"];
    run(cargo("test").args(test).args(story).envs(settings))
}

/// Options as variables; what their values mean is the story's to say.
fn parse<'a>(arguments: &[&'a str]) -> Result<Vec<(&'static str, &'a str)>> {
    let mut settings = Vec::new();
    for pair in arguments.chunks(2) {
        let known = OPTIONS.iter().chain([&REFRESH]).find(|(option, _)| *option == pair[0]);
        let (option, variable) = known.with_context(|| format!("soak has no option {}", pair[0]))?;
        let Some(value) = pair.get(1) else { bail!("{option} needs a number") };
        value.parse::<f64>().ok().filter(|number| *number > 0.0).with_context(|| {
            format!("{option} needs a number above zero (minutes, replicas, seconds or times), found {value:?}")
        })?;
        settings.push((*variable, *value));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_variables() {
        let settings = parse(&["--minutes", "10", "--replicas", "5"]).expect("options");

        assert_eq!(settings, [("KEYWHEEL_SOAK_MINUTES", "10"), ("KEYWHEEL_SOAK_REPLICAS", "5")]);
    }

    #[test]
    fn what_is_not_an_option_is_refused() {
        for wrong in [&["--minute", "1"][..], &["--minutes"], &["--minutes", "many"], &["--minutes", "0"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
