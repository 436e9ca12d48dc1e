//! The certificates of the own cluster: one authority, made anew with every cluster, and who it vouches for.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

use super::layout::{APISERVER, APISERVER_SERVICE, LOOPBACK, Layout, NODE_IP, Node};

/// Signs what the cluster's components show each other.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub(crate) struct Identity {
    certificate: String,
    key: String,
}

/// Makes all certificates, keys and kubeconfigs of a cluster.
pub(crate) fn write(layout: &Layout) -> Result<()> {
    let authority = Authority::new()?;
    fs::create_dir_all(layout.pki(""))?;
    fs::set_permissions(layout.pki(""), fs::Permissions::from_mode(0o700))?;
    fs::write(layout.pki("ca.crt"), authority.certificate())?;

    let apiserver = authority.server(
        "kube-apiserver",
        &[
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ],
        &[NODE_IP.into(), APISERVER_SERVICE.into(), LOOPBACK.into()],
    )?;
    apiserver.write(layout, "apiserver")?;
    authority
        .client("kube-apiserver-kubelet-client", "system:masters")?
        .write(layout, "apiserver-kubelet")?;
    for node in Node::ALL {
        let layout = layout.on(node);
        let name = node.name();
        authority
            .server(name, &[name], &[node.ip().into()])?
            .write(&layout, &layout.of_node("kubelet-server"))?;
        let kubelet = authority.client(&format!("system:node:{name}"), "system:nodes")?;
        let file = layout.config(&layout.of_node("kubelet.kubeconfig"));
        private(&file, &authority.kubeconfig(&kubelet))?;
    }
    let tokens = KeyPair::generate()?;
    fs::write(layout.pki("service-account.pub"), tokens.public_key_pem())?;
    private(&layout.pki("service-account.key"), &tokens.serialize_pem())?;

    for (file, user, group) in KUBECONFIGS {
        let text = authority.kubeconfig(&authority.client(user, group)?);
        private(&layout.config(file), &text)?;
    }
    // Read by users and tests, whoever they are, like any kubeconfig of theirs.
    private(&layout.kubeconfig(), &fs::read_to_string(layout.config("admin.kubeconfig"))?)
}

/// Who talks to the apiserver besides kubelets, each as what.
const KUBECONFIGS: [(&str, &str, &str); 4] = [
    ("admin.kubeconfig", "kubernetes-admin", "system:masters"),
    ("controller-manager.kubeconfig", "system:kube-controller-manager", ""),
    ("scheduler.kubeconfig", "system:kube-scheduler", ""),
    ("proxy.kubeconfig", "system:kube-proxy", ""),
];

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = subject("fairway-e2e", "");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    pub(crate) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// For one who is connected to under these names and addresses.
    pub(crate) fn server(
        &self,
        name: &str,
        names: &[&str],
        addresses: &[IpAddr],
    ) -> Result<Identity> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params
            .subject_alt_names
            .extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.distinguished_name = subject(name, "");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// For one who connects: Kubernetes reads the user and the group from the subject.
    pub(crate) fn client(&self, user: &str, group: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = subject(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Identity> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Holds everything in itself, so that it can be copied.
    fn kubeconfig(&self, identity: &Identity) -> String {
        let [authority, certificate, key] =
            [&self.certificate(), &identity.certificate, &identity.key]
                .map(|pem| STANDARD.encode(pem));
        format!(
            "\
apiVersion: v1
kind: Config
clusters:
- name: {CONTEXT}
  cluster:
    server: https://{APISERVER}
    certificate-authority-data: {authority}
users:
- name: {CONTEXT}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {CONTEXT}
  context: {{cluster: {CONTEXT}, user: {CONTEXT}}}
current-context: {CONTEXT}
"
        )
    }
}

impl Identity {
    /// `NAME.crt` and `NAME.key`.
    fn write(&self, layout: &Layout, name: &str) -> Result<()> {
        fs::write(layout.pki(&format!("{name}.crt")), &self.certificate)?;
        private(&layout.pki(&format!("{name}.key")), &self.key)
    }
}

fn subject(name: &str, organization: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if !organization.is_empty() {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, name);
    subject
}

/// Writes what only its owner may read.
fn private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;

    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// The name of the context in every kubeconfig.
pub(crate) const CONTEXT: &str = "fairway-e2e";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeconfig_holds_all_it_needs() {
        let authority = Authority::new().unwrap();
        let text = authority.kubeconfig(&authority.client("someone", "some:group").unwrap());

        let data = text.lines().filter_map(|line| line.split_once("-data: ")).map(|(_, data)| data);
        let pems: Vec<_> =
            data.map(|data| String::from_utf8(STANDARD.decode(data).unwrap()).unwrap()).collect();
        assert_eq!(pems.len(), 3);
        assert_eq!(pems[0], authority.certificate());
        assert!(pems[1].starts_with("-----BEGIN CERTIFICATE-----"), "{}", pems[1]);
        assert!(pems[2].starts_with("-----BEGIN PRIVATE KEY-----"), "{}", pems[2]);
        assert!(text.contains("server: https://10.97.0.1:6443"), "{text}");
    }
}
