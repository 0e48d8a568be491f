//! Nix's base 32: its own alphabet, least significant digit last.

/// The 32 digits: no `e`, `o`, `u`, `t`.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// How many digits `bytes` bytes take.
pub const fn encoded_length(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes * 8 - 1) / 5 + 1 }
}

/// Writes bytes in base 32.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |index: usize| {
        let (byte, shift) = (index * 5 / 8, index * 5 % 8);
        let low = u16::from(bytes[byte]);
        let high = bytes.get(byte + 1).copied().map_or(0, u16::from);
        char::from(ALPHABET[usize::from(((high << 8 | low) >> shift) & 31)])
    };
    (0..encoded_length(bytes.len())).rev().map(digit).collect()
}

/// The value of one digit.
pub fn digit_value(digit: u8) -> Option<u8> {
    ALPHABET.iter().position(|&known| known == digit).and_then(|position| u8::try_from(position).ok())
}

/// Reads `N` bytes from exactly as many digits as they take; bits that would overflow are refused.
pub fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    decode_into(text, &mut bytes).then_some(bytes)
}

/// [`decode`] for a length known only at run time.
pub fn decode_into(text: &[u8], bytes: &mut [u8]) -> bool {
    if text.len() != encoded_length(bytes.len()) {
        return false;
    }
    bytes.fill(0);
    for (index, &digit) in text.iter().rev().enumerate() {
        let Some(value) = digit_value(digit) else { return false };
        let (byte, shift) = (index * 5 / 8, index * 5 % 8);
        let [low, high] = (u16::from(value) << shift).to_le_bytes();
        bytes[byte] |= low;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= high,
            None if high != 0 => return false,
            None => (),
        }
    }
    true
}
