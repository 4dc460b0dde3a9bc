//! Who gets in.

use super::support::{LIMITS, Pair, other_identities, tag};
use crate::*;
use quinn::crypto::rustls::QuicClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

/// A client that our own API can't make: without a certificate, or with another protocol.
fn foreign_client(files: &IdentityFiles, with_certificate: bool, alpn: &[u8]) -> ClientTls {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if with_certificate {
        let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
        builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap()).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    ClientTls { config: Arc::new(QuicClientConfig::try_from(config).unwrap()) }
}

/// What server and client see when the handshake fails; the client may see it at its first request only.
async fn refused(pair: &Pair) -> (HandshakeError, ConnectionLost) {
    let accepting = async { pair.server.accept().await.unwrap().handshake().await.unwrap_err() };
    let asking = async {
        match pair.client.connect(&pair.address).await {
            Err(ConnectError::Handshake { source: HandshakeError::Lost(lost), .. }) => lost,
            Err(other) => panic!("{other}"),
            Ok(connection) => connection.closed().await,
        }
    };
    tokio::join!(accepting, asking)
}

#[tokio::test]
async fn both_sides_know_the_other_by_its_common_name() {
    let pair = Pair::new(TransportLimits::default());
    let (client, server) = pair.connect().await;
    assert_eq!(server.principal(), &Principal::Named("client".into()));
    assert_eq!(client.principal(), &Principal::Named("broker".into()));
    assert_eq!(server.principal().to_string(), "User:client");
}

#[tokio::test]
async fn every_name_of_the_development_certificate_connects() {
    let pair = Pair::new(TransportLimits::default());
    let port = pair.server.local_address().unwrap().port();
    let address = format!("localhost:{port}");
    let accepting = async { pair.server.accept().await.unwrap().handshake().await.unwrap() };
    let (client, _server) = tokio::join!(pair.client.connect(&address), accepting);
    client.unwrap();
}

#[tokio::test]
async fn an_identity_in_memory_connects_and_is_named_in_errors() {
    let pair = Pair::new(TransportLimits::default());
    let files = create_dev_identities(&pair.directory.path().join("tls")).unwrap().client;
    let [ca, certificate, key] = [&files.ca, &files.certificate, &files.key].map(|path| std::fs::read(path).unwrap());
    let client = ClientTls::from_pem(&ca, &certificate, &key).unwrap();
    let client = ClientEndpoint::new(&client, TransportLimits::default()).unwrap();
    let accepting = async { pair.server.accept().await.unwrap().handshake().await.unwrap() };
    let (_client, server) = tokio::join!(client.connect(&pair.address), accepting);
    assert_eq!(server.principal().to_string(), "User:client");
    let error = ClientTls::from_pem(&ca, &certificate, &ca).err().unwrap();
    assert!(error.to_string().starts_with("<key> has no private key"), "{error}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let files = create_dev_identities(&directory.path().join("tls")).unwrap();
    let server = ServerTls::load(&files.broker).unwrap();
    let client = foreign_client(&files.client, false, limits::ALPN);
    let pair = Pair::with(directory, &server, &client, TransportLimits::default());
    let (at_server, at_client) = refused(&pair).await;
    assert!(matches!(at_server, HandshakeError::Lost(ConnectionLost::Tls(_))), "{at_server}");
    assert!(at_client.to_string().contains("requires a client certificate"), "{at_client}");
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused_and_so_is_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let ours = create_dev_identities(&directory.path().join("tls")).unwrap();
    let other = other_identities(directory.path());
    // It trusts our CA but shows a certificate of another one.
    let mixed = IdentityFiles { ca: ours.client.ca.clone(), ..other.client.clone() };
    let server = ServerTls::load(&ours.broker).unwrap();
    let pair = Pair::with(directory, &server, &ClientTls::load(&mixed).unwrap(), TransportLimits::default());
    let (at_server, at_client) = refused(&pair).await;
    assert!(at_server.to_string().contains("the peer failed our TLS check"), "{at_server}");
    assert!(at_client.to_string().contains("doesn't accept our certificate"), "{at_client}");

    let client = ClientTls::load(&other.client).unwrap();
    let pair = Pair::with(pair.directory, &server, &client, TransportLimits::default());
    let (at_server, at_client) = refused(&pair).await;
    assert!(at_server.to_string().contains("doesn't accept our certificate"), "{at_server}");
    assert!(at_client.to_string().contains("the peer failed our TLS check"), "{at_client}");
}

#[tokio::test]
async fn a_certificate_for_another_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let files = create_dev_identities(&directory.path().join("tls")).unwrap();
    // The client's certificate is not one for servers.
    let server = ServerTls::load(&files.client).unwrap();
    let client = ClientTls::load(&files.client).unwrap();
    let pair = Pair::with(directory, &server, &client, TransportLimits::default());
    let (_, at_client) = refused(&pair).await;
    assert!(matches!(at_client, ConnectionLost::Tls(_)), "{at_client}");
}

