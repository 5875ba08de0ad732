//! TLS of the listener: a certificate chain and its key from PEM files, which can be replaced while it serves.

mod validity;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate that ends sooner than this is worth a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// A certificate chain with its key, ready to serve TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1.
///
/// Early data (0-RTT) is never taken: it can be replayed by others, and some requests are no operations.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why TLS cannot be served from two files. Whatever was served before goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: it must exist and be readable by the user the gateway runs as")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate file has no certificate.
    #[error("no certificate in {path}: it must be PEM, with -----BEGIN CERTIFICATE----- lines")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file looks like PEM and is not.
    #[error("{path} is damaged: {reason}; write it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key file has no private key.
    #[error(
        "no private key in {path}: it must be PEM, as PKCS#8, PKCS#1 or SEC1, and not encrypted \
         (decrypt it with `openssl pkey`)"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind that cannot be used.
    #[error("the private key in {path} cannot be used: {reason}; use ECDSA P-256 or P-384, Ed25519 or RSA")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the private key in {key} does not belong to the first certificate in {certificate}: the server's own \
         certificate must come first, before those that vouch for it"
    )]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The certificate cannot be used.
    #[error("the certificate in {path} cannot be used: {reason}; ask for a new one")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Something about a certificate that callers will refuse, now or soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsWarning {
    /// It is valid no more.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It ends within 14 days.
    EndsSoon,
}

impl fmt::Display for TlsWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the certificate has expired: callers refuse it",
            Self::NotYetValid => "the certificate is not valid yet: callers refuse it; is the clock right?",
            Self::EndsSoon => "the certificate ends within 14 days: renew it and reload",
        })
    }
}

impl Tls {
    /// Reads the chain, the server's own certificate first, and the key.
    ///
    /// A certificate that has expired is no error: see [`warning`](Self::warning).
    ///
    /// # Errors
    /// [`TlsError`], which names the file and the remedy.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_chain(certificate)?;
        let private_key = read_key(key)?;
        let validity = validity::read(&chain[0]).ok_or_else(|| TlsError::Certificate {
            path: certificate.to_owned(),
            reason: "it is no certificate of X.509".to_owned(),
        })?;
        let provider = Arc::new(ring::default_provider());
        provider
            .key_provider
            .load_private_key(private_key.clone_key())
            .map_err(|error| TlsError::Key { path: key.to_owned(), reason: error.to_string() })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has suites for the versions that this crate is built with")
            .with_no_client_auth()
            .with_single_cert(chain, private_key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    TlsError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
                }
                other => TlsError::Certificate { path: certificate.to_owned(), reason: other.to_string() },
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), not_before: validity.not_before, not_after: validity.not_after })
    }

    /// From when on the server's own certificate is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// When the server's own certificate ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// What is wrong with the certificate at `now`, though it can be served.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<TlsWarning> {
        if now > self.not_after {
            Some(TlsWarning::Expired)
        } else if now < self.not_before {
            Some(TlsWarning::NotYetValid)
        } else if now + SOON > self.not_after {
            Some(TlsWarning::EndsSoon)
        } else {
            None
        }
    }
}

impl fmt::Debug for Tls {
    /// Shows no key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The TLS that new connections get. Clones are the same; connections under way keep what they began with.
#[derive(Debug, Clone)]
pub struct ReloadableTls(Arc<RwLock<Tls>>);

impl ReloadableTls {
    /// Begins with `tls`.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self(Arc::new(RwLock::new(tls)))
    }

    /// Serves `tls` from the next connection on.
    pub fn replace(&self, tls: Tls) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// What is served now.
    #[must_use]
    pub fn current(&self) -> Tls {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).config)
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(TlsError::NoCertificate { path: path.to_owned() }),
        Ok(chain) => Ok(chain),
        Err(error) => Err(TlsError::Damaged { path: path.to_owned(), reason: error.to_string() }),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => TlsError::NoKey { path: path.to_owned() },
        other => TlsError::Damaged { path: path.to_owned(), reason: other.to_string() },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
