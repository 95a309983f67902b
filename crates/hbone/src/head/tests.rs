//! Requests as they are written and read.

use super::*;

fn connect(authority: &str) -> Connect {
    Connect {
        authority: authority.parse().unwrap(),
        baggage: Baggage {
            cluster: "Kubernetes".into(),
            namespace: "shop".into(),
            workload: Some(("deployment".into(), "web".into())),
            service: "web".into(),
            revision: "v1".into(),
            region: "r".into(),
            zone: "z".into(),
        },
        forwarded: Some(Forwarded {
            client: Some("[fd00::1]:99".parse().unwrap()),
            host: Some("db.shop".into()),
        }),
        trace: Some(Trace { id: 0xab, span: 0x1 }),
        network: Some("n2".into()),
        for_stranger: true,
    }
}

#[test]
fn a_request_reads_back_as_it_was_meant() {
    for authority in ["10.0.0.1:80", "[fd00::1]:8080", "db.shop.svc.cluster.local:5432"] {
        let sent = connect(authority);
        let request = sent.request().unwrap();
        assert_eq!(request.uri().to_string(), authority);
        assert_eq!(Connect::read(&request), Ok(sent));
    }
}

#[test]
fn headers_are_written_in_order_and_as_upstream_writes_them() {
    let request = connect("10.0.0.1:80").request().unwrap();
    let headers: Vec<_> = request.headers().iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    let baggage = "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,\
                   service.name=web,service.version=v1,cloud.region=r,cloud.availability_zone=z";
    assert_eq!(
        headers,
        [
            ("baggage", baggage),
            ("forwarded", "for=\"[fd00::1]:99\";host=db.shop"),
            ("traceparent", "00-000000000000000000000000000000ab-0000000000000001-00"),
            ("x-forwarded-network", "n2"),
            ("ambit-stranger", "1"),
        ]
    );
    let own = Connect { for_stranger: false, ..connect("10.0.0.1:80") };
    assert!(!own.request().unwrap().headers().contains_key("ambit-stranger"));
}

#[test]
fn whatever_is_said_of_a_stranger_is_heard_and_only_a_plain_yes_is_one() {
    for (said, asked, answered) in
        [("1", true, true), ("0", true, false), ("", true, false), ("\u{e9}", true, false)]
    {
        let mut request = Connect { for_stranger: false, ..connect("10.0.0.1:80") }.request().unwrap();
        request.headers_mut().insert(STRANGER, said.parse().unwrap());
        assert_eq!(Connect::read(&request).unwrap().for_stranger, asked, "{said}");
        let mut response = Opened::default().response();
        assert!(!Opened::read(&response).for_stranger);
        response.headers_mut().insert(STRANGER, said.parse().unwrap());
        assert_eq!(Opened::read(&response).for_stranger, answered, "{said}");
    }
    let opened = Opened { for_stranger: true, ..Opened::default() };
    assert_eq!(Opened::read(&opened.response()), opened);
}

#[test]
fn authorities_that_http_takes_but_that_lead_nowhere_are_refused() {
    for text in ["host", "host:0", "user@host:80", "10.0.0.256:80", "127.1:80", "[fd00::1]", "10.0.0.1:080"] {
        let mut request = connect("10.0.0.1:80").request().unwrap();
        let mut uri = http::uri::Parts::default();
        uri.authority = Some(text.parse().unwrap());
        *request.uri_mut() = Uri::from_parts(uri).unwrap();
        let refused = HeadError::Authority(AuthorityError { value: text.into() });
        assert_eq!(Connect::read(&request), Err(refused), "{text}");
    }
}

#[test]
fn every_authority_that_reads_is_one_that_http_carries() {
    let mut chance = fastrand::Rng::with_seed(1);
    let mut read = 0;
    for _ in 0..100_000 {
        let text: String = (0..chance.usize(..12))
            .filter_map(|_| chance.choice(b"a1-._:[]%").map(|b| char::from(*b)))
            .collect();
        for text in [format!("{text}:{}", chance.u16(..)), format!("[::{text}]:1"), text] {
            let Ok(authority) = text.parse::<Authority>() else { continue };
            assert_eq!(authority.to_string().parse().as_ref(), Ok(&authority), "{text}");
            let asked = Connect { authority, ..connect("10.0.0.1:80") };
            assert_eq!(Connect::read(&asked.request().unwrap()).as_ref(), Ok(&asked), "{text}");
            read += 1;
        }
    }
    assert!(read > 10_000, "{read}");
}

#[test]
fn other_methods_and_missing_authorities_are_refused() {
    let get = Request::get("https://host/").body(()).unwrap();
    assert_eq!(Connect::read(&get), Err(HeadError::Method { method: Method::GET }));
    let mut nowhere = Request::new(());
    *nowhere.method_mut() = Method::CONNECT;
    assert_eq!(Connect::read(&nowhere), Err(AuthorityError { value: String::new() }.into()));
}

#[test]
fn headers_that_do_not_read_are_as_good_as_absent() {
    let mut request = connect("10.0.0.1:80").request().unwrap();
    for (name, value) in [
        (BAGGAGE, "k8s.node.name=n,service.name=,=,x,k8s.job.name=j=k"),
        (FORWARDED, "for=_hidden;Host=no"),
        (TRACEPARENT, "00-zz-1-00"),
        (NETWORK, ""),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let read = Connect::read(&request).unwrap();
    assert_eq!(read.baggage, Baggage { workload: Some(("job".into(), "j".into())), ..Baggage::default() });
    assert_eq!((read.forwarded, read.trace, read.network), (None, None, None));
}