#[tokio::test]
async fn a_server_at_an_address_that_its_certificate_does_not_name_is_refused() {
    // covers reliability §4.4: certificate for another name
    let directory = tempfile::tempdir().unwrap();
    let files = create_dev_identities(&directory.path().join("tls")).unwrap();
    let tls = ServerTls::load(&files.broker).unwrap();
    let server = ServerEndpoint::bind("127.0.0.2:0".parse().unwrap(), &tls, TransportLimits::default()).unwrap();
    let client = ClientTls::load(&files.client).unwrap();
    let mut pair = Pair::with(directory, &tls, &client, TransportLimits::default());
    pair.address = server.local_address().unwrap().to_string();
    pair.server = server;
    let (_, at_client) = refused(&pair).await;
    assert!(at_client.to_string().contains("not valid for name"), "{at_client}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused() {
    // covers reliability §4.4: expired certificate
    let directory = tempfile::tempdir().unwrap();
    let files = create_dev_identities(&directory.path().join("tls")).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(files.client.ca.with_extension("key")).unwrap());
    let mut ca = rcgen::CertificateParams::default();
    ca.distinguished_name = rcgen::DistinguishedName::new();
    ca.distinguished_name.push(rcgen::DnType::CommonName, "Headwater development CA");
    let issuer = rcgen::Issuer::new(ca, ca_key.unwrap());
    let until = |not_after| {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.not_after = not_after;
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &issuer).unwrap();
        let ca = std::fs::read(&files.client.ca).unwrap();
        ClientTls::from_pem(&ca, certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    };
    let server = ServerTls::load(&files.broker).unwrap();
    let valid = until(rcgen::date_time_ymd(4000, 1, 1));
    let pair = Pair::with(directory, &server, &valid, TransportLimits::default());
    pair.connect().await;
    let stale = until(rcgen::date_time_ymd(2020, 1, 1));
    let pair = Pair::with(pair.directory, &server, &stale, TransportLimits::default());
    let (at_server, at_client) = refused(&pair).await;
    assert!(at_server.to_string().contains("expired"), "{at_server}");
    assert!(at_client.to_string().contains("not valid now"), "{at_client}");
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let files = create_dev_identities(&directory.path().join("tls")).unwrap();
    let server = ServerTls::load(&files.broker).unwrap();
    let client = foreign_client(&files.client, true, b"h3");
    let pair = Pair::with(directory, &server, &client, TransportLimits::default());
    let (at_server, at_client) = refused(&pair).await;
    assert!(matches!(at_server, HandshakeError::Lost(ConnectionLost::Tls(_))), "{at_server}");
    assert!(at_client.to_string().contains("doesn't speak headwater/0"), "{at_client}");
}

#[tokio::test]
async fn without_client_certificates_a_server_stays_on_loopback() {
    let directory = tempfile::tempdir().unwrap();
    let files = create_dev_identities(&directory.path().join("tls")).unwrap();
    let open = ServerTls::load_without_client_auth(&files.broker.certificate, &files.broker.key).unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = ServerEndpoint::bind(address.parse().unwrap(), &open, TransportLimits::default()).unwrap_err();
        assert!(matches!(error, BindError::OpenBeyondLoopback(_)), "{error}");
    }
    let client = foreign_client(&files.client, false, limits::ALPN);
    let pair = Pair::with(directory, &open, &client, TransportLimits::default());
    let (_client, server) = pair.connect().await;
    assert_eq!(server.principal(), &Principal::Anonymous);
}

#[tokio::test]
async fn nobody_there_is_known_without_waiting_for_the_handshake_time() {
    // The handshake time is an hour: only the machine's "port closed" can end this.
    let limits = TransportLimits { handshake_ms_max: 3_600_000, idle_ms_max: 3_600_000, ..Default::default() };
    let pair = Pair::new(limits);
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = pair.client.connect(&closed.to_string()).await.unwrap_err();
    assert!(error.is_nobody_there(), "{error}");
    for bad in ["localhost", "localhost:0", ":9092", "localhost:http", "no such host.invalid:1"] {
        let error = pair.client.connect(bad).await.unwrap_err();
        assert!(matches!(error, ConnectError::Address { .. }), "{bad}: {error}");
    }
}

