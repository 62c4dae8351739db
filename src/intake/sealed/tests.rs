//! The last words and the goodbye of TLS are one write; what is more than is gathered comes whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::intake::LingerLimits;
use crate::intake::wire::{Client, Wire};
use crate::session::replies;
use crate::tls::listener::provider;
use crate::tls::recipe::{NOW, Recipe};

/// One end of a pipe that counts its writes.
struct Counting(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counting {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, piece: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(task, piece)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(task, octets)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let octets: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.poll_write(task, &octets)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(task)
    }
}

#[derive(Debug)]
struct FixedTime;

impl rustls::time_provider::TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW.try_into().unwrap())))
    }
}

/// Both ends after the handshake, and the count of the server's writes.
async fn connected() -> (Sealed<Counting>, tokio_rustls::client::TlsStream<DuplexStream>, Arc<AtomicUsize>) {
    let root = Recipe::ca("Root").self_signed();
    let server = Recipe::server("mail.example.com").signed_by(&root);
    let mut roots = RootCertStore::empty();
    roots.add(root.der.clone()).unwrap();
    let client = ClientConfig::builder_with_details(Arc::new(provider()), Arc::new(FixedTime))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der.clone()], server.key_der())
        .unwrap();
    config.send_tls13_tickets = 0;
    let (here, there) = tokio::io::duplex(1 << 20);
    let writes = Arc::new(AtomicUsize::new(0));
    let accepting = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(Counting(here, Arc::clone(&writes)));
    let name = ServerName::try_from("mail.example.com").unwrap();
    let connecting = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, there);
    let (server, client) = tokio::join!(accepting, connecting);
    writes.store(0, Ordering::Relaxed);
    (Sealed(server.unwrap()), client.unwrap(), writes)
}

#[tokio::test]
async fn the_last_reply_and_the_end_are_one_write() {
    let (server, mut client, writes) = connected().await;
    let mut wire = Wire::new(server, Duration::from_secs(60));
    wire.say(&replies::noop());
    wire.flush().await.unwrap();
    assert_eq!(writes.load(Ordering::Relaxed), 1);
    wire.say(&replies::bye());
    let linger = LingerLimits { wait: Duration::from_secs(1), octets: 1 };
    wire.hang_up(Client::Listening, linger).await.unwrap();
    assert_eq!(writes.load(Ordering::Relaxed), 2);
    let mut heard = String::new();
    // Without the goodbye of TLS this would be an error.
    client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "250 2.0.0 Nothing done\r\n221 2.0.0 Bye\r\n");
}

#[tokio::test]
async fn nothing_goes_before_it_is_flushed_and_more_than_is_gathered_comes_whole() {
    let (mut server, mut client, writes) = connected().await;
    server.write_all(b"a").await.unwrap();
    server.write_all(b"b").await.unwrap();
    assert_eq!(writes.load(Ordering::Relaxed), 0);
    server.flush().await.unwrap();
    let much: Vec<u8> = (0..300_000_u32).map(|number| number.to_be_bytes()[3]).collect();
    server.write_all(&much).await.unwrap();
    assert!(writes.load(Ordering::Relaxed) > 1);
    server.shutdown().await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert!(heard.strip_prefix(b"ab") == Some(&much));
}
