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
        ]
    );
}

#[test]
fn authorities_that_are_neither_address_nor_host_are_refused() {
    let long = format!("{}:80", "a".repeat(256));
    for text in [
        "",
        "10.0.0.1",
        "10.0.0.1:",
        ":80",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0.1:+80",
        "10.0.0.256:80",
        "127.1:80",
        "[fd00::1]",
        "[fd00::1:80",
        "fd00::1:80",
        "[10.0.0.1]:80",
        "ho st:80",
        "a/b:80",
        "user@host:80",
        "h\u{f6}st:80",
        "host:80 ",
        &long,
    ] {
        assert!(matches!(text.parse::<Authority>(), Err(HeadError::Authority { .. })), "{text:?}");
    }
    let mapped = "[::ffff:10.0.0.1]:80".parse::<Authority>();
    assert_eq!(mapped, Ok(Authority::Ip("10.0.0.1:80".parse().unwrap())));
}

#[test]
fn other_methods_and_missing_authorities_are_refused() {
    let get = Request::get("https://host/").body(()).unwrap();
    assert_eq!(Connect::read(&get), Err(HeadError::Method { method: Method::GET }));
    let mut nowhere = Request::new(());
    *nowhere.method_mut() = Method::CONNECT;
    assert_eq!(Connect::read(&nowhere), Err(HeadError::Authority { authority: String::new() }));
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
