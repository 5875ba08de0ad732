//! What makes a message of HTTP/1 one that two readers could take for two different ones, or too big.

use http::StatusCode;

/// Why bytes are not taken for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Violation {
    /// The request line is not `METHOD target HTTP/1.x` with single spaces.
    RequestLine,
    /// The target has a fragment, or an authority that is not the one of `Host`.
    Target,
    /// A line ends with LF alone, or a CR stands alone.
    LineEnd,
    /// A header name is empty or has a byte that no name has, such as a space before the colon.
    HeaderName,
    /// A header value has a control byte.
    HeaderValue,
    /// A header line goes on in the next one.
    Folded,
    /// `Host` is missing, given twice or no host.
    Host,
    /// `Content-Length` is given twice or is no plain decimal number.
    ContentLength,
    /// `Transfer-Encoding` is something else than one `chunked`, or HTTP/1.0.
    TransferEncoding,
    /// Both `Content-Length` and `Transfer-Encoding` are there.
    TwoLengths,
    /// The line before a chunk is no hexadecimal number, or has too much behind it.
    ChunkSize,
    /// A chunk does not end where its size says.
    ChunkEnd,
    /// The trailers are malformed, too long, or name a field that frames a message.
    Trailer,
    /// The target is longer than the limit.
    TargetTooLong,
    /// The head is longer, or has more lines, than the limits.
    HeadTooLarge,
}

impl Violation {
    /// Every kind, in the order in which they are declared.
    pub const ALL: [Self; 15] = [
        Self::RequestLine,
        Self::Target,
        Self::LineEnd,
        Self::HeaderName,
        Self::HeaderValue,
        Self::Folded,
        Self::Host,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::TwoLengths,
        Self::ChunkSize,
        Self::ChunkEnd,
        Self::Trailer,
        Self::TargetTooLong,
        Self::HeadTooLarge,
    ];

    /// Its place in [`Self::ALL`].
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// A stable name for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestLine => "request_line",
            Self::Target => "target",
            Self::LineEnd => "line_end",
            Self::HeaderName => "header_name",
            Self::HeaderValue => "header_value",
            Self::Folded => "folded",
            Self::Host => "host",
            Self::ContentLength => "content_length",
            Self::TransferEncoding => "transfer_encoding",
            Self::TwoLengths => "two_lengths",
            Self::ChunkSize => "chunk_size",
            Self::ChunkEnd => "chunk_end",
            Self::Trailer => "trailer",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RequestLine
            | Self::Target
            | Self::LineEnd
            | Self::HeaderName
            | Self::HeaderValue
            | Self::Folded
            | Self::Host
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::TwoLengths
            | Self::ChunkSize
            | Self::ChunkEnd
            | Self::Trailer => StatusCode::BAD_REQUEST,
        }
    }

    /// One sentence without a full stop, for the caller.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::RequestLine => "The request line is malformed",
            Self::Target => "The request target has a fragment, or names another host than Host does",
            Self::LineEnd => "A line does not end with CR LF",
            Self::HeaderName => "A header name is malformed",
            Self::HeaderValue => "A header value has a control character",
            Self::Folded => "A header line is folded",
            Self::Host => "The request must have exactly one Host line with a host in it",
            Self::ContentLength => "Content-Length must be one plain decimal number",
            Self::TransferEncoding => "Transfer-Encoding must be chunked and nothing else, in HTTP/1.1",
            Self::TwoLengths => "Content-Length and Transfer-Encoding exclude each other",
            Self::ChunkSize => "The size of a chunk is malformed",
            Self::ChunkEnd => "A chunk does not end where its size says",
            Self::Trailer => "The trailers are malformed or name a field that does not belong there",
            Self::TargetTooLong => "The request target is too long",
            Self::HeadTooLarge => "The head of the request is too large",
        }
    }
}
