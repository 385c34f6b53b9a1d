//! Serves one connection within its time limits.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::sleep_until,
};

use super::{admission::Service, clock::Clock, counters::Refusal, page, shared::Shared};

/// Largest head of a request, in bytes; what is larger is answered with 431.
pub const HEAD_BYTES: usize = 8 << 10;
/// How many headers a request may have.
const HEADERS: usize = 64;

/// A stream that reports to the clock what it reads and writes.
struct TimedStream {
    stream: TcpStream,
    clock: Arc<Clock>,
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.clock.bytes_received();
        }
        polled
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        // hyper flushes when its own buffer is empty.
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.clock.response_sent();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How a connection ended.
enum Ended {
    Over(hyper::Result<()>),
    TimedOut,
}

/// Serves one connection until it ends, its time is over, or `ended` becomes true.
pub async fn run(
    stream: TcpStream,
    shared: Arc<Shared>,
    clock: Arc<Clock>,
    service: Service,
    mut ended: watch::Receiver<bool>,
) {
    // Answers are written as a whole.
    let _ = stream.set_nodelay(true);
    let timed = TimedStream {
        stream,
        clock: Arc::clone(&clock),
    };
    let answering = {
        let (shared, clock) = (Arc::clone(&shared), Arc::clone(&clock));
        service_fn(move |request| {
            let (shared, clock) = (Arc::clone(&shared), Arc::clone(&clock));
            clock.request_received();
            async move {
                let (answer, held) = page::answer(&shared, &request, service).await;
                clock.response_ready(held);
                Ok::<_, Infallible>(answer)
            }
        })
    };
    let mut connection = pin!(
        http1::Builder::new()
            .max_header_size(HEAD_BYTES)
            .max_buf_size(2 * HEAD_BYTES)
            .max_headers(HEADERS)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(timed), answering)
    );
    let mut sleep = pin!(sleep_until(clock.deadline()));
    let mut all_end = pin!(async move {
        // An error means that the sender is gone, which is the end too.
        let _ = ended.wait_for(|ended| *ended).await;
    });
    let mut ending = false;
    let outcome = poll_fn(|cx| {
        if !ending && all_end.as_mut().poll(cx).is_ready() {
            ending = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(Ended::Over(result));
        }
        let deadline = clock.deadline();
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx).map(|()| Ended::TimedOut)
    })
    .await;
    let refusal = match outcome {
        Ended::Over(Ok(())) => return,
        // A connection that was idle for too long does not count as refused.
        Ended::TimedOut if !clock.is_busy() => return,
        Ended::TimedOut => Refusal::Timeout,
        Ended::Over(Err(e)) if e.is_parse_too_large() => Refusal::TooLarge,
        Ended::Over(Err(e)) if e.is_parse() => Refusal::Malformed,
        Ended::Over(Err(_)) => Refusal::Error,
    };
    shared.counters.refused(refusal);
}
