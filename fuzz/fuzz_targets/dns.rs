//! Names asked by pods, and what upstream resolvers say: read or refused; what is read is answered within its limit,
//! forwarded as the same question, and believed only when it answers that.
//! Input: two bytes for the length of the question, the question, then what an upstream said to it.
#![no_main]

use std::net::IpAddr;

use ambit_wire::dns::{Carrier, Heard, NoQuestion, Question, heard};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (asked, said) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    let question = match Question::parse(asked) {
        Ok(question) => question,
        Err(NoQuestion::Short) => return assert!(asked.len() < 12),
        Err(NoQuestion::Refused { answer, .. }) => return assert!(answer.len() >= 12 && answer[2] & 0x80 != 0),
    };
    let all = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([1_u16; 8])].repeat(100);
    for (carrier, most) in [(Carrier::Udp, 4096), (Carrier::Tcp, 65535)] {
        let answer = question.answer(question.name(), &all, carrier);
        assert!(answer.len() <= most);
        let id = u16::from_be_bytes([asked[0], asked[1]]);
        assert!(matches!(heard(&question, id, &answer), Heard::Answer | Heard::Cut));
        let relayed = question.relayed(said.to_vec(), carrier);
        assert!(relayed.len() <= most && (said.len() < 2 || relayed[..2] == asked[..2]));
    }
    let again = Question::parse(&question.forwarded(7)).expect("a question that is forwarded is one");
    assert_eq!((again.name(), again.kind()), (question.name(), question.kind()));
    if heard(&question, 7, said) != Heard::Noise {
        assert!(said.len() >= 12 && said[..2] == [0, 7]);
    }
});
