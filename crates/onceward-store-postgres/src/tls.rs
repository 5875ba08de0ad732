//! Encryption as `sslmode` says.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::settings::{PostgresSettings, Tls};
use crate::store::OpenError;

/// The kind of encryption, and the certificates that may sign the server's. `None` for none.
pub(crate) fn encryption(
    settings: &PostgresSettings,
) -> Result<(SslMode, Option<MakeRustlsConnect>), OpenError> {
    let mode = match settings.tls {
        Tls::Disable => SslMode::Disable,
        Tls::Prefer => SslMode::Prefer,
        Tls::Require | Tls::VerifyCa | Tls::VerifyFull => SslMode::Require,
    };
    let trust = match (settings.tls, &settings.tls_roots) {
        (Tls::Disable, _) => return Ok((mode, None)),
        (Tls::Prefer, _) | (Tls::Require, None) => Trust::Anybody,
        (Tls::Require | Tls::VerifyCa, roots) => Trust::Signed(self::roots(roots.as_deref())?),
        (Tls::VerifyFull, roots) => Trust::Named(self::roots(roots.as_deref())?),
    };
    let config = client(trust).map_err(|it| OpenError::Tls { cause: it.to_string() })?;
    Ok((mode, Some(MakeRustlsConnect::new(config))))
}

/// Whose certificate will do.
enum Trust {
    Anybody,
    /// One that these signed, for whatever name.
    Signed(RootCertStore),
    /// One that these signed, for the host in the URL.
    Named(RootCertStore),
}

fn client(trust: Trust) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let provider = Arc::new(ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let config = match trust {
        Trust::Named(roots) => config.with_root_certificates(roots),
        Trust::Anybody => {
            config.dangerous().with_custom_certificate_verifier(Arc::new(Loose { provider, signed: None }))
        }
        Trust::Signed(roots) => {
            let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let signed = Some(signed.build()?);
            config.dangerous().with_custom_certificate_verifier(Arc::new(Loose { provider, signed }))
        }
    };
    Ok(config.with_no_client_auth())
}

/// The certificates in a PEM file, or those that the machine trusts.
fn roots(path: Option<&Path>) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    let wrong = |path: &Path, cause: &dyn std::fmt::Display| OpenError::Tls {
        cause: format!("the certificates in {} cannot be read: {cause}", path.display()),
    };
    match path {
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        Some(path) => {
            let found = CertificateDer::pem_file_iter(path).map_err(|it| wrong(path, &it))?;
            for certificate in found {
                let certificate = certificate.map_err(|it| wrong(path, &it))?;
                roots.add(certificate).map_err(|it| wrong(path, &it))?;
            }
        }
    }
    if roots.is_empty() {
        let cause = path.map_or_else(
            || "this machine trusts no certificate; name a file with `sslrootcert`".to_owned(),
            |it| format!("there is no certificate in {}", it.display()),
        );
        return Err(OpenError::Tls { cause });
    }
    Ok(roots)
}

/// Believes a certificate for another name, or any at all: what `verify-ca` and `require` mean. The server still has to
/// prove that the certificate is its own.
#[derive(Debug)]
struct Loose {
    provider: Arc<CryptoProvider>,
    signed: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Loose {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(signed) = &self.signed else { return Ok(ServerCertVerified::assertion()) };
        match signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: all else was right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
