//! A minimal HTTP client for the tests, polite or not.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long an answer may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(20);

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// `200`
    pub status: u16,
    /// Headers, with lower-case names.
    pub headers: BTreeMap<String, String>,
    /// The body, without chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body).context("the body is not UTF-8")
    }

    /// Fails unless the status is 200.
    pub fn ok(self) -> Result<Self> {
        ensure!(
            self.status == 200,
            "status {}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        Ok(self)
    }
}

/// Requests a page.
pub fn get(address: SocketAddr, path: &str) -> Result<Response> {
    get_with(address, path, &[])
}

/// Like [`get`], with more headers.
pub fn get_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    raw(address, request.as_bytes()).with_context(|| format!("GET http://{address}{path}"))
}

/// Sends bytes, and reads the answer until the connection is closed.
pub fn raw(address: SocketAddr, bytes: &[u8]) -> Result<Response> {
    let mut stream = connect(address)?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // A server that answers before it has read everything may reset the connection afterwards.
    if answer.is_empty() {
        read.context("reading the answer")?;
    }
    parse(&answer)
}

/// Connects to an address.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&address, ANSWER).with_context(|| format!("connecting to {address}"))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    Ok(stream)
}

fn parse(answer: &[u8]) -> Result<Response> {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        bail!("no HTTP: {:?}", String::from_utf8_lossy(answer));
    };
    let head = std::str::from_utf8(&answer[..end])?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &answer[end + 4..];
    let body = match headers.get("transfer-encoding").map(String::as_str) {
        Some("chunked") => unchunked(body)?,
        _ => body.to_vec(),
    };
    if let Some(length) = headers.get("content-length") {
        ensure!(
            body.len() == length.parse::<usize>()?,
            "{} of {length} bytes came",
            body.len()
        );
    }
    Ok(Response {
        status: status.with_context(|| format!("no status in {first:?}"))?,
        headers,
        body,
    })
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|w| w == b"\r\n")
            .context("a chunk without length")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        rest = &rest[end + 2..];
        if length == 0 {
            return Ok(body);
        }
        body.extend(rest.get(..length).context("a chunk that is cut off")?);
        rest = rest.get(length + 2..).context("a chunk without end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        let answer = parse(chunked).unwrap();
        assert_eq!((answer.status, answer.text().unwrap()), (200, "abcd"));
        let cut = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nabc";
        assert!(parse(cut).is_err());
        assert!(parse(b"hello").is_err());
    }
}
