//! `ambit pod load --per-second`: requests at times that are set beforehand, over connections that are kept, as programs
//! do it that ask a service all day. Whoever is late asks at once, and what was waited for counts: a server that stands
//! still for a second is not asked less for it. Owns the connections; what became of requests is `load`'s account.

use std::io::{self, BufRead, BufReader};
use std::net::TcpStream;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Answer, Family, FetchError, Wanted, address, open, read, send};
use super::load::{Account, Done, End, REQUEST_LIMIT, judged, millis};
use super::url::Url;

/// Of what became of requests, so much may wait to be counted.
const UNCOUNTED: usize = 1024;

/// How often, and over how many connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    /// Of all connections together.
    pub(crate) per_second: u32,
    pub(crate) connections: u32,
}

impl Steady {
    /// Asks until the end.
    pub(super) fn load(self, url: &Url, end: &End) -> Result<(), String> {
        let (tell, told) = sync_channel(UNCOUNTED);
        let begin = Instant::now();
        let mut account = Account::default();
        let (mut again, mut opened) = (0_u64, 0_u64);
        std::thread::scope(|scope| {
            for number in 0..self.connections {
                let (tell, pace) = (tell.clone(), self.pace(number, begin));
                let mut kept = Kept { url, connection: None, opened: 0, again: 0 };
                scope.spawn(move || {
                    kept.ask_all(pace, end, &tell);
                    // Whoever counts is there as long as somebody may tell it.
                    let _told = tell.send(Told::Over { opened: kept.opened, again: kept.again });
                });
            }
            drop(tell);
            for it in told {
                match it {
                    Told::Done(done) => account.add(done),
                    Told::Over { opened: more, again: tried } => {
                        opened += more;
                        again += tried;
                    }
                }
            }
        });
        let took = millis(begin.elapsed());
        account.close(json!({ "took_ms": took, "connections": opened, "asked_again": again }))
    }

    /// When one of the connections has to ask: all of them in turn, at equal distances.
    fn pace(self, number: u32, begin: Instant) -> Pace {
        let step = Duration::from_secs(1) / self.per_second.max(1);
        Pace { next: begin + step * number, step: step * self.connections, number, others: self.connections }
    }
}

/// What a connection tells.
enum Told {
    Done(Done),
    Over { opened: u64, again: u64 },
}

/// When to ask next, and which of all requests that is.
struct Pace {
    next: Instant,
    step: Duration,
    number: u32,
    others: u32,
}

impl Pace {
    /// Waits until the next request is due; says when that was.
    fn wait(&mut self) -> Instant {
        let due = self.next;
        self.next += self.step;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return due;
            }
            // It may return earlier.
            std::thread::park_timeout(left);
        }
    }
}

/// A connection that is used again and again, and made anew where it has ended.
struct Kept<'a> {
    url: &'a Url,
    connection: Option<BufReader<TcpStream>>,
    opened: u64,
    again: u64,
}

/// What became of asking over a connection that had been used before.
enum Reused {
    Answered(Answer),
    /// It had ended, and not a byte came of an answer: the server has let go of it and may not have seen the request.
    Ended,
    Broken(io::Error),
}

impl Kept<'_> {
    fn ask_all(&mut self, mut pace: Pace, end: &End, tell: &SyncSender<Told>) {
        let mut begun = u64::from(pace.number);
        while !end.is_now(begun) {
            let due = pace.wait();
            begun += u64::from(pace.others);
            let became = self.ask().and_then(|it| judged(&it));
            if tell.send(Told::Done(Done { took: due.elapsed(), became })).is_err() {
                return;
            }
        }
    }

    /// RFC 9112, 9.3.1: over a connection that ends while it is idle a request that changes nothing is sent once more,
    /// over another.
    fn ask(&mut self) -> Result<Answer, String> {
        if let Some(connection) = self.connection.take() {
            match self.reuse(connection) {
                Reused::Answered(answer) => return Ok(answer),
                Reused::Broken(why) => return Err(format!("over a kept connection: {why}")),
                Reused::Ended => self.again += 1,
            }
        }
        self.anew().map_err(|e| e.to_string())
    }

    fn reuse(&mut self, mut connection: BufReader<TcpStream>) -> Reused {
        if send(connection.get_mut(), self.wanted(), "keep-alive").is_err() {
            return Reused::Ended;
        }
        match connection.fill_buf() {
            Ok([]) => return Reused::Ended,
            Err(why) if why.kind() == io::ErrorKind::ConnectionReset => return Reused::Ended,
            Err(why) => return Reused::Broken(why),
            Ok(_) => {}
        }
        match read(&mut connection) {
            Ok(answer) => Reused::Answered(self.keep(connection, answer)),
            Err(why) => Reused::Broken(why),
        }
    }

    fn anew(&mut self) -> Result<Answer, FetchError> {
        let begun = Instant::now();
        let to = address(self.url, Family::Any)?;
        let naming = begun.elapsed();
        let mut connection = open(to, REQUEST_LIMIT)?;
        self.opened += 1;
        let asked =
            send(connection.get_mut(), self.wanted(), "keep-alive").and_then(|()| read(&mut connection));
        let answer = asked.map_err(|source| FetchError::Broken { to, source })?;
        Ok(Answer { naming, ..self.keep(connection, answer) })
    }

    fn keep(&mut self, connection: BufReader<TcpStream>, answer: Answer) -> Answer {
        self.connection = (!answer.is_last).then_some(connection);
        answer
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted { url: self.url, headers: &[] }
    }
}

#[cfg(test)]
mod tests;
