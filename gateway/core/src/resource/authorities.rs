//! The certificates by which a server is known. Performs no I/O.

use std::sync::Arc;

use crds::Tls;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Invalid, Secrets};
use crate::Namespace;

/// The certificates to trust, as PEM. What else stands beside them in the Secret, such as a private
/// key, is not handed on.
pub(super) fn authorities(
    tls: &Tls,
    secrets: &Secrets,
    namespace: &Namespace,
) -> Result<Arc<str>, Invalid> {
    let field = "spec.tls.caSecretRef";
    let text = secrets.read_large(field, &tls.ca_secret_ref, namespace)?;
    let certificates = certificates(&text);
    let count = CertificateDer::pem_slice_iter(certificates.as_bytes())
        .try_fold(0, |count, certificate| certificate.map(|_| count + 1));
    let what = match count {
        Ok(1..) => return Ok(certificates.into()),
        Ok(_) => "holds no certificate as PEM",
        Err(_) => "holds a certificate that cannot be read as PEM",
    };
    Err(Invalid::Reference {
        field: field.to_owned(),
        secret: tls.ca_secret_ref.name.clone(),
        problem: format!("{what} under the key {}", tls.ca_secret_ref.key),
    })
}

/// The sections that are certificates.
fn certificates(text: &str) -> String {
    let mut certificates = String::new();
    let mut inside = false;
    for line in text.split(['\n', '\r']).map(str::trim_end) {
        if line.starts_with("-----BEGIN ") {
            inside = line == "-----BEGIN CERTIFICATE-----";
        }
        if inside && !line.is_empty() {
            certificates.push_str(line);
            certificates.push('\n');
        }
        inside &= line != "-----END CERTIFICATE-----";
    }
    certificates
}
