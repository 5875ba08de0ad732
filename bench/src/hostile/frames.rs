//! HTTP/2 frames, byte by byte, since no good library lets one write bad ones.

/// What an HTTP/2 connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;

/// One frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block that asks for a path, without compression. Names and values stay under 127 bytes.
pub(super) fn head(path: &str) -> Vec<u8> {
    [(":method", "GET"), (":scheme", "http"), (":authority", "bench.test"), (":path", path)]
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

/// One header of a block, without compression.
pub(super) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len().min(126)).unwrap_or(126));
        bytes.extend(text.bytes().take(126));
    }
    bytes
}

/// The preface and SETTINGS with one value.
pub(super) fn opening(setting: u16, value: u32) -> Vec<u8> {
    let mut payload = setting.to_be_bytes().to_vec();
    payload.extend(value.to_be_bytes());
    [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &payload)].concat()
}
