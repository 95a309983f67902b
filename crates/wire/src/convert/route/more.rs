//! What only VirtualServices demand of a request.

use ambit_model::http_route::{ClaimMatch, ConnectionMatch, HeaderMatch, More, ValueMatch};

use super::matching::{header, named, value, value_to_pb};
use super::{at_most, text};
use crate::convert::{ConvertError, check_count, name, port};
use crate::limits;
use crate::pb::waypoint as pb;

pub(super) fn more_from_pb(raw: pb::More) -> Result<More, ConvertError> {
    let pb::More {
        method,
        scheme,
        authority,
        port: number,
        from,
        without_headers,
        claims,
        without_claims,
        servers,
        from_labels,
        connection,
    } = raw;
    check_count("matches.fromLabels", limits::ROUTE_LIST, from_labels.len())?;
    let servers = at_most("matches.servers", limits::ROUTE_LIST, servers)?;
    let read = |field, raw: Option<pb::ValueMatch>| raw.map(|raw| value(field, raw)).transpose();
    let without = at_most("matches.withoutHeaders", limits::ROUTE_LIST, without_headers)?;
    let number = port("matches.port", number)?;
    Ok(More {
        method: read("matches.method", method)?,
        scheme: read("matches.scheme", scheme)?,
        authority: read("matches.authority", authority)?,
        port: (number != 0).then_some(number),
        from: if from.is_empty() { None } else { Some(name("matches.from", &from)?) },
        from_labels: from_labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        without_headers: without.into_iter().map(header).collect::<Result<_, _>>()?,
        claims: all("matches.claims", claims)?,
        without_claims: all("matches.withoutClaims", without_claims)?,
        servers: servers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        connection: connection.map(connection_from_pb).transpose()?,
    })
}

fn connection_from_pb(raw: pb::ConnectionMatch) -> Result<ConnectionMatch, ConvertError> {
    let pb::ConnectionMatch { to, from } = raw;
    let to = at_most("matches.connection.to", limits::ROUTE_LIST, to)?;
    let range = |field, text: &str| {
        let wanted = "a range of addresses such as 10.0.0.0/8";
        text.parse().map_err(|_| ConvertError::Value { field, value: text.into(), wanted })
    };
    Ok(ConnectionMatch {
        to: to.iter().map(|it| range("matches.connection.to", it)).collect::<Result<_, _>>()?,
        from: if from.is_empty() { None } else { Some(range("matches.connection.from", &from)?) },
    })
}

fn all(field: &'static str, raw: Vec<pb::ClaimMatch>) -> Result<Vec<ClaimMatch>, ConvertError> {
    at_most(field, limits::ROUTE_LIST, raw)?.into_iter().map(|raw| claim(field, raw)).collect()
}

fn claim(field: &'static str, raw: pb::ClaimMatch) -> Result<ClaimMatch, ConvertError> {
    let pb::ClaimMatch { path, value: raw } = raw;
    let path = at_most(field, limits::ROUTE_LIST, path)?.into_iter();
    Ok(ClaimMatch {
        path: path
            .map(|name| Ok(text(field, limits::HEADER_NAME, name)?.into()))
            .collect::<Result<_, ConvertError>>()?,
        value: value(field, raw.ok_or(ConvertError::NoAlternative { field })?)?,
    })
}

pub(super) fn more_to_pb(more: &More) -> pb::More {
    let More {
        method,
        scheme,
        authority,
        port,
        from,
        from_labels,
        without_headers,
        claims,
        without_claims,
        servers,
        connection,
    } = more;
    let written = |value: &Option<ValueMatch>| value.as_ref().map(value_to_pb);
    let header = |HeaderMatch { name, value }: &HeaderMatch| named(name.as_str(), value);
    let claim = |ClaimMatch { path, value }: &ClaimMatch| pb::ClaimMatch {
        path: path.iter().map(ToString::to_string).collect(),
        value: Some(value_to_pb(value)),
    };
    pb::More {
        method: written(method),
        scheme: written(scheme),
        authority: written(authority),
        port: port.unwrap_or_default().into(),
        from: from.as_ref().map(ToString::to_string).unwrap_or_default(),
        without_headers: without_headers.iter().map(header).collect(),
        claims: claims.iter().map(claim).collect(),
        without_claims: without_claims.iter().map(claim).collect(),
        servers: servers.iter().map(ToString::to_string).collect(),
        from_labels: from_labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        connection: connection.as_ref().map(|ConnectionMatch { to, from }| pb::ConnectionMatch {
            to: to.iter().map(ToString::to_string).collect(),
            from: from.map(|it| it.to_string()).unwrap_or_default(),
        }),
    }
}
