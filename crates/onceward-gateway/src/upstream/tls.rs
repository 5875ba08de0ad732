//! TLS to upstreams: whom to trust and what to offer.
//!
//! Nothing is sent before the handshake is complete (no early data), so a handshake that fails proves that
//! the upstream has seen no request.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::settings::{InvalidSetting, Protocol};

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// How TLS is spoken to upstreams.
#[derive(Debug)]
pub(super) struct Tls {
    /// What it was made of, to see whether it has changed.
    roots: Vec<CertificateDer<'static>>,
    protocol: Protocol,
    /// Offers what the protocol allows.
    pub(super) any: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone, for what HTTP/2 cannot carry.
    pub(super) http1: Arc<ClientConfig>,
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.roots == other.roots
    }
}

impl Tls {
    /// Reads the certificates that vouch for upstreams: those of `ca_file`, or the system's.
    ///
    /// # Errors
    /// The file or the system has none that can be used.
    pub(super) fn load(ca_file: Option<&Path>, protocol: Protocol) -> Result<Self, InvalidSetting> {
        let roots = match ca_file {
            Some(file) => from_file(file)?,
            None => from_system()?,
        };
        let mut store = RootCertStore::empty();
        let (usable, _) = store.add_parsable_certificates(roots.iter().cloned());
        if usable == 0 {
            return Err(match ca_file {
                Some(file) => unusable(file, "holds no certificate that can be used"),
                None => none_found(),
            });
        }
        let store = Arc::new(store);
        let offered: &[&[u8]] = match protocol {
            Protocol::Auto => &[HTTP2, HTTP1],
            Protocol::H2 => &[HTTP2],
            Protocol::Http1 | Protocol::H2c => &[HTTP1],
        };
        let (any, http1) = (config(&store, offered), config(&store, &[HTTP1]));
        Ok(Self { roots, protocol, any, http1 })
    }
}

/// Whether these two parties have agreed on HTTP/2.
pub(super) fn agreed_on_http2(alpn: Option<&[u8]>) -> bool {
    alpn == Some(HTTP2)
}

fn config(roots: &Arc<RootCertStore>, offered: &[&[u8]]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the ciphers of the default versions")
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|it| it.to_vec()).collect();
    // Early data could be replayed by anybody on the way.
    config.enable_early_data = false;
    Arc::new(config)
}

fn from_file(file: &Path) -> Result<Vec<CertificateDer<'static>>, InvalidSetting> {
    let pem = std::fs::read(file).map_err(|error| unusable(file, &format!("cannot be read ({error})")))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| unusable(file, &format!("is not PEM ({error})")))?;
    if certificates.is_empty() {
        return Err(unusable(file, "holds no certificate"));
    }
    Ok(certificates)
}

fn unusable(file: &Path, what: &str) -> InvalidSetting {
    let remedy = format!(
        "{} {what}: name a PEM file with the certificates of the authorities that vouch for the upstreams",
        file.display(),
    );
    InvalidSetting::new("ca_file", remedy)
}

fn from_system() -> Result<Vec<CertificateDer<'static>>, InvalidSetting> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "some of the system's certificates cannot be read");
    }
    if found.certs.is_empty() { Err(none_found()) } else { Ok(found.certs) }
}

fn none_found() -> InvalidSetting {
    InvalidSetting::new(
        "ca_file",
        "the system has no certificates to check https:// upstreams with: install its CA certificates \
         (package ca-certificates), or name a PEM file here",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sent_before_the_handshake_is_complete_and_each_protocol_offers_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let certificate = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        std::fs::write(&file, certificate.cert.pem()).unwrap();
        for (protocol, offered) in [
            (Protocol::Auto, vec![HTTP2, HTTP1]),
            (Protocol::Http1, vec![HTTP1]),
            (Protocol::H2, vec![HTTP2]),
        ] {
            let tls = Tls::load(Some(&file), protocol).unwrap();
            assert!(!tls.any.enable_early_data && !tls.http1.enable_early_data);
            assert_eq!(tls.any.alpn_protocols, offered);
            assert_eq!(tls.http1.alpn_protocols, [HTTP1]);
        }
    }
}