#[tokio::test]
async fn a_peer_that_never_finishes_the_handshake_is_given_up() {
    // covers reliability §4.4: slow-loris handshake
    let pair = Pair::new(TransportLimits { handshake_ms_max: 200, ..Default::default() });
    // A raw first flight: take the client's first datagrams and let nothing else through.
    let relay = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relay_address = relay.local_addr().unwrap().to_string();
    let client = pair.client.connect(&relay_address);
    let serve = async {
        let mut datagram = [0; 2048];
        let (length, _) = relay.recv_from(&mut datagram).await.unwrap();
        // The prober's single byte may come first.
        let length = if length == 1 { relay.recv_from(&mut datagram).await.unwrap().0 } else { length };
        relay.send_to(&datagram[..length], &pair.address).await.unwrap();
        pair.server.accept().await.unwrap().handshake().await.unwrap_err()
    };
    let (at_client, at_server) = tokio::join!(client, serve);
    assert!(matches!(at_server, HandshakeError::TooSlow(200)), "{at_server}");
    assert!(at_client.unwrap_err().is_nobody_there());
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused() {
    let pair = Pair::new(TransportLimits { connections_max: 2, ..Default::default() });
    let _first = pair.connect().await;
    let accepting = async {
        let incoming = pair.server.accept().await.unwrap();
        let second = incoming.handshake().await.unwrap();
        (second, pair.server.accept().await.is_none())
    };
    let asking = async {
        let second = pair.client.connect(&pair.address).await.unwrap();
        let third = pair.client.connect(&pair.address).await.unwrap_err();
        pair.server.close(CloseCode::Done, "");
        (second, third)
    };
    let ((_, third_was_hidden), (_second, third)) = tokio::join!(accepting, asking);
    assert!(third_was_hidden, "the caller of accept never sees it");
    assert!(third.to_string().contains("as many as it takes"), "{third}");
}

#[tokio::test]
async fn a_flood_of_handshakes_makes_new_peers_prove_their_address() {
    let pair = Pair::new(TransportLimits { unvalidated_handshakes_max: 0, ..Default::default() });
    let (client, server) = pair.connect().await;
    let (mut send, _recv) = client.open().await.unwrap();
    send.send(tag(1), b"", &[]).await.unwrap();
    let (_, mut recv) = server.accept().await.unwrap().unwrap();
    assert!(recv.next(&LIMITS, &ByteBudget::new(1)).await.unwrap().is_some());
}

#[test]
fn identities_are_made_once_and_private() {
    let directory = tempfile::tempdir().unwrap();
    let tls = directory.path().join("a/tls");
    let first = create_dev_identities(&tls).unwrap();
    let key = std::fs::read(&first.broker.key).unwrap();
    let again = create_dev_identities(&tls).unwrap();
    assert!(first.created && !again.created);
    assert_eq!(std::fs::read(&again.broker.key).unwrap(), key);
    for entry in std::fs::read_dir(&tls).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    std::fs::set_permissions(&first.client.key, PermissionsExt::from_mode(0o640)).unwrap();
    let error = create_dev_identities(&tls).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    assert!(matches!(ClientTls::load(&first.client), Err(TlsError::KeyOpenToOthers { mode: 0o640, .. })));

    std::fs::remove_file(&first.client.key).unwrap();
    let error = create_dev_identities(&tls).unwrap_err();
    assert!(matches!(error, IdentityError::Incomplete { missing: "client.key", .. }), "{error}");
}

#[test]
fn a_half_made_set_of_a_crash_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let staging = directory.path().join("tls.new");
    std::fs::create_dir(&staging).unwrap();
    std::fs::write(staging.join("ca.pem"), "half").unwrap();
    assert!(create_dev_identities(&directory.path().join("tls")).unwrap().created);
    assert!(!staging.exists());
}

#[test]
fn bad_files_are_named_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let files = create_dev_identities(&directory.path().join("tls")).unwrap();
    let other = other_identities(directory.path());
    let load = |ca: &std::path::Path, certificate: &std::path::Path, key: &std::path::Path| {
        let files = IdentityFiles { ca: ca.into(), certificate: certificate.into(), key: key.into() };
        ServerTls::load(&files).err().unwrap().to_string()
    };
    let good = &files.broker;
    let missing = directory.path().join("missing.pem");
    let garbage = directory.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let huge = directory.path().join("huge.pem");
    std::fs::File::create(&huge).unwrap().set_len(limits::IDENTITY_FILE_BYTES_MAX + 1).unwrap();

    assert!(load(&missing, &good.certificate, &good.key).contains("missing.pem"));
    assert!(load(&garbage, &good.certificate, &good.key).contains("garbage.pem is no usable CA"));
    assert!(load(&huge, &good.certificate, &good.key).contains("huge.pem"));
    assert!(load(&good.key, &good.certificate, &good.key).contains("broker.key has no certificate"));
    assert!(load(&good.ca, &good.key, &good.key).contains("broker.key has no certificate"));
    assert!(load(&good.ca, &good.certificate, &other.broker.key).contains("can't be used together"));
}
