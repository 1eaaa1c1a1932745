//! Base64url without padding, as tokens are written (RFC 7515 §2, RFC 4648 §5): one spelling for each run of octets.
//!
//! Written out because it is most of the work beside the signature: four letters at a time, each looked up in a table that
//! has its bits where they belong. A property test compares it with the general engine, which takes several times as long.

/// Appends the octets to `octets`, or gives `None` for anything but canonical base64url without padding: another
/// letter, a length that no octets have, or bits after the last octet that are not zero. It may have appended some then.
pub(crate) fn decode_into(octets: &mut Vec<u8>, text: &str) -> Option<()> {
    let (groups, rest) = text.as_bytes().as_chunks::<4>();
    let begin = octets.len();
    octets.resize(begin + groups.len() * 3, 0);
    let mut all = 0;
    for (three, [a, b, c, d]) in octets[begin..].as_chunks_mut::<3>().0.iter_mut().zip(groups) {
        let bits = bits(0, *a) | bits(1, *b) | bits(2, *c) | bits(3, *d);
        all |= bits;
        let [_, octets @ ..] = bits.to_be_bytes();
        *three = octets;
    }
    let (last, unused) = match *rest {
        [] => (0, 0),
        [a, b] => (bits(0, a) | bits(1, b), 0xFFFF),
        [a, b, c] => (bits(0, a) | bits(1, b) | bits(2, c), 0xFF),
        _ => return None,
    };
    let [_, last_octets @ ..] = last.to_be_bytes();
    octets.extend_from_slice(&last_octets[..rest.len().saturating_sub(1)]);
    ((all | last) & NO_LETTER == 0 && last & unused == 0).then_some(())
}

/// What a letter at that place of a group of four adds to the group's 24 bits.
#[inline]
fn bits(place: usize, letter: u8) -> u32 {
    BITS[place][usize::from(letter)]
}

const BITS: [[u32; 256]; 4] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = [[NO_LETTER; 256]; 4];
    let mut place = 0;
    while place < 4 {
        let mut value = 0;
        while value < alphabet.len() {
            bits[place][alphabet[value] as usize] = (value as u32) << (18 - 6 * place);
            value += 1;
        }
        place += 1;
    }
    bits
};

/// A bit that no group has.
const NO_LETTER: u32 = 1 << 24;

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
