//! The certificate and key files that the settings name, read as they would be used.

use std::path::Path;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::settings::Settings;

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// The setting that names it.
    pub setting: &'static str,
    /// What is wrong.
    pub says: String,
    /// What to do.
    pub remedy: &'static str,
}

/// Reads the files of `[tls]` and `upstream.ca_file`. Blocks while it reads; nothing is changed.
///
/// # Errors
/// Every file that cannot be used.
pub fn check_files(settings: &Settings) -> Result<(), Vec<FileFault>> {
    let mut faults = Vec::new();
    if settings.tls.is_on() {
        faults.extend(pair(&settings.tls.cert, &settings.tls.key));
    }
    if !settings.upstream.ca_file.as_os_str().is_empty() {
        faults.extend(chain("upstream.ca_file", &settings.upstream.ca_file).err());
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn pair(cert: &Path, key: &Path) -> Vec<FileFault> {
    let private = private_key(key);
    let (chain, private) = match (chain("tls.cert", cert), private) {
        (Ok(chain), Ok(private)) => (chain, private),
        (chain, private) => return chain.err().into_iter().chain(private.err()).collect(),
    };
    let fault = |setting, says, remedy| vec![FileFault { setting, says, remedy }];
    match CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()) {
        Ok(_) => Vec::new(),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let says = format!(
                "the key in {} does not fit the first certificate in {}",
                key.display(),
                cert.display()
            );
            fault(
                "tls.key",
                says,
                "name the key that it was made with; the server's own certificate comes first",
            )
        }
        Err(error) => {
            let says = format!("{} and {} cannot be used: {error}", cert.display(), key.display());
            fault("tls.key", says, "use a key of ECDSA P-256 or P-384, Ed25519 or RSA, and its certificate")
        }
    }
}

fn chain(setting: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let remedy = "name a PEM file with the certificates, readable by the user of the gateway";
    let read = std::fs::read(file).map_err(|it| it.to_string()).and_then(|pem| {
        CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|it| it.to_string())
    });
    match read {
        Ok(chain) if chain.is_empty() => {
            Err(FileFault { setting, says: format!("{} holds no certificate", file.display()), remedy })
        }
        Ok(chain) => Ok(chain),
        Err(reason) => {
            Err(FileFault { setting, says: format!("cannot read {}: {reason}", file.display()), remedy })
        }
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, FileFault> {
    let read = std::fs::read(file).map_err(|it| it.to_string());
    let key = read.and_then(|pem| PrivateKeyDer::from_pem_slice(&pem).map_err(|it| it.to_string()));
    key.map_err(|reason| FileFault {
        setting: "tls.key",
        says: format!("cannot read a private key from {}: {reason}", file.display()),
        remedy: "name a PEM file with the key, not encrypted, readable by the user of the gateway alone",
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::check_files;
    use crate::settings::Settings;

    /// A certificate and its key in `folder`.
    fn write_pair(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["shop.example".into()]).unwrap();
        let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (cert, key)
    }

    #[test]
    fn files_are_read_as_they_would_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = write_pair(folder.path(), "a");
        let (_, other) = write_pair(folder.path(), "b");
        let missing = folder.path().join("missing");
        let check = |cert: &Path, key: &Path, ca: &Path| {
            let mut settings = Settings::default();
            settings.tls.cert = cert.into();
            settings.tls.key = key.into();
            settings.upstream.ca_file = ca.into();
            check_files(&settings).err().unwrap_or_default().iter().map(|it| it.setting).collect::<Vec<_>>()
        };
        let none = Path::new("");
        assert_eq!(check(none, none, none), [""; 0]);
        assert_eq!(check(&cert, &key, &cert), [""; 0]);
        assert_eq!(check(&cert, &other, none), ["tls.key"]);
        assert_eq!(check(&missing, &missing, &missing), ["tls.cert", "tls.key", "upstream.ca_file"]);
        // Each file in place of the other.
        assert_eq!(check(&key, &cert, &key), ["tls.cert", "tls.key", "upstream.ca_file"]);
    }
}
