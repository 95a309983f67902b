//! What processors are told and say, against the numbers of the fields, and answers that are none.

use super::*;

/// The bytes of a field: its number, its length, what is in it.
fn field(number: u8, of: impl AsRef<[u8]>) -> Vec<u8> {
    let of = of.as_ref();
    let mut all = vec![number << 3 | 2, u8::try_from(of.len()).unwrap()];
    all.extend(of);
    all
}

fn number(field: u8, of: u8) -> Vec<u8> {
    vec![field << 3, of]
}

fn header(name: &str, value: &str) -> Vec<u8> {
    field(1, [field(1, name), field(2, value)].concat())
}

fn read(bytes: Vec<u8>) -> Result<Reply, ProcessError> {
    reply(bytes.into())
}

#[test]
fn a_request_is_told_by_the_fields_that_processors_read() {
    let shown: HeaderMap = [("x-a".parse().unwrap(), HeaderValue::from_static("1"))].into_iter().collect();
    let head = Head { pseudo: &[(":path", "/p")], headers: &shown };
    let raw = |name: &str, value: &str| field(1, [field(1, name), field(3, value)].concat());
    let map = [raw(":path", "/p"), raw("x-a", "1")].concat();
    let http = [field(1, &map), number(3, 1)].concat();
    assert_eq!(headers(Way::Request, head, true, None), field(2, &http));
    assert_eq!(headers(Way::Response, head, false, None), field(3, field(1, &map)));
    let piece = [field(1, "abc"), number(2, 1)].concat();
    assert_eq!(body(Way::Request, "abc".into(), true, None), field(4, &piece));
    assert_eq!(body(Way::Response, "abc".into(), false, None), field(5, field(1, "abc")));
    let trailer = field(1, raw("x-a", "1"));
    assert_eq!(trailers(Way::Request, &shown, None), field(6, &trailer));
    assert_eq!(trailers(Way::Response, &shown, None), field(7, &trailer));
    let modes =
        Modes { request_body: BodyMode::Buffered, response_body: BodyMode::Streamed, ..Modes::default() };
    let first = First { modes, attributes: vec![("source.principal".into(), "me".into())] };
    let value = field(2, field(3, "me"));
    let attributes = field(1, [field(1, "source.principal"), value].concat());
    let by = [field(1, "envoy.filters.http.ext_proc"), field(2, attributes)].concat();
    let config = [number(1, 2), number(2, 1)].concat();
    let wanted = [field(4, field(1, "abc")), field(9, by), field(11, config)].concat();
    assert_eq!(body(Way::Request, "abc".into(), false, Some(&first)), wanted);
    let watching = watched(&body(Way::Request, "abc".into(), false, None));
    assert_eq!(watching, [field(4, field(1, "abc")), number(10, 1)].concat());
    let read = pb::ProcessingRequest::decode(watching).unwrap();
    assert!(read.observability_mode && matches!(read.request, Some(Told::RequestBody(_))));
}

#[test]
fn an_answer_says_of_which_part_it_is_and_what_changes() {
    let set = [
        field(1, header("x-a", "new")),
        field(1, [header("x-b", "more"), field(2, number(1, 1))].concat()),
        field(1, [header("x-c", "first"), number(3, 1)].concat()),
        field(1, header(":path", "/other")),
        field(1, header("Host", "other")),
        field(2, "x-gone"),
        field(2, ":method"),
    ];
    let common = [number(1, 1), field(2, set.concat()), field(3, field(1, "body")), number(5, 1)].concat();
    let Reply { said, choice } = read(field(1, field(1, &common))).unwrap();
    let Said::Onward(step, onward) = said else { panic!("{said:?}") };
    assert_eq!(step, Step { way: Way::Request, part: Part::Headers });
    assert_eq!((onward.last, onward.reroute, onward.body.as_deref()), (true, true, Some(&b"body"[..])));
    let set: Vec<_> = onward.headers.set.iter().map(|it| (it.name.as_str(), it.how)).collect();
    assert_eq!(set, [("x-a", How::Set), ("x-b", How::Append), ("x-c", How::IfAbsent)]);
    assert_eq!(onward.headers.gone, ["x-gone"]);
    assert_eq!(onward.headers.pseudo(":path"), Some("/other"));
    assert_eq!(onward.headers.pseudo(":authority"), Some("other"));
    assert_eq!(choice, None);
    for (number, way, part) in [
        (2, Way::Response, Part::Headers),
        (3, Way::Request, Part::Body),
        (4, Way::Response, Part::Body),
        (5, Way::Request, Part::Trailers),
        (6, Way::Response, Part::Trailers),
    ] {
        let Said::Onward(step, onward) = read(field(number, [])).unwrap().said else { panic!("{number}") };
        assert_eq!((step, *onward), (Step { way, part }, Onward::default()));
    }
    let cleared = read(field(3, field(1, field(3, number(2, 1))))).unwrap();
    let Said::Onward(_, onward) = cleared.said else { panic!("a body") };
    assert_eq!(onward.body.as_deref(), Some(&b""[..]));
}

