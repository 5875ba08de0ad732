//! The certificate and key files that the settings name, read as they would be used.

use std::error::Error as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use onceward_core::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{Files, TlsFacts};
use crate::listen::{Tls, TlsError};
use crate::routes::{SecretFileError, verifier};
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

/// Reads the files of `[tls]` and `upstream.ca_file` as they would be used, and says which cannot be. Blocks while
/// it reads; nothing is changed.
#[must_use]
pub fn check_files(settings: &Settings) -> Files {
    let mut files = Files::default();
    if settings.tls.is_on() {
        match Tls::load(&settings.tls.cert, &settings.tls.key) {
            Ok(tls) => {
                let (not_before, not_after) = (timestamp(tls.not_before()), timestamp(tls.not_after()));
                files.certificate = Some(TlsFacts { not_before, not_after });
            }
            Err(error) => files.faults.push(tls_fault(settings, &error)),
        }
    }
    if !settings.upstream.ca_file.as_os_str().is_empty() {
        files.faults.extend(chain("upstream.ca_file", &settings.upstream.ca_file).err());
    }
    let policies = settings.routes.iter().map(|it| &it.policy).chain([&settings.policy]);
    let mut secrets: Vec<_> = policies.filter_map(|it| verifier(it).err()).map(secret_fault).collect();
    secrets.dedup();
    files.faults.extend(secrets);
    files
}

fn secret_fault(error: SecretFileError) -> FileFault {
    FileFault {
        setting: "verify_secret_file",
        says: error.to_string(),
        remedy: "put the secrets of the sender there, one on each line; the gateway does not start like this",
    }
}

fn timestamp(it: SystemTime) -> Timestamp {
    let since = it.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn tls_fault(settings: &Settings, error: &TlsError) -> FileFault {
    let of_key = match error {
        TlsError::Read { path, .. } | TlsError::Damaged { path, .. } => *path == settings.tls.key,
        TlsError::NoKey { .. } | TlsError::Key { .. } | TlsError::Mismatch { .. } => true,
        TlsError::NoCertificate { .. } | TlsError::Certificate { .. } => false,
    };
    let cause = error.source().map_or(String::new(), |it| format!(" ({it})"));
    FileFault {
        setting: if of_key { "tls.key" } else { "tls.cert" },
        says: format!("{error}{cause}"),
        remedy: "put a certificate and the key that fits it there; the gateway does not start like this",
    }
}

fn chain(setting: &'static str, file: &Path) -> Result<(), FileFault> {
    let remedy = "name a PEM file with the certificates, readable by the user of the gateway";
    let read = std::fs::read(file).map_err(|it| it.to_string()).and_then(|pem| {
        CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|it| it.to_string())
    });
    match read {
        Ok(chain) if chain.is_empty() => {
            Err(FileFault { setting, says: format!("{} holds no certificate", file.display()), remedy })
        }
        Ok(_) => Ok(()),
        Err(reason) => {
            Err(FileFault { setting, says: format!("cannot read {}: {reason}", file.display()), remedy })
        }
    }
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
        let [missing, no_key] = ["missing", "no-key"].map(|it| folder.path().join(it));
        let check = |cert: &Path, key: &Path, ca: &Path| {
            let mut settings = Settings::default();
            settings.tls.cert = cert.into();
            settings.tls.key = key.into();
            settings.upstream.ca_file = ca.into();
            check_files(&settings).faults.iter().map(|it| it.setting).collect::<Vec<_>>()
        };
        let none = Path::new("");
        assert_eq!(check(none, none, none), [""; 0]);
        assert_eq!(check(&cert, &key, &cert), [""; 0]);
        assert_eq!(check(&cert, &other, none), ["tls.key"]);
        assert_eq!(check(&missing, &no_key, &missing), ["tls.cert", "upstream.ca_file"]);
        // Each file in place of the other.
        assert_eq!(check(&key, &cert, &key), ["tls.cert", "upstream.ca_file"]);
        assert_eq!(check(&cert, &missing, none), ["tls.key"]);
    }
}
