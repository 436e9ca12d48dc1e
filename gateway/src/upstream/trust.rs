//! Whose certificates are believed: those of the system's authorities, or of a server's own.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// What TLS to one server trusts.
#[derive(Debug)]
pub(super) struct Trust {
    /// PEM in place of the system's authorities.
    authorities: Option<Arc<str>>,
    own: OnceLock<Loaded>,
}

type Loaded = Result<Arc<ClientConfig>, &'static str>;

impl Trust {
    pub(super) const fn new(authorities: Option<Arc<str>>) -> Self {
        Self { authorities, own: OnceLock::new() }
    }

    /// Made at the first connection that needs it.
    pub(super) fn config(&self) -> io::Result<Arc<ClientConfig>> {
        static SYSTEM: OnceLock<Loaded> = OnceLock::new();
        let loaded = match &self.authorities {
            Some(pem) => self.own.get_or_init(|| config(read(pem)?)),
            None => SYSTEM.get_or_init(|| config(system()?)),
        };
        loaded.clone().map_err(io::Error::other)
    }
}

fn system() -> Result<RootCertStore, &'static str> {
    let mut roots = RootCertStore::empty();
    let (trusted, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted == 0 {
        return Err("this system has no certificate authorities; install ca-certificates");
    }
    Ok(roots)
}

fn read(pem: &str) -> Result<RootCertStore, &'static str> {
    let unusable = "the certificate authorities of this server cannot be read; give PEM";
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(|_| unusable)?).map_err(|_| unusable)?;
    }
    if roots.is_empty() { Err(unusable) } else { Ok(roots) }
}

fn config(roots: RootCertStore) -> Loaded {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let config = builder.with_safe_default_protocol_versions().map_err(|_| "no version of TLS")?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
