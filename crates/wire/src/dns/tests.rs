//! Questions and answers, byte by byte where it counts.

use proptest::prelude::*;

use super::*;

/// A question as a resolver writes it: recursion desired, with these options, if any.
fn ask(name: &str, kind: u16, payload: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, u8::from(payload.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
    if let Some(payload) = payload {
        bytes.extend([&[0, 0, 41], &payload.to_be_bytes()[..], &[0, 0, 0x80, 0, 0, 0]].concat());
    }
    bytes
}

fn question(name: &str, payload: Option<u16>) -> Question {
    Question::parse(&ask(name, 1, payload)).unwrap()
}

/// An answer, read by a reader of its own: flags, counts, and `owner kind value` of each record.
fn read(bytes: &[u8]) -> (u16, [u16; 4], Vec<String>) {
    let at = |n: usize| u16::from_be_bytes([bytes[n], bytes[n + 1]]);
    let counts = [at(4), at(6), at(8), at(10)];
    let (_, mut here) = name(bytes, 12);
    here += 4;
    let mut records = Vec::new();
    for _ in 0..counts[1] + counts[2] + counts[3] {
        let (owner, after) = name(bytes, here);
        let (kind, length) = (at(after), usize::from(at(after + 8)));
        let data = after + 10;
        let value = match kind {
            1 => std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[data..data + 4]).unwrap()).to_string(),
            28 => {
                std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[data..data + 16]).unwrap()).to_string()
            }
            5 => name(bytes, data).0,
            _ => format!("{}:{:x?}", at(after + 2), &bytes[after + 4..data]),
        };
        assert!(kind == 41 || bytes[after + 4..after + 8] == [0, 0, 0, 30], "good for half a minute");
        records.push(format!("{owner} {kind} {value}"));
        here = data + length;
    }
    assert_eq!(here, bytes.len());
    (at(2), counts, records)
}

