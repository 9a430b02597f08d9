//! [`Talk`]: one client's conversation, in batches: prepared bytes out, answers scanned.
//! Not here: when and how often (`beanstalk`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, bail};

use super::{Place, Plan};

/// An answer that has not come by then will not come.
const PATIENCE: Duration = Duration::from_mins(1);
/// Seconds that a worker has for a job.
const TTR_S: u32 = 120;
const READ_BYTES: usize = 256 * 1024;

/// A socket of either kind.
trait Socket: Read + Write + Send {}
impl<S: Read + Write + Send> Socket for S {}

/// One client.
pub(super) struct Talk {
    socket: Box<dyn Socket>,
    /// One put, whole.
    put: Vec<u8>,
    /// To be written.
    out: Vec<u8>,
    input: Input,
    /// Ids of the jobs that are reserved, one after the other with a space behind each.
    reserved: Vec<u8>,
}

impl Talk {
    /// Connects, uses and watches the plan's tube and nothing else.
    pub(super) fn begin(plan: &Plan) -> anyhow::Result<Self> {
        let mut put = format!("put 1024 0 {TTR_S} {}\r\n", plan.size_bytes).into_bytes();
        put.resize(put.len() + plan.size_bytes, b'p');
        put.extend_from_slice(b"\r\n");
        let mut talk = Self {
            socket: connect(&plan.place)?,
            put,
            out: Vec::new(),
            input: Input::default(),
            reserved: Vec::new(),
        };
        let tube = &plan.tube;
        talk.out.extend_from_slice(format!("use {tube}\r\nwatch {tube}\r\n").as_bytes());
        talk.send()?;
        talk.expect(b"USING ")?;
        talk.expect(b"WATCHING ")?;
        if tube != "default" {
            talk.out.extend_from_slice(b"ignore default\r\n");
            talk.send()?;
            talk.expect(b"WATCHING ")?;
        }
        Ok(talk)
    }

    /// The server's version, as it says itself.
    pub(super) fn version(&mut self) -> anyhow::Result<String> {
        self.out.extend_from_slice(b"stats\r\n");
        self.send()?;
        let length = std::str::from_utf8(self.expect(b"OK ")?)?.trim().parse::<usize>()?;
        let text = String::from_utf8_lossy(self.input.body(&mut self.socket, length)?);
        let line = text.lines().find_map(|line| line.strip_prefix("version: "));
        Ok(line.unwrap_or("?").trim_matches('"').to_owned())
    }

    /// Puts so many jobs and waits until all are answered.
    pub(super) fn put(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            self.out.extend_from_slice(&self.put);
        }
        self.send()?;
        for _ in 0..count {
            self.expect(b"INSERTED ")?;
        }
        Ok(())
    }

    /// Reserves so many jobs; they are there.
    pub(super) fn reserve(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            self.out.extend_from_slice(b"reserve\r\n");
        }
        self.send()?;
        self.reserved.clear();
        for _ in 0..count {
            let length = {
                let answer = expect(&mut self.input, &mut self.socket, b"RESERVED ")?;
                let space = answer.iter().position(|byte| *byte == b' ');
                let (id, length) = answer.split_at(space.context("RESERVED without a size")?);
                self.reserved.extend_from_slice(id);
                self.reserved.push(b' ');
                std::str::from_utf8(length)?.trim().parse::<usize>()?
            };
            self.input.body(&mut self.socket, length)?;
        }
        Ok(())
    }

    /// Deletes what is reserved.
    pub(super) fn delete(&mut self) -> anyhow::Result<()> {
        let mut count = 0;
        for id in self.reserved.split(|byte| *byte == b' ').filter(|id| !id.is_empty()) {
            self.out.extend_from_slice(b"delete ");
            self.out.extend_from_slice(id);
            self.out.extend_from_slice(b"\r\n");
            count += 1;
        }
        self.send()?;
        for _ in 0..count {
            self.expect(b"DELETED")?;
        }
        Ok(())
    }

    fn send(&mut self) -> anyhow::Result<()> {
        self.socket.write_all(&self.out).context("writing to the server")?;
        self.out.clear();
        Ok(())
    }

    fn expect(&mut self, word: &[u8]) -> anyhow::Result<&[u8]> {
        expect(&mut self.input, &mut self.socket, word)
    }
}

