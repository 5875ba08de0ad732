//! Bytes as hexadecimal digits.

/// What the digits of either case say; `None` where they are no whole bytes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |it: u8| char::from(it).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|it| Some(digit(*it.first()?)? << 4 | digit(*it.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_bytes_are_read() {
        assert_eq!(decode("00ffAb"), Some(vec![0, 255, 171]));
        assert_eq!(decode(""), Some(vec![]));
        for wrong in ["0", "0g", "é0", "0x00", "+1"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
