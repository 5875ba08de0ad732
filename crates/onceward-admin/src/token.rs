//! The bearer token of the admin API: read from a file, or made on first start.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use onceward_core::{Entropy, SystemEntropy};
use subtle::ConstantTimeEq;

/// The fewest characters of a token. A made one has 64.
pub const TOKEN_CHARS_MIN: usize = 16;

/// More than any token has; a longer file is another file.
const FILE_BYTES_MAX: u64 = 4096;

/// What a caller must present as `Authorization: Bearer …`.
///
/// Only its hash is kept in memory. Comparing takes the same time whatever is presented: hashes of equal
/// length are compared, in constant time, so neither content nor length leaks.
#[derive(Clone)]
pub struct Token {
    hash: [u8; 32],
}

/// Whether a token was there or was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was made now, and the file with it.
    Yes,
    /// The file was there.
    No,
}

/// Why there is no token. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is too short.
    #[error(
        "the token has fewer than {TOKEN_CHARS_MIN} characters; give a longer one, or none and let one be made"
    )]
    Short,
    /// The text cannot stand in a header.
    #[error("the token has a character that is not visible ASCII; use letters, digits and punctuation only")]
    NotVisibleAscii,
    /// What stands in the file is no token.
    #[error("the admin token file {} cannot be used; correct it, or delete it and a new one is made", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file cannot be read.
    #[error("failed to read the admin token file {}; let the user that runs this process read it", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error(
        "failed to make the admin token file {}; name a file in a directory that exists and that the user of \
         this process may write",
        .path.display()
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Token {
    /// A token from its text: at least [`TOKEN_CHARS_MIN`] visible ASCII characters.
    ///
    /// # Errors
    /// [`TokenError::Short`], [`TokenError::NotVisibleAscii`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if !text.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(TokenError::NotVisibleAscii);
        }
        if text.len() < TOKEN_CHARS_MIN {
            return Err(TokenError::Short);
        }
        Ok(Self::of(text.as_bytes()))
    }

    /// The token in the file at `path`, blanks around it removed. Where there is no file, one is made with 32
    /// random bytes as hexadecimal digits, readable by its owner alone. It appears whole or not at all, and
    /// of two processes that make it at once both get the same.
    ///
    /// A file that others than its owner may read or write is used, with a warning.
    ///
    /// # Errors
    /// The file cannot be read, made, or used as it is; the message names it and says what to do.
    pub fn load_or_create(path: &Path) -> Result<(Self, Created), TokenError> {
        if let Some(token) = load(path)? {
            return Ok((token, Created::No));
        }
        let made = create(path).map_err(|source| TokenError::Create { path: path.into(), source })?;
        if let Some(token) = made {
            return Ok((token, Created::Yes));
        }
        // Another process was faster: its token counts.
        let gone = || TokenError::Create { path: path.into(), source: io::ErrorKind::NotFound.into() };
        load(path)?.map(|it| (it, Created::No)).ok_or_else(gone)
    }

    /// Whether `presented` is this token.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.hash.ct_eq(&Self::of(presented).hash).into()
    }

    fn of(text: &[u8]) -> Self {
        Self { hash: blake3::derive_key("onceward 2026 admin token", text) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

fn load(path: &Path) -> Result<Option<Token>, TokenError> {
    let unreadable = |source| TokenError::Read { path: path.into(), source };
    let unusable = |source| TokenError::Unusable { path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    warn_when_open_to_others(path, &file);
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unusable("it is longer than 4096 bytes".into()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|it| unusable(it.into()))?;
    Token::parse(text.trim()).map(Some).map_err(|it| unusable(it.into()))
}

#[cfg(unix)]
fn warn_when_open_to_others(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map(|it| it.permissions().mode() & 0o777).unwrap_or_default();
    if mode & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = format_args!("{mode:04o}"),
            "others than its owner may use the admin token file; `chmod 600` it"
        );
    }
}

#[cfg(not(unix))]
fn warn_when_open_to_others(_: &Path, _: &File) {}

/// Makes the file, or gives `None` when there is one by now. It is written beside its place and then linked
/// into it, so that a crash leaves no half token behind. The temporary file has the mode 0600 from its start.
fn create(path: &Path) -> io::Result<Option<Token>> {
    let mut random = [0; 32];
    SystemEntropy.fill(&mut random)?;
    let text: String = random.iter().map(|it| format!("{it:02x}")).collect();
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(file, "{text}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error.error),
    }
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(Some(Token::of(text.as_bytes())))
}
