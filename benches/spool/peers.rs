//! Other queues, asked in their own words over loopback by clients that do nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::MESSAGE_BYTES;
use super::actors::{self, Actor};

const PATIENCE: Duration = Duration::from_secs(20);

/// A queue beside which the spool is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// Streams with a consumer group: XADD, XREADGROUP, XACK.
    Redis,
    /// put, reserve, delete.
    Beanstalkd,
    /// JetStream with a pull consumer: publish, next, acknowledge with an answer.
    Nats,
}

impl Peer {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Beanstalkd => "beanstalkd",
            Self::Nats => "NATS",
        }
    }
}

/// Lets actors do cycles, each over a connection of its own.
pub(super) fn threads(count: usize, peer: Peer, address: &str, time: Duration) -> f64 {
    let mut first = Line::connect(address);
    match peer {
        Peer::Redis => {
            first.redis(&[b"DEL", b"bench"]);
            first.redis(&[b"XGROUP", b"CREATE", b"bench", b"group", b"$", b"MKSTREAM"]);
        }
        Peer::Beanstalkd => {}
        Peer::Nats => first.make_stream(),
    }
    let actor = |number: usize| -> Actor {
        let mut line = Line::connect(address);
        if peer == Peer::Nats {
            line.greet(number + 1);
        }
        let consumer = format!("consumer{number}");
        let content = vec![b'x'; MESSAGE_BYTES];
        Box::new(move || {
            match peer {
                Peer::Redis => line.redis_cycle(consumer.as_bytes(), &content),
                Peer::Beanstalkd => line.beanstalkd_cycle(&content),
                Peer::Nats => line.nats_cycle(&content),
            }
            1
        })
    };
    actors::threads((0..count).map(actor).collect(), time)
}

/// A connection.
struct Line {
    input: BufReader<TcpStream>,
    output: TcpStream,
    /// Where NATS answers.
    inbox: String,
}

/// A Redis reply, as far as it matters.
#[derive(Debug)]
enum Reply {
    Text(Vec<u8>),
    Number,
    Nothing,
    Many(Vec<Self>),
}

impl Line {
    fn connect(address: &str) -> Self {
        let output = TcpStream::connect(address).unwrap();
        output.set_nodelay(true).unwrap();
        output.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { input: BufReader::new(output.try_clone().unwrap()), output, inbox: String::new() }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.output.write_all(bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.input.read_line(&mut line).unwrap();
        assert!(line.ends_with("\r\n"), "the connection was closed");
        line.truncate(line.len() - 2);
        line
    }

    /// Reads a content and the end of line behind it.
    fn content(&mut self, bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes + 2];
        self.input.read_exact(&mut content).unwrap();
        content.truncate(bytes);
        content
    }

    fn redis(&mut self, words: &[&[u8]]) -> Reply {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        self.say(&command);
        self.redis_reply()
    }

    fn redis_reply(&mut self) -> Reply {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        match kind {
            "+" => Reply::Text(rest.as_bytes().to_vec()),
            ":" => Reply::Number,
            "$" | "*" if rest == "-1" => Reply::Nothing,
            "$" => Reply::Text(self.content(rest.parse().unwrap())),
            "*" => Reply::Many((0..rest.parse::<usize>().unwrap()).map(|_| self.redis_reply()).collect()),
            _ => panic!("Redis says {line}"),
        }
    }

    fn redis_cycle(&mut self, consumer: &[u8], content: &[u8]) {
        self.redis(&[b"XADD", b"bench", b"*", b"b", content]);
        let given =
            self.redis(&[b"XREADGROUP", b"GROUP", b"group", consumer, b"COUNT", b"1", b"STREAMS", b"bench", b">"]);
        let id = entry_id(&given).unwrap();
        self.redis(&[b"XACK", b"bench", b"group", id]);
    }

    fn beanstalkd_cycle(&mut self, content: &[u8]) {
        let mut put = format!("put 1 0 600 {}\r\n", content.len()).into_bytes();
        put.extend_from_slice(content);
        put.extend_from_slice(b"\r\n");
        self.say(&put);
        assert!(self.line().starts_with("INSERTED "));
        self.say(b"reserve\r\n");
        let reserved = self.line();
        let words: Vec<&str> = reserved.split(' ').collect();
        assert_eq!(words[0], "RESERVED");
        self.content(words[2].parse().unwrap());
        self.say(format!("delete {}\r\n", words[1]).as_bytes());
        assert_eq!(self.line(), "DELETED");
    }

    /// Begins to speak NATS, and to listen at an inbox of its own.
    fn greet(&mut self, number: usize) {
        assert!(self.line().starts_with("INFO "));
        self.inbox = format!("_INBOX.{number}");
        let inbox = self.inbox.clone();
        self.say(format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {inbox} 1\r\n").as_bytes());
    }

    /// Publishes something and reads the message that comes to the inbox: where it may be answered, and its content.
    fn nats(&mut self, subject: &str, content: &[u8]) -> (String, Vec<u8>) {
        let mut command = format!("PUB {subject} {} {}\r\n", self.inbox, content.len()).into_bytes();
        command.extend_from_slice(content);
        command.extend_from_slice(b"\r\n");
        self.say(&command);
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split(' ').collect();
            match words[0] {
                "MSG" => {
                    let reply = if words.len() == 5 { words[3].to_owned() } else { String::new() };
                    return (reply, self.content(words.last().unwrap().parse().unwrap()));
                }
                "PING" => self.say(b"PONG\r\n"),
                "PONG" | "+OK" => {}
                _ => panic!("NATS says {line}"),
            }
        }
    }

    fn make_stream(&mut self) {
        self.greet(0);
        self.nats("$JS.API.STREAM.DELETE.bench", b"");
        let stream = br#"{"name":"bench","subjects":["bench"],"storage":"file"}"#;
        let (_, made) = self.nats("$JS.API.STREAM.CREATE.bench", stream);
        assert!(!String::from_utf8_lossy(&made).contains("\"error\""), "{}", String::from_utf8_lossy(&made));
        let consumer =
            br#"{"stream_name":"bench","config":{"durable_name":"c","ack_policy":"explicit","max_ack_pending":10000}}"#;
        let (_, made) = self.nats("$JS.API.CONSUMER.DURABLE.CREATE.bench.c", consumer);
        assert!(!String::from_utf8_lossy(&made).contains("\"error\""), "{}", String::from_utf8_lossy(&made));
    }

    fn nats_cycle(&mut self, content: &[u8]) {
        let (_, accepted) = self.nats("bench", content);
        assert!(!String::from_utf8_lossy(&accepted).contains("\"error\""), "{}", String::from_utf8_lossy(&accepted));
        let (reply, given) = self.nats("$JS.API.CONSUMER.MSG.NEXT.bench.c", b"1");
        assert_eq!(given.len(), content.len());
        self.nats(&reply, b"+ACK");
    }
}

/// Finds the id of the one entry that was read.
fn entry_id(reply: &Reply) -> Option<&[u8]> {
    // [[stream, [[id, fields]]]]
    let mut inner = reply;
    for at in [0, 1, 0, 0] {
        let Reply::Many(many) = inner else { return None };
        inner = many.get(at)?;
    }
    match inner {
        Reply::Text(id) => Some(id),
        Reply::Number | Reply::Nothing | Reply::Many(_) => None,
    }
}
