//! A publisher with its own AMQP encoding, for messages that a client library would not send.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// Maximum frame size in the negotiation.
const FRAME_MAX: u32 = 128 * 1024;

/// Names of the properties in the order of their flags, starting with the highest bit.
const PROPERTIES: [&str; 14] = [
    "content_type",
    "content_encoding",
    "headers",
    "delivery_mode",
    "priority",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "timestamp",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
];

/// A message to publish, all parts as bytes.
pub struct Raw<'a> {
    pub routing_key: &'a [u8],
    /// Names and encoded values of the properties: see [`short`] and [`table`].
    pub properties: &'a [(&'a str, Vec<u8>)],
    pub body: &'a [u8],
}

/// Encodes a short string.
pub fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a short string")], text].concat()
}

/// Encodes a table or an array with these encoded entries.
pub fn table(entries: &[u8]) -> Vec<u8> {
    [&u32::try_from(entries.len()).expect("a small table").to_be_bytes(), entries].concat()
}

/// A connection with a channel in confirm mode.
pub struct RawPublisher {
    socket: TcpStream,
    exchange: String,
}

impl RawPublisher {
    /// Connects to the broker at `uri`, to publish to `exchange`.
    pub async fn connect(uri: &str, exchange: &str) -> Self {
        let address = uri.rsplit('@').next().and_then(|rest| rest.split('/').next()).expect("host and port");
        let socket = TcpStream::connect(address).await.expect("a connection");
        let mut broker = Self { socket, exchange: exchange.to_owned() };
        broker.socket.write_all(b"AMQP\0\0\x09\x01").await.expect("sent");
        broker.expect(10, 10).await;
        let credentials = [&[0, 0, 0, 12][..], b"\0guest\0guest"].concat();
        broker.method(0, 10, 11, &[&[0; 4], &*short(b"PLAIN"), &credentials, &short(b"en_US")].concat()).await;
        broker.expect(10, 30).await;
        let limits = [&[0x07, 0xff][..], &FRAME_MAX.to_be_bytes(), &[0, 0]].concat();
        broker.method(0, 10, 31, &limits).await;
        broker.method(0, 10, 40, &[&short(b"/")[..], &[0, 0]].concat()).await;
        broker.expect(10, 41).await;
        broker.method(1, 20, 10, &[0]).await;
        broker.expect(20, 11).await;
        broker.method(1, 85, 10, &[0]).await;
        broker.expect(85, 11).await;
        broker
    }

    /// Publishes a message and waits for the confirm.
    pub async fn publish(&mut self, raw: Raw<'_>) {
        let target = [&[0, 0][..], &short(self.exchange.as_bytes()), &short(raw.routing_key), &[0]].concat();
        self.method(1, 60, 40, &target).await;
        let (mut flags, mut values) = (0u16, Vec::new());
        for (place, name) in PROPERTIES.iter().enumerate() {
            if let Some((_, value)) = raw.properties.iter().find(|(property, _)| property == name) {
                flags |= 1 << (15 - place);
                values.extend_from_slice(value);
            }
        }
        assert_eq!(flags.count_ones() as usize, raw.properties.len(), "a property has an unknown name");
        let length = (raw.body.len() as u64).to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &length, &flags.to_be_bytes(), &values].concat();
        self.frame(HEADER, 1, &header).await;
        for part in raw.body.chunks(FRAME_MAX as usize - 8) {
            self.frame(BODY, 1, part).await;
        }
        self.expect(60, 80).await;
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a small frame");
        let frame = [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[FRAME_END]].concat();
        self.socket.write_all(&frame).await.expect("sent");
    }

    async fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        self.frame(METHOD, channel, &payload).await;
    }

    /// Reads a frame. Fails unless it carries this method.
    async fn expect(&mut self, class: u16, method: u16) {
        let mut head = [0; 7];
        self.socket.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; length + 1];
        self.socket.read_exact(&mut payload).await.expect("its payload");
        let wanted = [class.to_be_bytes(), method.to_be_bytes()].concat();
        assert_eq!((head[0], &payload[..4]), (METHOD, &wanted[..]), "{}", String::from_utf8_lossy(&payload));
    }
}
