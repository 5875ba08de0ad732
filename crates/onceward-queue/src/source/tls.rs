//! TLS to brokers: whom to trust.

use std::path::Path;
use std::sync::Arc;

use onceward_core::{Error, ErrorKind, Result};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// A client that trusts the certificates of a PEM file, or those of the machine.
///
/// # Errors
/// `Invalid`: there is none that can be used.
pub(super) fn client(ca: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        Some(path) => {
            let wrong = |it: rustls_pki_types::pem::Error| {
                Error::new(ErrorKind::Invalid, "read the PEM file of trusted certificates").caused_by(it)
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(wrong)? {
                let added = roots.add(certificate.map_err(wrong)?);
                added.map_err(|it| Error::new(ErrorKind::Invalid, "trust a certificate").caused_by(it))?;
            }
        }
    }
    if roots.is_empty() {
        let what = "find a certificate to trust: name a PEM file with `ca`";
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    // Named, so that it does not matter what other crates in the process would choose.
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows the ciphers of the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(client)
}
