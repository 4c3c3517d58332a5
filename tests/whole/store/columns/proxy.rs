//! A proxy before PostgreSQL that mixes up two columns of a statement: two of its parameters, or two of what it
//! returns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Parameters,
    Results,
}

/// Two columns of one statement, by their places from 0.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    pub(crate) statement: String,
    pub(crate) side: Side,
    pub(crate) pair: (usize, usize),
}

#[derive(Debug, Default)]
struct State {
    swap: Option<Swap>,
    /// How often the swap was made.
    made: u32,
    /// The statements that were executed since [`Proxy::swap`].
    executed: BTreeSet<String>,
}

#[derive(Clone)]
pub(crate) struct Proxy {
    state: Arc<Mutex<State>>,
    pub(crate) port: u16,
}

impl Proxy {
    /// Listens before the server at `server`.
    pub(crate) async fn start(server: (String, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = Self { state: Arc::default(), port };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect((server.0.as_str(), server.1)).await.expect("the server");
                for socket in [&client, &server] {
                    socket.set_nodelay(true).expect("a socket");
                }
                accepting.serve(client, server);
            }
        });
        proxy
    }

    /// Mixes these up from now on.
    pub(crate) fn swap(&self, swap: Option<Swap>) {
        let mut state = self.state.lock().expect("the state");
        (state.swap, state.made) = (swap, 0);
        state.executed.clear();
    }

    /// How often the swap was made since it was asked for.
    pub(crate) fn made(&self) -> u32 {
        self.state.lock().expect("the state").made
    }

    /// The statements that were executed since [`Proxy::swap`].
    pub(crate) fn executed(&self) -> BTreeSet<String> {
        self.state.lock().expect("the state").executed.clone()
    }

    fn serve(&self, client: TcpStream, server: TcpStream) {
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let session: Arc<Mutex<Session>> = Arc::default();
        let (state, asked) = (Arc::clone(&self.state), Arc::clone(&session));
        let ask = move |kind, payload: &mut Vec<u8>| {
            asked.lock().expect("the session").ask(kind, payload, &mut state.lock().expect("the state"));
        };
        let state = Arc::clone(&self.state);
        let answer = move |kind, payload: &mut Vec<u8>| {
            session.lock().expect("the session").answer(kind, payload, &mut state.lock().expect("the state"));
        };
        tokio::spawn(copy(from_client, to_server, true, ask));
        tokio::spawn(copy(from_server, to_client, false, answer));
    }
}

/// Copies messages, which `change` may change; a client's first one has no type.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    starts: bool,
    mut change: impl FnMut(u8, &mut Vec<u8>),
) -> Option<()> {
    let mut typed = !starts;
    loop {
        let kind = if typed { Some(from.read_u8().await.ok()?) } else { None };
        let length = from.read_u32().await.ok()?;
        let mut payload = vec![0; length as usize - 4];
        from.read_exact(&mut payload).await.ok()?;
        let mut out = Vec::with_capacity(payload.len() + 5);
        if let Some(kind) = kind {
            change(kind, &mut payload);
            out.push(kind);
        }
        out.extend((payload.len() as u32 + 4).to_be_bytes());
        out.extend(payload);
        to.write_all(&out).await.ok()?;
        typed = true;
    }
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Session {
    /// The texts of its prepared statements by their names.
    statements: BTreeMap<String, String>,
    /// The statement of the messages since the last Sync.
    current: Option<String>,
    /// The statements whose results have not come yet; `None` is none. The start of the session is not among them.
    pending: VecDeque<Option<String>>,
    has_started: bool,
}

impl Session {
    fn ask(&mut self, kind: u8, payload: &mut Vec<u8>, state: &mut State) {
        match kind {
            b'P' => {
                let (name, text) = (string(payload, 0), string(payload, string(payload, 0).len() + 1));
                self.current = Some(text.clone());
                self.statements.insert(name, text);
            }
            b'B' => {
                let portal = string(payload, 0).len() + 1;
                let name = string(payload, portal);
                let Some(text) = self.statements.get(&name) else { return };
                self.current = Some(text.clone());
                state.executed.insert(text.clone());
                let formats = portal + name.len() + 1;
                let parameters = formats + 2 + 2 * usize::from(short(payload, formats));
                state.exchange(payload, parameters, text, Side::Parameters);
            }
            b'S' => self.pending.push_back(self.current.take()),
            b'Q' => self.pending.push_back(None),
            _ => {}
        }
    }

    fn answer(&mut self, kind: u8, payload: &mut Vec<u8>, state: &mut State) {
        if kind == b'Z' {
            if self.has_started {
                self.pending.pop_front();
            }
            self.has_started = true;
            return;
        }
        if let (b'D', Some(Some(text))) = (kind, self.pending.front()) {
            state.exchange(payload, 0, text, Side::Results);
        }
    }
}

impl State {
    /// Exchanges two values of a message, in which their number and then the values stand from `at` on.
    fn exchange(&mut self, payload: &mut Vec<u8>, at: usize, text: &str, side: Side) {
        let Some(swap) = self.swap.as_ref().filter(|swap| swap.side == side && swap.statement == text) else { return };
        let (mut values, mut next) = (Vec::new(), at + 2);
        for _ in 0..short(payload, at) {
            let length = i32::from_be_bytes(payload[next..next + 4].try_into().expect("four bytes"));
            let end = next + 4 + usize::try_from(length).unwrap_or(0);
            values.push(payload[next..end].to_vec());
            next = end;
        }
        values.swap(swap.pair.0, swap.pair.1);
        let rest = payload.split_off(next);
        payload.truncate(at + 2);
        payload.extend(values.into_iter().flatten().chain(rest));
        self.made += 1;
    }
}

fn string(payload: &[u8], at: usize) -> String {
    let text = payload[at..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8(text.to_vec()).expect("UTF-8")
}

fn short(payload: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([payload[at], payload[at + 1]])
}
