//! What a request tells the upstream to do, in header lines that count for nothing at the gateway.

use std::time::Duration;

use fastrand::Rng;

use crate::client::Ask;
use crate::time::ms;

/// How long the gateway waits for an answer of the upstream.
pub(crate) const RESPONSE_TIMEOUT: Duration = ms(2500);

/// How the upstream ends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// An answer that is stored.
    Answer(u16),
    /// An answer that is stored, without an effect.
    Void,
    /// "Nothing happened", truly: no effect.
    Release(u16),
    /// An effect, and an answer that leaves open whether there was one.
    Unknown(u16),
    /// An effect and no answer.
    Cut,
    /// An effect and half an answer.
    CutBody,
}

/// What the upstream does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Script {
    /// The pause before the effect.
    pub(crate) before: Duration,
    /// The pause between the effect and the answer.
    pub(crate) after: Duration,
    /// How long the answer's body is at least.
    pub(crate) bytes: usize,
    pub(crate) end: End,
}

impl Script {
    /// At once and well.
    pub(crate) const PLAIN: Self =
        Self { before: Duration::ZERO, after: Duration::ZERO, bytes: 100, end: End::Answer(201) };

    pub(crate) fn slow(before: Duration, after: Duration) -> Self {
        Self { before, after, ..Self::PLAIN }
    }

    /// Anything an upstream may do, mostly well.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let pause = |rng: &mut Rng| match rng.u32(0..100) {
            0..80 => Duration::ZERO,
            80..95 => ms(rng.u64(5..120)),
            _ => ms(rng.u64(200..1700)),
        };
        let end = match rng.u32(0..100) {
            0..76 => End::Answer(201),
            76..82 => End::Answer(500),
            82..86 => End::Answer(402),
            86..90 => End::Release([429, 503, 401][rng.usize(0..3)]),
            90..94 => End::Unknown([504, 502, 503, 408][rng.usize(0..4)]),
            94..97 => End::Cut,
            _ => End::CutBody,
        };
        let mut script = Self { before: pause(rng), after: pause(rng), bytes: size(rng), end };
        if rng.u32(0..200) == 0 {
            // Hangs after the effect for longer than the gateway waits.
            script.after = RESPONSE_TIMEOUT + ms(rng.u64(100..800));
        }
        script
    }

    /// Whether an operation may be unresolved after this, with no other fault.
    pub(crate) fn is_risky(&self) -> bool {
        let is_open = matches!(self.end, End::Unknown(_) | End::Cut | End::CutBody);
        is_open || self.before + self.after + ms(500) >= RESPONSE_TIMEOUT
    }

    pub(crate) fn write(&self, ask: Ask) -> Ask {
        let (end, status) = match self.end {
            End::Answer(status) => ("answer", status),
            End::Void => ("void", 201),
            End::Release(status) => ("release", status),
            End::Unknown(status) => ("unknown", status),
            End::Cut => ("cut", 201),
            End::CutBody => ("cut-body", 201),
        };
        ask.with("crash-before", self.before.as_millis())
            .with("crash-after", self.after.as_millis())
            .with("crash-bytes", self.bytes)
            .with("crash-end", format!("{end} {status}"))
    }

    /// What the header lines of a request say; without any, [`Script::PLAIN`].
    pub(crate) fn read<'a>(header: impl Fn(&str) -> &'a str) -> Self {
        let number = |name| header(name).parse::<u64>().unwrap_or(0);
        let (word, status) = header("crash-end").split_once(' ').unwrap_or(("answer", "201"));
        let status = status.parse().unwrap_or(201);
        let end = match word {
            "void" => End::Void,
            "release" => End::Release(status),
            "unknown" => End::Unknown(status),
            "cut" => End::Cut,
            "cut-body" => End::CutBody,
            _ => End::Answer(status),
        };
        Self {
            before: ms(number("crash-before")),
            after: ms(number("crash-after")),
            bytes: usize::try_from(number("crash-bytes")).unwrap_or(0),
            end,
        }
    }
}

/// A length of a body: mostly short.
pub(crate) fn size(rng: &mut Rng) -> usize {
    match rng.u32(0..100) {
        0..70 => rng.usize(0..400),
        70..95 => rng.usize(400..6_000),
        95..99 => rng.usize(6_000..60_000),
        _ => rng.usize(60_000..300_000),
    }
}

/// Bytes that depend on their place, so that none that is lost or moved goes unseen, and that do not compress well.
pub(crate) fn padding(from: usize, bytes: usize) -> impl Iterator<Item = u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut rng = fastrand::Rng::with_seed(bytes as u64);
    (from..bytes).map(move |_| LETTERS[rng.usize(0..64)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_it_was_written() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..500 {
            let script = Script::any(&mut rng);
            let ask = script.write(Ask::new("POST", "/"));
            let header = |name: &str| ask.headers.iter().find(|it| it.0 == name).map_or("", |it| &it.1);
            assert_eq!(Script::read(header), script);
        }
    }
}
