//! TLS to the server: rustls with ring, as everywhere here.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::open::OpenError;

/// How to speak TLS, and whom to trust.
pub(crate) struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Trusts the certificates of the file `ca`, else the machine's.
    pub(crate) fn new(ca: Option<&Path>) -> Result<Self, OpenError> {
        let unread = |cause: String| OpenError::Certificates { cause };
        let mut roots = RootCertStore::empty();
        if let Some(path) = ca {
            let shown = path.display();
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|it| unread(format!("{shown}: {it}")))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|it| unread(format!("{shown}: {it}")))?;
                roots.add(certificate).map_err(|it| unread(format!("{shown}: {it}")))?;
            }
        } else {
            // One that cannot be used stops no other.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            return Err(unread("there is none; name a file with `ca=FILE`".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|it| unread(it.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}
