//! What becomes of kept connections: against a server on loopback that lets go of them as it is told.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use super::*;

/// A server of `connections` connections, each of which answers so many requests and then does as `last` says.
fn server(connections: Vec<(u32, Last)>) -> (Url, thread::JoinHandle<u32>) {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap()).parse().unwrap();
    let served = thread::spawn(move || connections.into_iter().map(|it| serve(&listener, it)).sum());
    (url, served)
}

#[derive(Clone, Copy)]
enum Last {
    /// The last answer says that it is.
    Says,
    /// The next request is read, and the connection ended without a word.
    LetsGo,
    /// The next answer is cut short.
    Cuts,
}

fn serve(listener: &TcpListener, (answers, last): (u32, Last)) -> u32 {
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    for number in 1..=answers {
        if !request(&mut reader) {
            return number - 1;
        }
        let more = if number == answers && matches!(last, Last::Says) { "Connection: Close\r\n" } else { "" };
        let answer = format!("HTTP/1.1 200 OK\r\n{more}content-length: 14\r\n\r\n{{\"pod\": \"one\"}}");
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
    }
    if !matches!(last, Last::Says) && request(&mut reader) && matches!(last, Last::Cuts) {
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
    }
    answers
}

/// Reads a request's head; whether there was one.
fn request(reader: &mut BufReader<TcpStream>) -> bool {
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap_or_default() > 0 {
        if line.ends_with("\r\n\r\n") {
            return true;
        }
    }
    false
}

fn kept(url: &Url) -> Kept<'_> {
    Kept { url, connection: None, opened: 0, again: 0 }
}

#[test]
fn a_connection_is_kept_until_the_server_says_that_it_answers_no_more() {
    let (url, served) = server(vec![(3, Last::Says), (1, Last::Says)]);
    let mut kept = kept(&url);
    for _ in 0..4 {
        assert_eq!(judged(&kept.ask().unwrap()).unwrap().1, "one");
    }
    assert_eq!((kept.opened, kept.again, served.join().unwrap()), (2, 0, 4));
}

#[test]
fn what_a_kept_connection_ends_without_a_word_is_asked_once_more_and_counted() {
    let (url, served) = server(vec![(1, Last::LetsGo), (1, Last::Says)]);
    let mut kept = kept(&url);
    kept.ask().unwrap();
    kept.ask().unwrap();
    assert_eq!((kept.opened, kept.again, served.join().unwrap()), (2, 1, 2));
}

#[test]
fn an_answer_that_has_begun_and_ends_early_has_failed() {
    let (url, served) = server(vec![(1, Last::Cuts)]);
    let mut kept = kept(&url);
    kept.ask().unwrap();
    kept.ask().unwrap_err();
    assert_eq!((kept.opened, kept.again, served.join().unwrap()), (1, 0, 1));
}

#[test]
fn a_new_connection_without_an_answer_has_failed() {
    let (url, served) = server(vec![(0, Last::LetsGo)]);
    kept(&url).ask().unwrap_err();
    assert_eq!(served.join().unwrap(), 0);
}

#[test]
fn connections_ask_in_turn_and_together_as_often_as_they_are_told() {
    let begin = Instant::now();
    let steady = Steady { per_second: 500, connections: 4 };
    let mut due: Vec<Duration> = (0..4)
        .flat_map(|number| {
            let pace = steady.pace(number, begin);
            (0..125).map(move |nth| pace.next + pace.step * nth - begin)
        })
        .collect();
    due.sort_unstable();
    assert_eq!(due.len(), 500);
    assert!(due.windows(2).all(|it| it[1] - it[0] == Duration::from_millis(2)));
    assert_eq!(due[0], Duration::ZERO);
}
