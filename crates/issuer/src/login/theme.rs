//! How the pages look: one stylesheet, the mark, the operator's logo and accent colour. Each file has a hash of its
//! content in its address, so that browsers may keep it for ever.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;

use super::PagesError;
use crate::config::{Colour, PageSettings};

/// The look, and what pages say of who runs this.
pub(super) struct Theme {
    /// The addresses of the files, for templates.
    pub(super) stylesheet: String,
    pub(super) mark: String,
    pub(super) logo: Option<String>,
    /// What the pages call the issuer.
    pub(super) name: String,
    pub(super) terms: Option<String>,
    pub(super) privacy: Option<String>,
    files: Vec<File>,
}

/// A file that pages refer to.
pub(super) struct File {
    name: String,
    pub(super) content_type: HeaderValue,
    pub(super) bytes: Vec<u8>,
}

impl Theme {
    /// Reads the logo. `base` is the path of the issuer.
    ///
    /// # Errors
    /// [`PagesError::File`]
    pub(super) fn read(settings: &PageSettings, base: &str) -> Result<Self, PagesError> {
        let accent = Accent::of(settings.accent.unwrap_or(OWN_ACCENT));
        let stylesheet = file("pages", "css", format!("{STYLESHEET}{}", accent.css()).into_bytes());
        let mark = MARK.replace("ACCENT-ON-LIGHT", &accent.light).replace("ACCENT-ON-DARK", &accent.dark);
        let mark = file("mark", "svg", mark.into_bytes());
        let logo = settings.logo_file.as_deref().map(read_logo).transpose()?;
        let address = |file: &File| format!("{base}/static/{}", file.name);
        Ok(Self {
            stylesheet: address(&stylesheet),
            mark: address(&mark),
            logo: logo.as_ref().map(address),
            name: settings.name.clone(),
            terms: settings.terms_uri.as_ref().map(ToString::to_string),
            privacy: settings.privacy_uri.as_ref().map(ToString::to_string),
            files: [stylesheet, mark].into_iter().chain(logo).collect(),
        })
    }

    /// The file of this name.
    pub(super) fn file(&self, name: &str) -> Option<&File> {
        self.files.iter().find(|file| file.name == name)
    }
}

fn read_logo(path: &Path) -> Result<File, PagesError> {
    let bytes = std::fs::read(path).map_err(|source| PagesError::File { path: path.to_owned(), source })?;
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
    Ok(file("logo", extension, bytes))
}

fn file(stem: &str, extension: &str, bytes: Vec<u8>) -> File {
    let content_type = match extension {
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webp" => "image/webp",
        _ => "image/jpeg",
    };
    let hash = URL_SAFE_NO_PAD.encode(&digest(&SHA256, &bytes).as_ref()[..12]);
    File { name: format!("{stem}-{hash}.{extension}"), content_type: HeaderValue::from_static(content_type), bytes }
}

/// The accent as it is on light and on dark pages, and the colour of text on either.
struct Accent {
    light: String,
    on_light: &'static str,
    dark: String,
    on_dark: &'static str,
}

impl Accent {
    /// Makes a colour darker until it can be read on light pages. For dark ones it shines first, because a colour that is
    /// only mixed with white looks faded.
    fn of(Colour { rgb }: Colour) -> Self {
        let light = until_readable(rgb, LIGHT_PAPER, [0; 3]);
        let dark = until_readable(shining(rgb), DARK_CARD, [255; 3]);
        Self { light: hex(light), on_light: ink_on(light), dark: hex(dark), on_dark: ink_on(dark) }
    }

    fn css(&self) -> String {
        let Self { light, on_light, dark, on_dark } = self;
        format!(
            "\n:root {{ --accent: {light}; --on-accent: {on_light}; }}\n\
             @media (prefers-color-scheme: dark) {{ :root {{ --accent: {dark}; --on-accent: {on_dark}; }} }}\n"
        )
    }
}

/// Mixes `towards` in until the contrast to `ground` is what WCAG 2.2 §1.4.3 asks of text.
fn until_readable(rgb: [u8; 3], ground: [u8; 3], towards: [u8; 3]) -> [u8; 3] {
    let mixed = (0..=20_u16).map(|step| {
        std::array::from_fn(|it| {
            let (from, to) = (u16::from(rgb[it]), u16::from(towards[it]));
            u8::try_from((from * (20 - step) + to * step) / 20).unwrap_or(u8::MAX)
        })
    });
    mixed.into_iter().find(|it| contrast(*it, ground) >= READABLE).unwrap_or(towards)
}

/// The same hue, with its strongest part at least at [`SHINE`].
fn shining(rgb: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = rgb.map(u16::from);
    let strongest = red.max(green).max(blue);
    if strongest == 0 || strongest >= SHINE {
        return rgb;
    }
    [red, green, blue].map(|part| u8::try_from(part * SHINE / strongest).unwrap_or(u8::MAX))
}

fn ink_on(ground: [u8; 3]) -> &'static str {
    if contrast([255; 3], ground) >= READABLE { "#ffffff" } else { "#0c1311" }
}

/// WCAG 2.2, "contrast ratio".
fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// WCAG 2.2, "relative luminance".
fn luminance(rgb: [u8; 3]) -> f64 {
    let [red, green, blue] = rgb.map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

const STYLESHEET: &str = include_str!("static/pages.css");
const MARK: &str = include_str!("static/mark.svg");

/// The green of the mark.
const OWN_ACCENT: Colour = Colour { rgb: [0x0d, 0x6b, 0x5e] };

/// `--paper` of the stylesheet, the darker of the two light grounds.
const LIGHT_PAPER: [u8; 3] = [0xf4, 0xf3, 0xee];
/// `--card` of the stylesheet when it is dark, the lighter of the two dark grounds.
const DARK_CARD: [u8; 3] = [0x1a, 0x20, 0x1e];

/// Strong, and not yet neon.
const SHINE: u16 = 178;

/// For text of any size.
const READABLE: f64 = 4.5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contrast_is_that_of_the_guidelines() {
        assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 1e-9);
        assert!((contrast([0x77; 3], [255; 3]) - 4.48).abs() < 0.01);
    }

    #[test]
    fn the_grounds_are_those_of_the_stylesheet() {
        assert!(STYLESHEET.contains(&format!("--paper: {}", hex(LIGHT_PAPER))));
        assert!(STYLESHEET.contains(&format!("--card: {}", hex(DARK_CARD))));
    }

    proptest! {
        #[test]
        fn every_accent_can_be_read(rgb in any::<[u8; 3]>()) {
            let colour = |text: &str| text.parse::<Colour>().expect("a colour").rgb;
            let accent = Accent::of(Colour { rgb });

            prop_assert!(contrast(colour(&accent.light), LIGHT_PAPER) >= READABLE);
            prop_assert!(contrast(colour(&accent.dark), DARK_CARD) >= READABLE);
            prop_assert!(contrast(colour(&accent.light), colour(accent.on_light)) >= READABLE);
            prop_assert!(contrast(colour(&accent.dark), colour(accent.on_dark)) >= READABLE);
        }
    }
}
