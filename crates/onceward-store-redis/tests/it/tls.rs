//! TLS to the server: who it is must be shown by a certificate that is trusted.

use std::path::Path;

use onceward_store_redis::{RedisSettings, RedisStore};
use onceward_testkit::server::RedisServer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::sample::{claim, id, inserted};

/// Writes a certificate for `name`, its key, and the authority that signed it.
fn certificates(folder: &Path, name: &str) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signed = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), signed.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn a_server_is_spoken_to_over_tls_when_its_certificate_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), "localhost");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tls_port = onceward_testkit::server::free_port();
    let _server = RedisServer::start_with(&[
        ("tls-port", &tls_port.to_string()),
        ("tls-cert-file", &at("cert.pem")),
        ("tls-key-file", &at("key.pem")),
        ("tls-ca-cert-file", &at("ca.pem")),
        ("tls-auth-clients", "no"),
    ]);
    let url = format!("rediss://localhost:{tls_port}");
    let trusted = RedisSettings::from_url(&format!("{url}?ca={}", at("ca.pem"))).unwrap();
    let store = RedisStore::open(trusted.clone()).await.unwrap();
    inserted(&store, id(1), &claim()).await;

    for (url, what) in [
        (url.clone(), "nobody vouches for it"),
        (format!("rediss://127.0.0.1:{tls_port}?ca={}", at("ca.pem")), "it is for another name"),
        (format!("redis://localhost:{tls_port}"), "it speaks TLS"),
        (format!("{url}?ca={}", at("nothing")), "there is no such file"),
    ] {
        RedisStore::open(RedisSettings::from_url(&url).unwrap()).await.expect_err(what);
    }
}
