//! Tests of the proxy between two sockets.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::proxy::{CutPoint, CuttingProxy, Protocol};

/// An acknowledgement followed by a heartbeat.
const ACK: &[u8] = b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x07\x01\xce";
const HEARTBEAT: &[u8] = b"\x08\0\0\0\0\0\0\xce";

/// Time limit for events that must happen.
const SOON: Duration = Duration::from_secs(10);

/// Time to wait for events that must not happen.
const A_WHILE: Duration = Duration::from_millis(100);

/// Starts a proxy and the listener that it forwards to.
async fn proxy() -> (CuttingProxy, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (CuttingProxy::start(Protocol::Amqp, server.local_addr().unwrap()).await.unwrap(), server)
}

/// Connects a client. Returns its stream and the one that the server has accepted.
async fn connected(proxy: &CuttingProxy, server: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(proxy.local_addr()).await.unwrap();
    let (accepted, _) = timeout(SOON, server.accept()).await.unwrap().unwrap();
    (client, accepted)
}

/// Reads to the end. Returns the bytes, and whether the connection was reset.
async fn rest(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let end = timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("it ends");
    (bytes, end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset))
}

async fn arrives(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    timeout(SOON, stream.read_exact(&mut bytes)).await.expect("it arrives").unwrap();
    assert_eq!(bytes, expected);
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, wait).await.expect(what);
}

#[tokio::test]
async fn both_directions_are_forwarded_and_so_are_their_ends() {
    let (proxy, server) = proxy().await;
    let (mut client, mut accepted) = connected(&proxy, &server).await;
    client.write_all(HEARTBEAT).await.unwrap();
    arrives(&mut accepted, HEARTBEAT).await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut accepted).await, (Vec::new(), false));
    accepted.write_all(ACK).await.unwrap();
    drop(accepted);
    assert_eq!(rest(&mut client).await, (ACK.to_vec(), false));
    until("it is forgotten", || proxy.connections() == 0).await;
    assert_eq!(CutPoint::ALL.map(|point| proxy.cuts(point)), [0; 7]);
}

#[tokio::test]
async fn each_arming_is_one_cut_of_whichever_connection_comes_first() {
    let (proxy, server) = proxy().await;
    proxy.arm(CutPoint::BeforeAck);
    proxy.arm(CutPoint::BeforeAck);
    proxy.arm(CutPoint::AfterAck);
    let bytes = [HEARTBEAT, ACK, HEARTBEAT].concat();
    let before = HEARTBEAT.to_vec();
    let after = [HEARTBEAT, ACK].concat();
    for expected in [&before, &before, &after] {
        let (mut client, mut accepted) = connected(&proxy, &server).await;
        client.write_all(&bytes).await.unwrap();
        assert_eq!(&rest(&mut accepted).await.0, expected);
        rest(&mut client).await;
    }
    until("all are counted", || proxy.cuts(CutPoint::BeforeAck) == 2 && proxy.cuts(CutPoint::AfterAck) == 1).await;
    let (mut client, mut accepted) = connected(&proxy, &server).await;
    client.write_all(&bytes).await.unwrap();
    arrives(&mut accepted, &bytes).await;
    assert_eq!((proxy.armed(CutPoint::BeforeAck), proxy.connections()), (0, 1));
    assert_eq!((proxy.reached(CutPoint::BeforeAck), proxy.reached(CutPoint::AfterAck)), (4, 2));
}

#[tokio::test]
async fn all_connections_are_reset_at_once_and_new_ones_are_not() {
    let (proxy, server) = proxy().await;
    let (mut one, mut one_accepted) = connected(&proxy, &server).await;
    let (mut other, mut other_accepted) = connected(&proxy, &server).await;
    assert_eq!((proxy.connections(), proxy.cut_all()), (2, 2));
    for stream in [&mut one, &mut one_accepted, &mut other, &mut other_accepted] {
        assert_eq!(rest(stream).await, (Vec::new(), true));
    }
    let (mut client, mut accepted) = connected(&proxy, &server).await;
    client.write_all(HEARTBEAT).await.unwrap();
    arrives(&mut accepted, HEARTBEAT).await;
}

#[tokio::test]
async fn a_half_open_connection_stays_open_and_carries_nothing_until_it_is_whole_again() {
    let (proxy, server) = proxy().await;
    let (mut client, mut accepted) = connected(&proxy, &server).await;
    proxy.half_open(true);
    let mut late = TcpStream::connect(proxy.local_addr()).await.unwrap();
    client.write_all(HEARTBEAT).await.unwrap();
    accepted.write_all(ACK).await.unwrap();
    let mut byte = [0];
    assert!(timeout(A_WHILE, accepted.read(&mut byte)).await.is_err(), "nothing arrives");
    assert!(timeout(A_WHILE, client.read(&mut byte)).await.is_err(), "nothing comes back");
    assert!(timeout(A_WHILE, server.accept()).await.is_err(), "nobody new is forwarded");
    assert_eq!(proxy.connections(), 2);
    proxy.half_open(false);
    arrives(&mut accepted, HEARTBEAT).await;
    arrives(&mut client, ACK).await;
    let (mut late_accepted, _) = timeout(SOON, server.accept()).await.unwrap().unwrap();
    late.write_all(HEARTBEAT).await.unwrap();
    arrives(&mut late_accepted, HEARTBEAT).await;
}

#[tokio::test]
async fn a_connection_that_is_forgotten_carries_nothing_and_a_new_one_does() {
    let (proxy, server) = proxy().await;
    let (mut client, mut accepted) = connected(&proxy, &server).await;
    assert_eq!(proxy.forget_all(), 1);
    client.write_all(HEARTBEAT).await.unwrap();
    assert!(timeout(A_WHILE, accepted.read(&mut [0])).await.is_err(), "nothing arrives");
    let (mut new, mut new_accepted) = connected(&proxy, &server).await;
    new.write_all(HEARTBEAT).await.unwrap();
    arrives(&mut new_accepted, HEARTBEAT).await;
    assert_eq!((proxy.connections(), proxy.cut_all()), (2, 2));
    assert_eq!(rest(&mut client).await, (Vec::new(), true));
}

#[tokio::test]
async fn a_delay_holds_each_direction_up_and_ends() {
    let (proxy, server) = proxy().await;
    let (mut client, mut accepted) = connected(&proxy, &server).await;
    proxy.delay(A_WHILE);
    let began = Instant::now();
    client.write_all(HEARTBEAT).await.unwrap();
    arrives(&mut accepted, HEARTBEAT).await;
    accepted.write_all(ACK).await.unwrap();
    arrives(&mut client, ACK).await;
    assert!(began.elapsed() >= A_WHILE * 2, "{:?}", began.elapsed());
    proxy.delay(SOON * 2);
    proxy.delay(Duration::ZERO);
    client.write_all(HEARTBEAT).await.unwrap();
    arrives(&mut accepted, HEARTBEAT).await;
}

#[tokio::test]
async fn a_server_that_is_away_closes_the_client_and_the_end_of_the_proxy_closes_all() {
    let (proxy, server) = proxy().await;
    let (mut client, mut accepted) = connected(&proxy, &server).await;
    drop(server);
    let mut refused = TcpStream::connect(proxy.local_addr()).await.unwrap();
    assert!(rest(&mut refused).await.0.is_empty());
    let address = proxy.local_addr();
    drop(proxy);
    for stream in [&mut client, &mut accepted] {
        assert!(rest(stream).await.0.is_empty());
    }
    let gone = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(SOON, gone).await.expect("nobody listens any more");
}
