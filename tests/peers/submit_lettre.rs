//! Submits one message with lettre and a client certificate, as a program of any user would.
//!
//! `submit_lettre WAY HOST PORT CA CERT KEY FROM FILE RECIPIENT...`; WAY is `starttls` or `implicit`, `-` for CERT shows none.
//! A tool of tests/peers, not of sealpost.

#![allow(clippy::disallowed_methods, reason = "a program of the tests, with files and arguments of its own")]

use anyhow::Context as _;
use lettre::address::Envelope;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Identity, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [way, host, port, ca, certificate, key, sender, file, recipients @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: submit_lettre WAY HOST PORT CA CERT KEY FROM FILE RECIPIENT...");
    };
    let mut tls = TlsParameters::builder(host.clone())
        .certificate_store(CertificateStore::None)
        .add_root_certificate(Certificate::from_pem(&std::fs::read(ca)?)?);
    if certificate != "-" {
        // With rustls, lettre takes the certificate as DER here, and the key as PEM.
        let leaf = CertificateDer::from_pem_file(certificate).context("the certificate")?;
        tls = tls.identify_with(Identity::from_pem(&leaf, &std::fs::read(key)?)?);
    }
    let tls = tls.build_rustls()?;
    let tls = match way.as_str() {
        "starttls" => Tls::Required(tls),
        "implicit" => Tls::Wrapper(tls),
        other => anyhow::bail!("neither starttls nor implicit: {other}"),
    };
    let recipients = recipients.iter().map(|one| one.parse()).collect::<Result<Vec<Address>, _>>()?;
    let envelope = Envelope::new(Some(sender.parse()?), recipients)?;
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host).port(port.parse()?).tls(tls).build();
    let reply = transport.send_raw(&envelope, &std::fs::read(file)?).await?;
    println!("{} {}", reply.code(), reply.message().collect::<Vec<_>>().join(" / "));
    Ok(())
}