/// The rest of the next line, which must begin like this.
fn expect<'a>(
    input: &'a mut Input,
    socket: &mut dyn Read,
    word: &[u8],
) -> anyhow::Result<&'a [u8]> {
    let line = input.line(socket)?;
    line.strip_prefix(word).with_context(|| {
        let (wanted, came) = (String::from_utf8_lossy(word), String::from_utf8_lossy(line));
        format!("the server answers {came:?}, not {wanted:?}")
    })
}

fn connect(place: &Place) -> anyhow::Result<Box<dyn Socket>> {
    match place {
        Place::Port(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).with_context(|| {
                format!("no server answers at {host}:{port}; start one, or correct --addr")
            })?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream))
        }
        Place::File(path) => {
            let stream = UnixStream::connect(path).with_context(|| {
                format!("no server answers at {}; start one, or correct --addr", path.display())
            })?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream))
        }
    }
}

/// What was read and not yet looked at.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    /// Seen up to here.
    at: usize,
    /// Read up to here.
    end: usize,
}

impl Input {
    /// The next line without its end.
    fn line(&mut self, socket: &mut dyn Read) -> anyhow::Result<&[u8]> {
        let mut looked = 0;
        loop {
            let ready = self.ready();
            let found = ready.get(looked..).unwrap_or_default().iter().position(|b| *b == b'\n');
            if let Some(position) = found {
                let (from, length) = (self.at, looked + position);
                self.at += length + 1;
                let line = self.bytes.get(from..from + length).unwrap_or_default();
                return Ok(line.strip_suffix(b"\r").unwrap_or(line));
            }
            looked = ready.len();
            self.fill(socket)?;
        }
    }

    /// A body of so many bytes, and the line end behind it.
    fn body(&mut self, socket: &mut dyn Read, length: usize) -> anyhow::Result<&[u8]> {
        while self.ready().len() < length + 2 {
            self.fill(socket)?;
        }
        let from = self.at;
        self.at += length + 2;
        Ok(self.bytes.get(from..from + length).unwrap_or_default())
    }

    fn ready(&self) -> &[u8] {
        self.bytes.get(self.at..self.end).unwrap_or_default()
    }

    fn fill(&mut self, socket: &mut dyn Read) -> anyhow::Result<()> {
        self.bytes.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        if self.bytes.len() < self.end + READ_BYTES {
            self.bytes.resize(self.end + READ_BYTES, 0);
        }
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let read = socket.read(room).context("reading from the server")?;
        if read == 0 {
            bail!("the server hung up");
        }
        self.end += read;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a byte at a time.
    struct Drip(&'static [u8]);

    impl Read for Drip {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            let length = self.0.len().min(1);
            let (first, rest) = self.0.split_at(length);
            room[..length].copy_from_slice(first);
            self.0 = rest;
            Ok(length)
        }
    }

    #[test]
    fn lines_and_bodies_are_found_wherever_they_are_cut() {
        let text: &[u8] = b"RESERVED 1 3\r\na\nb\r\nDELETED\r\n";
        let mut whole: &[u8] = text;
        for socket in [&mut Drip(text) as &mut dyn Read, &mut whole] {
            let mut input = Input::default();
            assert_eq!(expect(&mut input, socket, b"RESERVED ").unwrap(), b"1 3");
            assert_eq!(input.body(socket, 3).unwrap(), b"a\nb");
            assert_eq!(input.line(socket).unwrap(), b"DELETED");
            assert!(input.line(socket).unwrap_err().to_string().contains("hung up"));
        }
    }

    #[test]
    fn another_answer_is_shown() {
        let mut socket: &[u8] = b"DRAINING\r\n";
        let error = expect(&mut Input::default(), &mut socket, b"INSERTED ").unwrap_err();
        assert_eq!(error.to_string(), "the server answers \"DRAINING\", not \"INSERTED \"");
    }
}
