//! What proves who we are to a broker, and whom we believe: a password, certificates, a key; and
//! the files that have them.
//!
//! They are read in the plan of the device and for each connection. Both may wait for a disk, so
//! neither is done where anybody waits without a limit.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rumqttc::TlsConfiguration;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::Config;
use crate::driver::{Named, OpenError};
use crate::file;

/// Bytes of a certificate, a key or a password: all authorities of the world in one file have less.
const MOST_PEM_BYTES: u64 = 4 << 20;

/// Where all of it is.
#[derive(Debug, Clone)]
pub(super) struct Files {
    password: Option<PathBuf>,
    tls: Option<TlsFiles>,
}

/// Files in PEM.
#[derive(Debug, Clone)]
struct TlsFiles {
    ca: PathBuf,
    /// Our certificate and its key.
    client: Option<(PathBuf, PathBuf)>,
}

/// What the files have, for one connection.
pub(super) struct Credentials {
    pub(super) password: Option<Vec<u8>>,
    pub(super) tls: Option<TlsConfiguration>,
}

impl fmt::Debug for Credentials {
    /// Nothing of what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Config {
    /// The files that it names.
    pub(in crate::driver) fn files(&self) -> Vec<Named> {
        let files = [
            ("ca", &self.ca),
            ("cert", &self.cert),
            ("key", &self.key),
            ("password_file", &self.password_file),
        ];
        files.into_iter().filter_map(|(key, file)| Some((key, file.clone()?))).collect()
    }
}

impl Files {
    /// Those of a connection that is secure or not; looks at none of them.
    ///
    /// # Errors
    /// When one is missing, or is of no use.
    pub(super) fn plan(config: &Config, is_secure: bool) -> Result<Self, OpenError> {
        let tls = TlsFiles::plan(config, is_secure)?;
        Ok(Self { password: config.password_file.clone(), tls })
    }

    /// Reads them. May wait for the disk.
    ///
    /// # Errors
    /// When one cannot be read, or does not have what it should.
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
    fn plan(config: &Config, is_secure: bool) -> Result<Option<Self>, OpenError> {
        let files = [("ca", &config.ca), ("cert", &config.cert), ("key", &config.key)];
        if !is_secure {
            return match files.iter().find(|(_, file)| file.is_some()) {
                Some((key, _)) => {
                    Err(OpenError::new(*key, "a file", "nothing, or mqtts:// in `connect`"))
                }
                None => Ok(None),
            };
        }
        let wanted =
            "the certificates of whom to believe, such as /etc/ssl/certs/ca-certificates.crt";
        let ca = config.ca.clone().ok_or_else(|| OpenError::new("ca", "nothing", wanted))?;
        let client = match (&config.cert, &config.key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(OpenError::new("cert", "nothing", "the certificate to the key"));
            }
            (Some(_), None) => {
                return Err(OpenError::new("key", "nothing", "the key to the certificate"));
            }
        };
        Ok(Some(Self { ca, client }))
    }

    fn read(&self) -> Result<TlsConfiguration, OpenError> {
        let mut roots = RootCertStore::empty();
        for cert in certificates("ca", &self.ca)? {
            let wanted = "certificates of authorities";
            let found = |error| format!("{}: {error}", self.ca.display());
            roots.add(cert).map_err(|error| OpenError::new("ca", found(error), wanted))?;
        }
        // Named, because a process may have several and then no default.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the versions that are safe")
            .with_root_certificates(roots);
        let Some((cert, key_file)) = &self.client else {
            return Ok(TlsConfiguration::Rustls(Arc::new(builder.with_no_client_auth())));
        };
        let wrong = |error: String| {
            let found = format!("{}: {error}", key_file.display());
            OpenError::new("key", found, "the private key to `cert`, in PEM, without a password")
        };
        let key = PrivateKeyDer::from_pem_slice(&read("key", key_file)?);
        let key = key.map_err(|error| wrong(error.to_string()))?;
        let config = builder.with_client_auth_cert(certificates("cert", cert)?, key);
        let config = config.map_err(|error| wrong(error.to_string()))?;
        Ok(TlsConfiguration::Rustls(Arc::new(config)))
    }
}

/// All certificates of a file, of which there is at least one.
fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let wrong = |error: &str| {
        OpenError::new(key, format!("{}: {error}", file.display()), "certificates in PEM")
    };
    let text = read(key, file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| wrong(&error.to_string()))?;
    if all.is_empty() { Err(wrong("no certificate")) } else { Ok(all) }
}

fn read(key: &str, file: &Path) -> Result<Vec<u8>, OpenError> {
    file::read_present(file, MOST_PEM_BYTES).map_err(|error| {
        let found = format!("{}: {error}", file.display());
        OpenError::new(key, found, "a file that can be read").caused_by(&error)
    })
}