#[test]
fn an_answer_may_be_the_clients_or_a_choice_or_a_request_for_time() {
    let answer = [
        field(1, [8, 0x91, 0x03]),
        field(2, field(1, header("x-by", "them"))),
        field(3, "no"),
        field(4, number(1, 7)),
        field(5, "why"),
    ];
    let Said::Answer(answer) = read(field(7, answer.concat())).unwrap().said else { panic!("an answer") };
    assert_eq!((answer.status.as_u16(), answer.body.as_slice(), answer.grpc), (401, &b"no"[..], Some(7)));
    assert_eq!((&*answer.details, answer.headers.set.len()), ("why", 1));
    let mode = [number(2, 2), number(3, 2), number(6, 1)].concat();
    let choice = read([field(1, []), field(9, mode)].concat()).unwrap().choice.unwrap();
    assert_eq!((choice.response_headers, choice.request_body), (Some(false), BodyMode::Buffered));
    assert_eq!((choice.request_trailers, choice.response_trailers), (None, Some(true)));
    assert_eq!(read(field(10, number(1, 1))).unwrap().said, Said::Nothing);
}

#[test]
fn an_answer_of_which_one_thing_cannot_be_done_is_none() {
    let with = |set: Vec<u8>| field(1, field(1, field(2, field(1, set))));
    let many = (0..=CHANGES).map(|_| field(2, "a")).collect::<Vec<_>>().concat();
    let long = pb::ProcessingResponse {
        response: Some(Raw::RequestTrailers(pb::TrailersResponse {
            header_mutation: Some(pb::HeaderMutation::decode(many.as_slice()).unwrap()),
        })),
        ..Default::default()
    };
    for (bytes, wanted) in [
        (vec![0xff], "the answer does not read"),
        (Vec::new(), "the answer says nothing"),
        (with(header("x a", "1")), "\"x a\" is no header"),
        (with(header("", "1")), "\"\" is no header"),
        (with(header("x-a", "1\n")), "the value of \"x-a\" is none"),
        (field(7, field(1, number(1, 100))), "100 is no status of an answer"),
        ([field(1, []), field(9, number(3, 4))].concat(), "4 is no way to be told of a body"),
        (long.encode_to_vec(), "the answer has 257 changes, more than 256"),
    ] {
        assert_eq!(read(bytes).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn a_piece_that_goes_on_says_whether_more_follows_and_the_first_message_that_nobody_waits() {
    let piece = [field(1, "abc"), number(2, 1)].concat();
    let Reply { said, .. } = read(field(3, field(1, field(3, field(3, piece))))).unwrap();
    let Said::Onward(step, onward) = said else { panic!("{said:?}") };
    assert_eq!(step, Step { way: Way::Request, part: Part::Body });
    assert_eq!(
        (onward.body, onward.streamed),
        (None, Some(Streamed { body: b"abc".to_vec(), is_end: true }))
    );
    let modes = Modes { request_body: BodyMode::Duplex, ..Modes::default() };
    let told = body(Way::Request, "abc".into(), false, Some(&First { modes, attributes: Vec::new() }));
    let config = [number(1, 4), number(3, 1)].concat();
    assert_eq!(told, [field(4, field(1, "abc")), field(11, config)].concat());
    // Nobody changes to that while a conversation is under way.
    let choice = read([field(1, []), field(9, number(3, 4))].concat());
    assert!(matches!(choice, Err(ProcessError::Mode(4))), "{choice:?}");
}
