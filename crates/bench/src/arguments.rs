//! What `cargo xtask bench` hands on.

use std::path::PathBuf;

/// What to measure, and with what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Small numbers and short rounds.
    pub(crate) quick: bool,
    /// Names of rows, or of groups of rows; empty for all.
    pub(crate) only: Vec<String>,
    /// Where the figures go as JSON.
    pub(crate) json: PathBuf,
    /// The program to measure.
    pub(crate) keywheel: PathBuf,
    /// The folder for databases and configurations: what is written there should reach a disk.
    pub(crate) folder: PathBuf,
    /// Where other people's libraries may be installed (`node`, `python`).
    pub(crate) clients: PathBuf,
    /// An empty PostgreSQL, if there is one.
    pub(crate) postgres: Option<String>,
}

impl Arguments {
    /// Reads the command line.
    ///
    /// # Errors
    /// What is wrong with it, for the person who wrote it.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let (mut quick, mut only) = (false, Vec::new());
        let (mut json, mut keywheel, mut folder, mut clients, mut postgres) = (None, None, None, None, None);
        let mut words = words.iter().copied().peekable();
        while let Some(word) = words.next() {
            let place = match word {
                "--quick" => {
                    quick = true;
                    continue;
                }
                "--only" => {
                    let before = only.len();
                    while let Some(name) = words.next_if(|word| !word.starts_with("--")) {
                        only.push(name.to_owned());
                    }
                    if only.len() == before {
                        return Err("--only needs the name of a row or a group".to_owned());
                    }
                    continue;
                }
                "--json" => &mut json,
                "--keywheel" => &mut keywheel,
                "--folder" => &mut folder,
                "--clients" => &mut clients,
                "--postgres" => &mut postgres,
                other => return Err(format!("there is no option {other}")),
            };
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            *place = Some(value.to_owned());
        }
        let needed = |value: Option<String>, name: &str| value.map(PathBuf::from).ok_or(format!("{name} is missing"));
        Ok(Self {
            quick,
            only,
            json: needed(json, "--json")?,
            keywheel: needed(keywheel, "--keywheel")?,
            folder: needed(folder, "--folder")?,
            clients: needed(clients, "--clients")?,
            postgres,
        })
    }

    /// Whether a row is to be measured; a group of rows, if one of its rows might be.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let below = |name: &str, start: &str| name.strip_prefix(start).is_some_and(|rest| rest.starts_with(['/', '-']));
        self.only.is_empty() || self.only.iter().any(|only| only == name || below(name, only) || below(only, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [&str; 8] = ["--json", "a.json", "--keywheel", "kw", "--folder", "f", "--clients", "c"];

    #[test]
    fn options_are_read_in_any_order() {
        let words = [&["--only", "token", "documents/jwks", "--quick"][..], &PLACES, &["--postgres", "postgres://x"]];

        let arguments = Arguments::parse(&words.concat()).expect("they are right");

        assert!(arguments.quick);
        assert_eq!(arguments.only, ["token", "documents/jwks"]);
        assert_eq!(arguments.json, PathBuf::from("a.json"));
        assert_eq!(arguments.postgres.as_deref(), Some("postgres://x"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let refused = |words: &[&str]| Arguments::parse(&[words, &PLACES].concat()).expect_err("it is wrong");

        assert_eq!(refused(&["--fast"]), "there is no option --fast");
        assert_eq!(refused(&["--only"]), "--only needs the name of a row or a group");
        assert_eq!(Arguments::parse(&["--json"]).expect_err("it is wrong"), "--json needs a value");
        assert_eq!(Arguments::parse(&[]).expect_err("it is wrong"), "--json is missing");
    }

    #[test]
    fn a_group_brings_its_rows_and_a_row_its_group() {
        let wants = |only: &str, name: &str| {
            Arguments::parse(&[&["--only", only][..], &PLACES].concat()).expect("they are right").wants(name)
        };

        assert!(wants("token", "token/ES256") && wants("token/ES256", "token") && wants("token", "token"));
        assert!(wants("growth/keys", "growth/keys-jwks") && !wants("growth/keys-jwks", "growth/keys-token"));
        assert!(!wants("token/ES256", "token/RS256") && !wants("tok", "token") && !wants("login", "token/ES256"));
        assert!(Arguments::parse(&PLACES).expect("they are right").wants("anything"));
    }
}
