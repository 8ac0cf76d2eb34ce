//! The credentials of a connection, and the files that contain the credentials: a password,
//! certificates and a key.
//!
//! The files are read when the configuration is checked, and again for each connection. A read may
//! wait for the disk. Therefore the callers of these reads use a thread that may wait, and set a
//! time limit. `broker.rs` makes the options of a connection from the credentials.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rumqttc::TlsConfiguration;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Config;
use crate::driver::OpenError;
use crate::file;

/// The maximum size of a file with certificates, a key or a password, in bytes. A file with the
/// certificates of all public authorities is smaller.
const MOST_PEM_BYTES: u64 = 4 << 20;

/// The paths of the password file and of the files for TLS.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The file with the password, if the configuration names one.
    password: Option<PathBuf>,
    /// The files for TLS. `None` for a connection without TLS.
    tls: Option<TlsFiles>,
}

/// The paths of the files for TLS. The format of these files is PEM.
#[derive(Debug, Clone)]
struct TlsFiles {
    /// The file with the certificates of the trusted authorities.
    ca: PathBuf,
    /// The file with the client's certificate, and the file with the private key of this
    /// certificate. `None` if the configuration names no certificate for the client.
    client: Option<(PathBuf, PathBuf)>,
}

/// The contents of the files, read for one connection.
pub(super) struct Credentials {
    /// The password: the first line of its file.
    pub(super) password: Option<Vec<u8>>,
    /// The settings of TLS. `None` for a connection without TLS.
    pub(super) tls: Option<TlsConfiguration>,
}

impl fmt::Debug for Credentials {
    /// Writes only the name of the type, so that no secret gets into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Files {
    /// Checks which files the configuration names, without opening them. With `is_secure`, the
    /// connection uses TLS.
    ///
    /// # Errors
    /// When a required file is not named, or a file is named that the connection cannot use.
    pub(super) fn plan(config: &Config, is_secure: bool) -> Result<Self, OpenError> {
        let tls = TlsFiles::plan(config, is_secure)?;
        Ok(Self { password: config.password_file.clone(), tls })
    }

    /// Reads the files. The call may wait for the disk.
    ///
    /// # Errors
    /// When a file cannot be read or is too large, when a TLS file does not contain the
    /// certificates or the key, or when the private key does not belong to the client's
    /// certificate.
    pub(super) fn read(&self) -> Result<Credentials, OpenError> {
        let password = self.password.as_ref().map(|file| read("password_file", file));
        let line = |text: Vec<u8>| {
            let line = text.split(|byte| b"\r\n".contains(byte)).next();
            line.unwrap_or_default().to_vec()
        };
        let password = password.transpose()?.map(line);
        let tls = self.tls.as_ref().map(TlsFiles::read).transpose()?;
        Ok(Credentials { password, tls })
    }
}

impl TlsFiles {
    /// Checks which TLS files the configuration names. Returns `None` for a connection without TLS.
    fn plan(config: &Config, is_secure: bool) -> Result<Option<Self>, OpenError> {
        let files = [("ca", &config.ca), ("cert", &config.cert), ("key", &config.key)];
        if !is_secure {
            return match files.iter().find(|(_, file)| file.is_some()) {
                Some((key, _)) => Err(OpenError::new(
                    *key,
                    "a file",
                    "mqtts:// in `connect`, because only TLS uses this file",
                )),
                None => Ok(None),
            };
        }
        let wanted = "the file with the certificates of trusted authorities, such as \
                      /etc/ssl/certs/ca-certificates.crt";
        let ca = config.ca.clone().ok_or_else(|| OpenError::new("ca", "nothing", wanted))?;
        let client = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(OpenError::new(
                    "cert",
                    "nothing",
                    "the file with the certificate for `key`",
                ));
            }
            (Some(_), None) => {
                return Err(OpenError::new(
                    "key",
                    "nothing",
                    "the file with the private key for `cert`",
                ));
            }
        };
        Ok(Some(Self { ca, client }))
    }

    /// Reads the files and makes the TLS settings.
    fn read(&self) -> Result<TlsConfiguration, OpenError> {
        let mut roots = RootCertStore::empty();
        for cert in certificates("ca", &self.ca)? {
            let wanted = "certificates of authorities";
            let found = |error| format!("{}: {error}", self.ca.display());
            roots.add(cert).map_err(|error| OpenError::new("ca", found(error), wanted))?;
        }
        // The crypto provider is set here: rustls has no default provider if the process has
        // several providers.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the TLS versions that rustls calls safe")
            .with_root_certificates(roots);
        let Some((cert, key_file)) = &self.client else {
            return Ok(TlsConfiguration::Rustls(Arc::new(builder.with_no_client_auth())));
        };
        let wrong = |error: String| {
            let found = format!("{}: {error}", key_file.display());
            OpenError::new("key", found, "the private key for `cert`, in PEM, without a password")
        };
        let key = PrivateKeyDer::from_pem_slice(&read("key", key_file)?);
        let key = key.map_err(|error| wrong(error.to_string()))?;
        let config = builder.with_client_auth_cert(certificates("cert", cert)?, key);
        let config = config.map_err(|error| wrong(error.to_string()))?;
        Ok(TlsConfiguration::Rustls(Arc::new(config)))
    }
}

/// Returns the certificates in `file`. The name of the configuration key, `key`, is for the error
/// message. A file without a certificate is an error.
fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let wrong = |error: &str| {
        OpenError::new(key, format!("{}: {error}", file.display()), "certificates in PEM")
    };
    let text = read(key, file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| wrong(&error.to_string()))?;
    if all.is_empty() { Err(wrong("no certificate")) } else { Ok(all) }
}

/// Reads `file`. The name of the configuration key, `key`, is for the error message.
fn read(key: &str, file: &Path) -> Result<Vec<u8>, OpenError> {
    file::read_present(file, MOST_PEM_BYTES).map_err(|error| {
        let found = format!("{}: {error}", file.display());
        OpenError::new(key, found, "a file that can be read").caused_by(&error)
    })
}
