//! The line before a chunk: its size in hexadecimal, and extensions that nobody reads.

use crate::listen::violation::Violation;

/// How long the line may be. Signed uploads put some 90 bytes behind the size.
const LINE_BYTES_MAX: usize = 1024;
/// How much the extensions of one body may come to; they are no body, so nobody else counts them.
pub(super) const EXTENSION_BYTES_MAX: usize = 16 << 10;
/// A size of more digits has leading zeros or does not fit.
const DIGITS_MAX: usize = 16;

/// The size, the length of the line with its end, and how much of that is extensions; `None` while the line
/// is not whole.
pub(super) fn read_line(bytes: &[u8]) -> Result<Option<(u64, usize, usize)>, Violation> {
    let digits = bytes.iter().take_while(|it| it.is_ascii_hexdigit()).count();
    if digits > DIGITS_MAX || (digits == 0 && !bytes.is_empty()) {
        return Err(Violation::ChunkSize);
    }
    let rest = &bytes[digits..];
    if rest.first().is_some_and(|it| *it != b';' && *it != b'\r') {
        return Err(if rest[0] == b'\n' { Violation::LineEnd } else { Violation::ChunkSize });
    }
    let extension_bytes = rest.iter().take_while(|it| is_text(**it)).count();
    if digits + extension_bytes + 2 > LINE_BYTES_MAX {
        return Err(Violation::ChunkSize);
    }
    match &rest[extension_bytes..] {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] => return Ok(None),
        [b'\r' | b'\n', ..] => return Err(Violation::LineEnd),
        [_, ..] => return Err(Violation::ChunkSize),
    }
    let text = std::str::from_utf8(&bytes[..digits]).expect("hexadecimal digits are ASCII");
    let size = u64::from_str_radix(text, 16).map_err(|_| Violation::ChunkSize)?;
    // Nobody sends that much, and other readers count with a sign.
    if size > i64::MAX as u64 {
        return Err(Violation::ChunkSize);
    }
    Ok(Some((size, digits + extension_bytes + 2, extension_bytes)))
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
