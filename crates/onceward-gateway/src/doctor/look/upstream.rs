//! Connecting to upstreams: name, address, TLS. No request is sent.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::doctor::Reached;
use crate::settings::Settings;

/// Connects to each upstream within `upstream.connect_timeout`, one after the other, and hangs up. May be dropped
/// at any time.
pub async fn upstreams(settings: &Settings) -> Vec<Reached> {
    let it = &settings.upstream;
    let mut reached = Vec::new();
    for url in &it.urls {
        let outcome = reach(url, &it.ca_file, it.connect_timeout).await;
        reached.push(Reached { url: url.to_string(), outcome });
    }
    reached
}

async fn reach(url: &Uri, ca_file: &Path, patience: Duration) -> Result<SocketAddr, String> {
    match tokio::time::timeout(patience, connect(url, ca_file)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no connection within {patience:?}")),
    }
}

async fn connect(url: &Uri, ca_file: &Path) -> Result<SocketAddr, String> {
    let is_tls = url.scheme_str() == Some("https");
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let found = tokio::net::lookup_host((host.as_str(), port)).await;
    let addresses: Vec<_> = found.map_err(|it| format!("the name {host} is not resolved ({it})"))?.collect();
    let mut refused = format!("the name {host} has no address");
    for address in addresses {
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => {
                refused = format!("{address}: {error}");
                continue;
            }
        };
        if is_tls {
            let name = ServerName::try_from(host).map_err(|_| "the host name is none for TLS".to_owned())?;
            let connector = TlsConnector::from(Arc::new(config(ca_file).map_err(|it| it.to_string())?));
            let shaken = connector.connect(name, stream).await;
            shaken.map_err(|error| format!("TLS with {address} failed: {error}"))?;
        }
        return Ok(address);
    }
    Err(refused)
}

fn config(ca_file: &Path) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if ca_file.as_os_str().is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        let pem = std::fs::read(ca_file)?;
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(urls: &[String]) -> Settings {
        let mut settings = Settings::default();
        settings.upstream.urls = urls.iter().map(|it| it.parse().unwrap()).collect();
        settings
    }

    #[tokio::test]
    async fn who_listens_is_reached_and_who_does_not_is_said_with_the_reason() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let urls =
            [format!("http://{there}"), format!("http://{gone}"), "http://no.such.name.invalid".into()];
        let reached = upstreams(&settings(&urls)).await;
        assert_eq!(reached[0].outcome, Ok(there));
        assert!(reached[1].outcome.as_ref().is_err_and(|it| it.contains("refused")), "{reached:?}");
        assert!(reached[2].outcome.as_ref().is_err_and(|it| it.contains("not resolved")), "{reached:?}");
    }

    #[tokio::test]
    async fn tls_counts_only_with_a_certificate_that_is_vouched_for() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = acceptor.accept(stream).await;
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(&[format!("https://localhost:{port}")]);
        let reached = upstreams(&settings).await;
        assert!(reached[0].outcome.as_ref().is_err_and(|it| it.contains("TLS with")), "{reached:?}");
        settings.upstream.ca_file = folder.path().join("ca.pem");
        std::fs::write(&settings.upstream.ca_file, made.cert.pem()).unwrap();
        let reached = upstreams(&settings).await;
        assert!(reached[0].outcome.is_ok(), "{reached:?}");
    }
}
