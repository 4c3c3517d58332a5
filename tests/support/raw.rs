//! A publisher that speaks AMQP by itself, to send what no decent client library would.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// Publishes a body with these bytes as `app_id`, and waits for the confirm.
pub(crate) async fn publish(uri: &str, exchange: &str, routing_key: &str, app_id: &[u8], body: &[u8]) {
    let address = uri.rsplit('@').next().and_then(|rest| rest.split('/').next()).expect("host and port");
    let mut broker = Wire(TcpStream::connect(address).await.expect("a connection"));
    broker.0.write_all(b"AMQP\0\0\x09\x01").await.expect("sent");
    broker.expect(10, 10).await;
    let credentials = [&[0, 0, 0, 12][..], b"\0guest\0guest"].concat();
    broker.method(0, 10, 11, &[&[0; 4], &*short(b"PLAIN"), &credentials, &short(b"en_US")].concat()).await;
    broker.expect(10, 30).await;
    broker.method(0, 10, 31, &[0x07, 0xff, 0, 2, 0, 0, 0, 0]).await;
    broker.method(0, 10, 40, &[&short(b"/")[..], &[0, 0]].concat()).await;
    broker.expect(10, 41).await;
    broker.method(1, 20, 10, &[0]).await;
    broker.expect(20, 11).await;
    broker.method(1, 85, 10, &[0]).await;
    broker.expect(85, 11).await;

    let target = [&[0, 0][..], &short(exchange.as_bytes()), &short(routing_key.as_bytes()), &[0]].concat();
    broker.method(1, 60, 40, &target).await;
    let length = (body.len() as u64).to_be_bytes();
    const APP_ID: u16 = 1 << 3;
    let header = [&[0, 60, 0, 0][..], &length, &APP_ID.to_be_bytes(), &short(app_id)].concat();
    broker.frame(HEADER, 1, &header).await;
    broker.frame(BODY, 1, body).await;
    broker.expect(60, 80).await;
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a short string")], text].concat()
}

struct Wire(TcpStream);

impl Wire {
    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a small frame");
        let frame = [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[FRAME_END]].concat();
        self.0.write_all(&frame).await.expect("sent");
    }

    async fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        self.frame(METHOD, channel, &payload).await;
    }

    /// Reads a frame, which must be this method.
    async fn expect(&mut self, class: u16, method: u16) {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; length + 1];
        self.0.read_exact(&mut payload).await.expect("its payload");
        let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
        assert_eq!((head[0], &payload[..4]), (METHOD, &wanted[..]), "{}", String::from_utf8_lossy(&payload));
    }
}