fn name(bytes: &[u8], mut at: usize) -> (String, usize) {
    let (mut text, mut end) = (String::new(), None);
    loop {
        let length = usize::from(bytes[at]);
        if length >= 0xc0 {
            end.get_or_insert(at + 2);
            at = (length & 0x3f) << 8 | usize::from(bytes[at + 1]);
            continue;
        }
        at += 1;
        if length == 0 {
            return (text, end.unwrap_or(at));
        }
        text += std::str::from_utf8(&bytes[at..at + length]).unwrap();
        text.push('.');
        at += length;
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_question_reads_as_name_and_kind() {
    let web = Question::parse(&ask("Web.Shop.SVC", 1, Some(1232))).unwrap();
    assert_eq!((web.name(), web.family(), web.kind()), (Some("web.shop.svc"), Some(Family::V4), "a"));
    assert_eq!(Question::parse(&ask("web", 28, None)).unwrap().family(), Some(Family::V6));
    let other = Question::parse(&ask("_http._tcp.web", 33, None)).unwrap();
    assert_eq!((other.family(), other.kind(), other.name()), (None, "srv", Some("_http._tcp.web")));
    assert_eq!(Question::parse(&ask("web", 4711, None)).unwrap().kind(), "other");
    assert_eq!(Question::parse(&ask("", 2, None)).unwrap().name(), Some(""));
    assert_eq!(
        Question::parse(&ask("a b", 1, None)).unwrap().name(),
        None,
        "no host has a blank in its name"
    );
    let mut chaos = ask("version.bind", 1, None);
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(Question::parse(&chaos).unwrap().family(), None);
}

#[test]
fn what_is_no_question_is_refused_with_the_code_for_it() {
    let changed = |at: usize, value: u8| {
        let mut bytes = ask("web", 1, Some(1232));
        bytes[at] = value;
        bytes
    };
    let long = vec![b'a'; 64];
    for (bytes, why) in [
        (changed(2, 0x81), Failure::Malformed),
        (changed(2, 0x09), Failure::NotImplemented),
        (changed(5, 2), Failure::Malformed),
        (changed(5, 0), Failure::Malformed),
        (changed(7, 1), Failure::Malformed),
        (changed(11, 2), Failure::Malformed),
        (changed(11, 200), Failure::Malformed),
        (changed(12, 0xc0), Failure::Malformed),
        (changed(12, 0x43), Failure::Malformed),
        (ask("web", 1, None)[..18].to_vec(), Failure::Malformed),
        (ask(std::str::from_utf8(&long).unwrap(), 1, None), Failure::Malformed),
        (ask(&["a"; 128].join("."), 1, None), Failure::Malformed),
        (changed(27, 1), Failure::BadVersion),
    ] {
        let refused = Question::parse(&bytes).unwrap_err();
        let NoQuestion::Refused { why: said, answer } = refused else { panic!("{bytes:?}") };
        assert_eq!(said, why, "{bytes:?}");
        assert_eq!((answer[0], answer[1]), (0x12, 0x34), "the number is the asker's");
        assert_eq!(u16::from(answer[3] & 15), why as u16 & 15);
        assert_eq!(answer[2] & 0x80, 0x80);
    }
    for short in 0..12 {
        assert_eq!(Question::parse(&ask("web", 1, None)[..short]), Err(NoQuestion::Short));
    }
    assert!(Question::parse(&ask(&["a"; 127].join("."), 1, None)).is_ok(), "255 bytes are allowed");
}

#[test]
fn an_answer_of_ours_is_this_byte_by_byte() {
    let bytes = question("Web", None).answer(None, &ips(&["10.1.2.3"]), Carrier::Udp);
    let wanted = [
        &[0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0][..],
        b"\x03Web\0\0\x01\0\x01",
        &[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 1, 2, 3],
    ];
    assert_eq!(bytes, wanted.concat());
}

#[test]
fn what_a_name_stands_for_is_told_first_and_owns_the_addresses() {
    let asked = question("web.shop.shop.svc.cluster.local", Some(1232));
    let (flags, counts, records) =
        read(&asked.answer(Some("web.shop"), &ips(&["10.1.2.3", "fd00::1"]), Carrier::Udp));
    assert_eq!((flags, counts), (0x8580, [1, 3, 0, 1]));
    let wanted =
        ["web.shop.shop.svc.cluster.local. 5 web.shop.", "web.shop. 1 10.1.2.3", "web.shop. 28 fd00::1"];
    assert_eq!(records[..3], wanted);
    assert_eq!(records[3], " 41 1232:[0, 0, 80, 0, 0, 0]");
}

#[test]
fn no_address_is_an_answer_without_records() {
    let (flags, counts, _) = read(&question("web", None).answer(None, &[], Carrier::Udp));
    assert_eq!((flags, counts), (0x8580, [1, 0, 0, 0]));
}

#[test]
fn an_answer_is_cut_to_what_the_asker_takes_and_says_so() {
    let all: Vec<IpAddr> = (0..=255).map(|n| IpAddr::from([10, 0, 0, n])).collect();
    for (payload, carrier, records, cut) in [
        (None, Carrier::Udp, 29, true),
        (Some(100), Carrier::Udp, 29, true),
        (Some(1232), Carrier::Udp, 74, true),
        (Some(65535), Carrier::Udp, 253, true),
        (None, Carrier::Tcp, 256, false),
        (Some(1232), Carrier::Tcp, 256, false),
    ] {
        let bytes = question("web.example.com", payload).answer(None, &all, carrier);
        let (flags, counts, _) = read(&bytes);
        assert_eq!((counts[1], flags & TC != 0), (records, cut), "{payload:?} {carrier:?}");
        let most = payload.unwrap_or(0).clamp(512, 4096);
        assert!(carrier == Carrier::Tcp || bytes.len() <= most.into(), "{} > {most}", bytes.len());
    }
    let many: Vec<IpAddr> = (0..60_000_u32).map(|n| IpAddr::from(n.to_be_bytes())).collect();
    assert!(question("web", None).answer(None, &many, Carrier::Tcp).len() <= 65535);
}

#[test]
fn a_question_is_forwarded_as_it_is_but_for_its_number_and_a_size_beyond_ours() {
    let asked = ask("Web", 1, Some(1232));
    let mut wanted = asked.clone();
    wanted[..2].copy_from_slice(&[0xab, 0xcd]);
    assert_eq!(Question::parse(&asked).unwrap().forwarded(0xabcd), wanted);
    let large = Question::parse(&ask("web", 1, Some(65_000))).unwrap().forwarded(1);
    assert_eq!(Question::parse(&large).unwrap().options.unwrap().payload, LARGEST);
}

#[test]
fn an_answer_is_believed_only_to_our_number_and_our_question() {
    let ours = question("web.example.com", Some(1232));
    let theirs = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes =
            Question::parse(&ask(name, 1, None)).unwrap().answer(None, &ips(&["6.6.6.6"]), Carrier::Udp);
        change(&mut bytes);
        bytes
    };
    let same: &dyn Fn(&mut Vec<u8>) = &|_| ();
    let code = |code: u8| theirs("web.example.com", &move |b| b[3] = b[3] & 0xf0 | code);
    for (bytes, wanted) in [
        (theirs("web.example.com", same), Heard::Answer),
        (theirs("WEB.example.com", same), Heard::Answer),
        (theirs("web.example.org", same), Heard::Noise),
        (theirs("web.example.co", same), Heard::Noise),
        (theirs("web.example.com", &|b| b[1] ^= 1), Heard::Noise),
        (theirs("web.example.com", &|b| b[2] &= 0x7f), Heard::Noise),
        (theirs("web.example.com", &|b| b[5] = 0), Heard::Noise),
        (theirs("web.example.com", &|b| b[30] = 28), Heard::Noise),
        (theirs("web.example.com", &|b| b.truncate(20)), Heard::Noise),
        (Vec::new(), Heard::Noise),
        (theirs("web.example.com", &|b| b[2] |= 2), Heard::Cut),
        (code(0), Heard::Answer),
        (code(3), Heard::Answer),
        (code(1), Heard::Refusal),
        (code(2), Heard::Refusal),
        (code(5), Heard::Refusal),
        (vec![0x12, 0x34, 0x80, 0x01, 0, 0, 0, 0, 0, 0, 0, 0], Heard::Refusal),
        (vec![0x12, 0x34, 0x80, 0x00, 0, 0, 0, 0, 0, 0, 0, 0], Heard::Noise),
    ] {
        assert_eq!(heard(&ours, 0x1234, &bytes), wanted, "{bytes:x?}");
    }
    // Kinds are numbers, though they look like letters: HTTPS (65) is not 97.
    let https = Question::parse(&ask("web", 65, None)).unwrap();
    let mut other = Question::parse(&ask("web", 97, None)).unwrap().answer(None, &[], Carrier::Udp);
    assert_eq!(heard(&https, 0x1234, &other), Heard::Noise);
    other[18] = 65;
    assert_eq!(heard(&https, 0x1234, &other), Heard::Answer);
}

#[test]
fn anothers_answer_is_relayed_under_the_askers_number_and_not_as_our_word() {
    let ours = question("web", None);
    let mut theirs = ours.answer(None, &ips(&["6.6.6.6"]), Carrier::Udp);
    theirs[0] = 0xff;
    theirs[3] = 3;
    let (flags, counts, records) = read(&ours.relayed(theirs.clone(), Carrier::Udp));
    assert_eq!((flags, counts[1]), (0x8183, 1), "no longer authoritative; the code is theirs");
    assert_eq!(records, ["web. 1 6.6.6.6"]);
    let mut long = ours.answer(None, &vec![ips(&["6.6.6.6"])[0]; 100], Carrier::Tcp);
    long[0] = 0xff;
    let (flags, counts, _) = read(&ours.relayed(long.clone(), Carrier::Udp));
    assert_eq!((flags & TC, counts), (TC, [1, 0, 0, 0]), "too long for this asker");
    assert_eq!(read(&ours.relayed(long, Carrier::Tcp)).1[1], 100);
}

proptest! {
    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..80), at in 0_usize..40, by: u8) {
        let mut near = ask("web.example.com", 1, Some(1232));
        near.get_mut(at).into_iter().for_each(|byte| *byte ^= by);
        for bytes in [bytes, near] {
            match Question::parse(&bytes) {
                Err(NoQuestion::Short) => prop_assert!(bytes.len() < 12),
                Err(NoQuestion::Refused { answer, .. }) => prop_assert!(answer.len() >= 12),
                Ok(question) => {
                    let answer = question.answer(Some("x.y"), &ips(&["1.2.3.4"]), Carrier::Udp);
                    prop_assert!(answer.len() <= 512 || question.options.is_some());
                    let again = Question::parse(&question.forwarded(7)).unwrap();
                    prop_assert_eq!(again.name(), question.name());
                    prop_assert_eq!(heard(&question, question.id(), &answer), Heard::Answer);
                }
            }
            let _ = heard(&question("web", None), 0x1234, &bytes);
        }
    }
}
