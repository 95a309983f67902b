//! Upstreams that answer, lie, refuse, hang.

use std::net::UdpSocket as Plain;

use super::*;
use crate::dns::sample::{Fake, Upstream, address, answered, ask as question_bytes, failed, told};

/// What nobody waits for who has something else to do.
const LIMIT: Duration = Duration::from_secs(60);
/// Half of it: less than any wait, and more than a busy machine takes.
const AT_ONCE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_millis(100);

async fn said(servers: &[&Upstream], carrier: Carrier) -> Result<Vec<u8>, Unanswered> {
    asked_as(&told(servers, LIMIT), carrier).await
}

/// Asks the next before long.
async fn said_to_the_hasty(servers: &[&Upstream]) -> Result<Vec<u8>, Unanswered> {
    asked_as(&Told { patience: PATIENCE, ..told(servers, LIMIT) }, Carrier::Udp).await
}

async fn asked_as(told: &Told, carrier: Carrier) -> Result<Vec<u8>, Unanswered> {
    let question = Question::parse(&question_bytes("web.example.com", 7)).unwrap();
    forward(&Fake::default(), told, &question, carrier).await
}

#[tokio::test]
async fn only_an_answer_to_the_very_question_is_believed() {
    let liar = Upstream::new(|_, asked| {
        let (mut number, mut name) = (answered(asked, [6, 6, 6, 6]), answered(asked, [6, 6, 6, 6]));
        number[0] ^= 0x55;
        name[14] ^= 1;
        vec![vec![], number, name, asked.to_vec(), answered(asked, [10, 1, 1, 1])]
    });
    assert_eq!(address(&said(&[&liar], Carrier::Udp).await.unwrap()).to_string(), "10.1.1.1");
    assert_eq!(liar.asked(), 1);
}

#[tokio::test]
async fn another_on_the_network_is_not_heard_though_it_knows_everything() {
    let slow = Upstream::new(|_, asked| {
        // It knows port and number; only the address it speaks from is not the server's.
        let at = std::fs::read_to_string("/proc/self/net/udp").unwrap();
        let other = Plain::bind("127.0.0.3:0").unwrap();
        for line in at.lines().skip(1) {
            let mut words = line.split_whitespace().skip(1);
            let (local, peer) = (words.next().unwrap(), words.next().unwrap());
            // Those that ask have a peer; servers, of this test and of others, have none.
            if peer == "00000000:0000" {
                continue;
            }
            let local = local.rsplit(':').next().unwrap();
            let port = u16::from_str_radix(local, 16).unwrap();
            let _ = other.send_to(&answered(asked, [6, 6, 6, 6]), ("127.0.0.1", port));
        }
        ambit_kit::pause(Duration::from_millis(50));
        vec![answered(asked, [10, 1, 1, 1])]
    });
    assert_eq!(address(&said(&[&slow], Carrier::Udp).await.unwrap()).to_string(), "10.1.1.1");
}

#[tokio::test]
async fn questions_go_out_under_numbers_and_from_ports_of_chance() {
    let mut numbers = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let honest = Upstream::new(|_, asked| vec![answered(asked, [10, 1, 1, 1])]);
        numbers.insert(said(&[&honest], Carrier::Udp).await.unwrap()[..2].to_vec());
    }
    assert!(numbers.len() > 15, "{numbers:?}");
}

#[tokio::test]
async fn one_who_makes_noise_is_not_listened_to_for_ever() {
    let noisy = Upstream::new(|_, asked| vec![vec![asked[0] ^ 1; 20]; NOISE]);
    let said = said(&[&noisy], Carrier::Udp).await;
    assert!(matches!(said, Err(Unanswered::Unreachable(_))), "{said:?}");
    assert_eq!(noisy.asked(), 2, "tried again from another port");
}

#[tokio::test]
async fn a_silent_server_costs_little_when_there_is_another() {
    let (silent, good) =
        (Upstream::new(|_, _| vec![]), Upstream::new(|_, asked| vec![answered(asked, [10, 1, 1, 1])]));
    let began = Instant::now();
    assert_eq!(address(&said_to_the_hasty(&[&silent, &good]).await.unwrap()).to_string(), "10.1.1.1");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_lost_question_is_asked_again() {
    let lossy = Upstream::new(|nth, asked| match nth {
        0 => vec![],
        _ => vec![answered(asked, [10, 1, 1, 1])],
    });
    assert_eq!(address(&said_to_the_hasty(&[&lossy]).await.unwrap()).to_string(), "10.1.1.1");
}

#[tokio::test]
async fn a_slow_answer_counts_though_others_were_asked_meanwhile() {
    let slow = Upstream::new(|_, asked| {
        ambit_kit::pause(PATIENCE * 3 / 2);
        vec![answered(asked, [10, 1, 1, 1])]
    });
    let silent = Upstream::new(|_, _| vec![]);
    assert_eq!(address(&said_to_the_hasty(&[&slow, &silent]).await.unwrap()).to_string(), "10.1.1.1");
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_the_limit() {
    let silent = Upstream::new(|_, _| vec![]);
    let began = Instant::now();
    let limit = Duration::from_secs(2);
    let said = asked_as(&Told { patience: PATIENCE, ..told(&[&silent], limit) }, Carrier::Udp).await;
    assert!(matches!(said, Err(Unanswered::Silent { .. })));
    assert!((limit..limit + AT_ONCE).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(silent.asked(), 2);
}

#[tokio::test]
async fn a_refusal_counts_only_when_nobody_answers() {
    let refusing = || Upstream::new(|_, asked| vec![failed(asked)]);
    let good = Upstream::new(|_, asked| vec![answered(asked, [10, 1, 1, 1])]);
    let began = Instant::now();
    let said_by_both = said(&[&refusing(), &good], Carrier::Udp).await.unwrap();
    assert_eq!(address(&said_by_both).to_string(), "10.1.1.1");
    let refused = said(&[&refusing(), &refusing()], Carrier::Udp).await.unwrap();
    assert_eq!(refused[3] & 15, 2);
    assert!(began.elapsed() < AT_ONCE, "nobody waits after a refusal: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_passed_over_at_once() {
    let gone = Upstream { at: "127.0.0.1:9".parse().unwrap(), asked: Default::default() };
    let good = Upstream::new(|_, asked| vec![answered(asked, [10, 1, 1, 1])]);
    let began = Instant::now();
    assert!(said(&[&gone, &good], Carrier::Udp).await.is_ok());
    let nobody = said(&[&gone], Carrier::Udp).await;
    assert!(matches!(nobody, Err(Unanswered::Unreachable(_))), "{nobody:?}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_rest_of_an_answer_is_fetched_over_tcp_for_who_can_take_it() {
    let cut = || {
        Upstream::new(|_, asked| {
            let mut bytes = answered(asked, [10, 1, 1, 1]);
            bytes[2] |= 2;
            vec![bytes]
        })
    };
    assert_eq!(address(&said(&[&cut()], Carrier::Tcp).await.unwrap()).to_string(), "10.9.9.9");
    let handed_on = said(&[&cut()], Carrier::Udp).await.unwrap();
    assert_eq!(handed_on[2] & 2, 2, "the asker is told, and comes by TCP");
}
