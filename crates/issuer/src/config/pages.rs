//! `[pages]`: how the pages for people look, and what they link to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::section::Section;
use crate::clients::WebUri;
use crate::login::languages;

/// `[pages]`: name, look and language of the pages for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSettings {
    /// What the pages call the issuer, up to 80 characters. Default Keywheel.
    pub name: String,
    /// The file with its logo: svg, png, jpg or webp, served by the issuer itself. Default none.
    pub logo_file: Option<PathBuf>,
    /// The colour of buttons and links, or `None` for the theme's own.
    pub accent: Option<Colour>,
    /// A folder with templates that replace the built-in ones of the same name. Default none.
    pub templates: Option<PathBuf>,
    /// The language of people whose browser asks for none that there is, such as `en`. Default en.
    pub language: String,
    /// Where the terms of service are. Default nowhere, and no link.
    pub terms_uri: Option<WebUri>,
    /// Where it says what becomes of people's data. Default nowhere, and no link.
    pub privacy_uri: Option<WebUri>,
}

/// A colour; displays as `#rrggbb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    /// Red, green and blue.
    pub rgb: [u8; 3],
}

impl PageSettings {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        PageSettings {
            name: section.parsed("name", parse_name).unwrap_or_else(|| DEFAULT_NAME.to_owned()),
            logo_file: section.parsed("logo_file", parse_logo),
            accent: section.parsed("accent", str::parse),
            templates: section.parsed("templates", parse_folder),
            language: section.parsed("language", parse_language).unwrap_or_else(|| DEFAULT_LANGUAGE.to_owned()),
            terms_uri: section.parsed("terms_uri", WebUri::parse),
            privacy_uri: section.parsed("privacy_uri", WebUri::parse),
        }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.rgb;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

impl FromStr for Colour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(|| format!("expected a colour such as #0b57d0, found {text:?}"))?;
        let [_, red, green, blue] = number.to_be_bytes();
        Ok(Colour { rgb: [red, green, blue] })
    }
}

fn parse_name(text: &str) -> Result<String, &'static str> {
    let fits = !text.trim().is_empty() && text.chars().count() <= 80 && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("expected 1 to 80 characters in one line") }
}

fn parse_logo(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if !LOGO_EXTENSIONS.contains(&extension) {
        return Err(format!("expected a file that ends in .svg, .png, .jpg or .webp, found {text:?}"));
    }
    if path.is_file() { Ok(path.to_owned()) } else { Err(format!("there is no file {text}")) }
}

fn parse_folder(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.is_dir() { Ok(path.to_owned()) } else { Err(format!("there is no folder {text}")) }
}

/// A language that the pages are written in.
fn parse_language(text: &str) -> Result<String, String> {
    let language = languages().find(|known| *known == text).map(str::to_owned);
    language.ok_or_else(|| {
        format!("the pages are not written in {text:?}; there is {}", languages().collect::<Vec<_>>().join(", "))
    })
}

const DEFAULT_NAME: &str = "Keywheel";

const DEFAULT_LANGUAGE: &str = "en";

const LOGO_EXTENSIONS: [&str; 5] = ["svg", "png", "jpg", "jpeg", "webp"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_six_hexadecimal_digits() {
        let colour: Colour = "#0B57d0".parse().expect("a colour");

        assert_eq!((colour.rgb, colour.to_string()), ([0x0b, 0x57, 0xd0], "#0b57d0".to_owned()));
        for other in ["", "#", "0b57d0", "#0b57d", "#0b57d00", "#+b57d0", "blue", "#ßßß", "red;}body{"] {
            assert!(other.parse::<Colour>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_language_is_one_that_the_pages_are_written_in() {
        for language in ["en", "de"] {
            assert_eq!(parse_language(language).as_deref(), Ok(language));
        }
        for other in ["", "e", "EN", "en-GB", "../en", "fr", "english"] {
            let refusal = parse_language(other).expect_err(other);
            assert!(refusal.contains("there is en, de"), "{refusal}");
        }
    }

    #[test]
    fn a_name_fits_a_heading() {
        for other in ["", "  ", "a\nb", &"x".repeat(81)] {
            assert!(parse_name(other).is_err(), "{other:?}");
        }
        assert_eq!(parse_name("Müller & Söhne").as_deref(), Ok("Müller & Söhne"));
    }
}
