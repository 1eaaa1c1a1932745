//! Base64url without padding, as tokens are written (RFC 7515 §2, RFC 4648 §5): one spelling for each run of octets.
//!
//! Written out because it is most of the work beside the signature: four letters at a time, one look at a table each,
//! which takes half the time of the general engine. A property test compares the two.

/// Appends the octets to `octets`, or gives `None` for anything but canonical base64url without padding: another
/// letter, a length that no octets have, or bits after the last octet that are not zero. It may have appended some then.
pub(crate) fn decode_into(octets: &mut Vec<u8>, text: &str) -> Option<()> {
    let (groups, rest) = text.as_bytes().as_chunks::<4>();
    let begin = octets.len();
    octets.resize(begin + groups.len() * 3, 0);
    let mut all = 0;
    for (three, [a, b, c, d]) in octets[begin..].as_chunks_mut::<3>().0.iter_mut().zip(groups) {
        let bits = value(*a) << 18 | value(*b) << 12 | value(*c) << 6 | value(*d);
        all |= value(*a) | value(*b) | value(*c) | value(*d);
        *three = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
    }
    let (bits, unused) = match *rest {
        [] => (0, 0),
        [a, b] => {
            all |= value(a) | value(b);
            octets.push((value(a) << 2 | value(b) >> 4) as u8);
            (value(b), 0b1111)
        }
        [a, b, c] => {
            all |= value(a) | value(b) | value(c);
            octets.push((value(a) << 2 | value(b) >> 4) as u8);
            octets.push((value(b) << 4 | value(c) >> 2) as u8);
            (value(c), 0b11)
        }
        _ => return None,
    };
    (all & NO_LETTER == 0 && bits & unused == 0).then_some(())
}

#[inline]
fn value(letter: u8) -> u32 {
    u32::from(VALUES[usize::from(letter)])
}

/// What a letter stands for.
const VALUES: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut values = [NO_LETTER as u8; 256];
    let mut value = 0;
    while value < alphabet.len() {
        values[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// A bit that no value has.
const NO_LETTER: u32 = 0x80;

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> Option<Vec<u8>> {
        let mut octets = b"before".to_vec();
        decode_into(&mut octets, text)?;
        octets.strip_prefix(b"before").map(<[u8]>::to_vec)
    }

    #[test]
    fn every_pair_of_letters_is_read_as_the_engine_reads_it() {
        for first in 0..=0x7f_u8 {
            for second in 0..=0x7f_u8 {
                let pair = format!("{}{}", char::from(first), char::from(second));
                for text in [pair.clone(), format!("AA{pair}"), format!("A{pair}"), format!("AAAA{pair}AAA")] {
                    assert_eq!(decode(&text), URL_SAFE_NO_PAD.decode(&text).ok(), "{text:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_is_decoded(octets in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(decode(&URL_SAFE_NO_PAD.encode(&octets)), Some(octets));
        }

        #[test]
        fn any_text_is_read_as_the_engine_reads_it(text in "[A-Za-z0-9_-]{0,20}[=+/ é]?[A-Za-z0-9_-]{0,3}") {
            prop_assert_eq!(decode(&text), URL_SAFE_NO_PAD.decode(&text).ok());
        }
    }
}
