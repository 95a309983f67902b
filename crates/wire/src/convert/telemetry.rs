//! What is told of requests. Owns its message, which is of our own schema: what cannot be read is refused whole, and the
//! former version stays in force.

use std::sync::Arc;

use ambit_model::name::{Label, PolicyKey};
use ambit_model::provider::{Tag, Traced};
use ambit_model::telemetry::{
    HeaderWords, LabelWord, LogWord, Metric, ProxyHeader, Relabel, Scope, Server, Sink, Telemetry, Tracing,
    is_label_name,
};
use ambit_model::trace::Sampling;

use super::{ConvertError, check_count, name};
use crate::limits;
use crate::pb::telemetry as pb;

/// What is told of requests, from its message.
pub fn telemetry_from_pb(raw: pb::Telemetry) -> Result<Telemetry, ConvertError> {
    let pb::Telemetry {
        namespace,
        name: own_name,
        scopes,
        tracing,
        logging,
        uncounted,
        counted,
        labels,
        headers,
    } = raw;
    check_count("scopes", limits::POLICY_TARGETS, scopes.len())?;
    check_count("logging", limits::PROVIDER_LIST, logging.len())?;
    check_count("counted", Metric::ALL.len(), uncounted.len().max(counted.len()))?;
    check_count("labels", limits::PROVIDER_LIST, labels.len())?;
    Ok(Telemetry {
        key: PolicyKey { namespace: name("namespace", &namespace)?, name: name("name", &own_name)? },
        scopes: scopes.into_iter().map(scope).collect::<Result<_, _>>()?,
        tracing: tracing.map(self::tracing).transpose()?,
        logging: logging.into_iter().map(word).collect::<Result<_, _>>()?,
        uncounted: uncounted.into_iter().map(metric).collect::<Result<_, _>>()?,
        counted: counted.into_iter().map(metric).collect::<Result<_, _>>()?,
        labels: labels.into_iter().map(label).collect::<Result<_, _>>()?,
        headers: headers.map(self::headers).transpose()?.unwrap_or_default(),
    })
}

fn headers(raw: pb::HeaderWords) -> Result<HeaderWords, ConvertError> {
    let pb::HeaderWords { told, untold, server } = raw;
    check_count("headers", ProxyHeader::ALL.len(), told.len().max(untold.len()))?;
    let server = server.map(|text| match text.parse() {
        _ if text.is_empty() => Ok(Server::Untold),
        Ok(value) => Ok(Server::Is(value)),
        Err(_) => {
            Err(ConvertError::Value { field: "headers.server", value: text, wanted: "a header's value" })
        }
    });
    Ok(HeaderWords {
        told: told.into_iter().map(self::told).collect::<Result<_, _>>()?,
        untold: untold.into_iter().map(self::told).collect::<Result<_, _>>()?,
        server: server.transpose()?,
    })
}

fn told(name: String) -> Result<ProxyHeader, ConvertError> {
    let found = ProxyHeader::named(&name);
    found.ok_or(ConvertError::Value {
        field: "headers",
        value: name,
        wanted: "what proxyHeaders has a word for",
    })
}

fn label(raw: pb::LabelWord) -> Result<LabelWord, ConvertError> {
    let pb::LabelWord { of, name, value } = raw;
    check_count("labels.of", Metric::ALL.len(), of.len())?;
    if !is_label_name(&name) {
        return Err(ConvertError::Value { field: "labels.name", value: name, wanted: "a label's name" });
    }
    let to = match value.as_str() {
        "" => Relabel::Removed,
        text => match text.parse() {
            Ok(formula) => Relabel::Set(Arc::new(formula)),
            Err(_) => {
                let wanted = "a value that is understood here";
                return Err(ConvertError::Value { field: "labels.value", value, wanted });
            }
        },
    };
    Ok(LabelWord { of: of.into_iter().map(metric).collect::<Result<_, _>>()?, name: name.into(), to })
}

fn scope(raw: pb::Scope) -> Result<Scope, ConvertError> {
    use pb::scope::Kind;
    let pb::Scope { kind } = raw;
    Ok(match kind.ok_or(ConvertError::NoAlternative { field: "scopes" })? {
        Kind::Usual(_) => Scope::Usual,
        Kind::Mesh(_) => Scope::Mesh,
        Kind::Namespace(text) => Scope::Namespace(name("scopes.namespace", &text)?),
        Kind::Class(_) => Scope::Class,
        Kind::Waypoint(key) => {
            let PolicyKey { namespace, name } = name("scopes.waypoint", &key)?;
            Scope::Waypoint { namespace, name: Label::from(name.as_str()) }
        }
        Kind::Service(key) => Scope::Service(name("scopes.service", &key)?),
    })
}

fn tracing(raw: pb::Tracing) -> Result<Tracing, ConvertError> {
    let pb::Tracing { providers, sampling, disabled, tags, istio_tags, usual_sampling, usual_tags } = raw;
    let names = providers.map(|pb::Names { names }| {
        check_count("providers", limits::PROVIDER_LIST, names.len())?;
        Ok::<_, ConvertError>(names.into_iter().map(Label::from).collect())
    });
    Ok(Tracing {
        providers: names.transpose()?,
        sampling: sampling.map(|it| share("sampling", it)).transpose()?,
        disabled,
        tags: tags.map(self::tags).transpose()?,
        istio_tags,
        usual: Traced {
            sampling: share("usual_sampling", usual_sampling)?,
            tags: usual_tags.map(self::tags).transpose()?.unwrap_or_default(),
        },
    })
}

fn share(field: &'static str, parts: u32) -> Result<Sampling, ConvertError> {
    let wanted = "ten-thousandths, at most 10000";
    Sampling::of(parts).ok_or_else(|| ConvertError::Value { field, value: parts.to_string(), wanted })
}

fn tags(raw: pb::Tags) -> Result<Vec<(Label, Tag)>, ConvertError> {
    let pb::Tags { tags } = raw;
    check_count("tags", limits::PROVIDER_LIST, tags.len())?;
    tags.into_iter().map(tag).collect()
}

fn tag(raw: pb::Attribute) -> Result<(Label, Tag), ConvertError> {
    let pb::Attribute { name, text, header } = raw;
    if name.is_empty() {
        return Err(ConvertError::Value { field: "tags", value: name, wanted: "a name" });
    }
    let tag = match header.as_str() {
        "" => Tag::Literal(text.into()),
        written => match written.parse() {
            Ok(name) => Tag::Header { name, default: text.into() },
            Err(_) => {
                return Err(ConvertError::Value { field: "tags", value: header, wanted: "a header's name" });
            }
        },
    };
    Ok((name.into(), tag))
}

fn word(raw: pb::LogWord) -> Result<LogWord, ConvertError> {
    let pb::LogWord { to, disabled, filter } = raw;
    check_count("logging.to", limits::PROVIDER_LIST, to.len())?;
    let to = to.into_iter().map(|pb::Sink { kind }| {
        Ok(match kind.ok_or(ConvertError::NoAlternative { field: "logging.to" })? {
            pb::sink::Kind::Log(_) => Sink::Log,
            pb::sink::Kind::Collector(name) => Sink::Collector(name.into()),
            pb::sink::Kind::File(name) => Sink::File(name.into()),
        })
    });
    let to = to.collect::<Result<_, ConvertError>>()?;
    let read = match filter.as_str() {
        "" => None,
        text => match text.parse() {
            Ok(filter) => Some(Arc::new(filter)),
            Err(_) => {
                let wanted = "a condition that is understood here";
                return Err(ConvertError::Value { field: "logging.filter", value: filter, wanted });
            }
        },
    };
    Ok(LogWord { to, disabled, filter: read })
}

fn metric(name: String) -> Result<Metric, ConvertError> {
    let found = Metric::named(&name);
    found.ok_or(ConvertError::Value { field: "counted", value: name, wanted: "the name of a counter" })
}

/// The message of what is told of requests.
#[must_use]
pub fn telemetry_to_pb(telemetry: &Telemetry) -> pb::Telemetry {
    let Telemetry { key, scopes, tracing, logging, uncounted, counted, labels, headers } = telemetry;
    let PolicyKey { namespace, name } = key;
    let names = |all: &[Metric]| all.iter().map(|it| it.name().to_owned()).collect();
    pb::Telemetry {
        namespace: namespace.to_string(),
        name: name.to_string(),
        scopes: scopes.iter().map(scope_to_pb).collect(),
        tracing: tracing.as_ref().map(tracing_to_pb),
        logging: logging.iter().map(word_to_pb).collect(),
        uncounted: names(uncounted),
        counted: names(counted),
        labels: labels.iter().map(label_to_pb).collect(),
        headers: (!headers.is_empty()).then(|| headers_to_pb(headers)),
    }
}

fn headers_to_pb(words: &HeaderWords) -> pb::HeaderWords {
    let HeaderWords { told, untold, server } = words;
    let names = |all: &[ProxyHeader]| all.iter().map(|it| it.name().to_owned()).collect();
    let server = server.as_ref().map(|it| match it {
        Server::Untold => String::new(),
        // It was read of a text.
        Server::Is(value) => String::from_utf8_lossy(value.as_bytes()).into_owned(),
    });
    pb::HeaderWords { told: names(told), untold: names(untold), server }
}

fn label_to_pb(word: &LabelWord) -> pb::LabelWord {
    let LabelWord { of, name, to } = word;
    let value = match to {
        Relabel::Removed => String::new(),
        Relabel::Set(formula) => formula.to_string(),
    };
    pb::LabelWord { of: of.iter().map(|it| it.name().to_owned()).collect(), name: name.to_string(), value }
}

fn scope_to_pb(scope: &Scope) -> pb::Scope {
    use pb::scope::Kind;
    let kind = match scope {
        Scope::Usual => Kind::Usual(true),
        Scope::Mesh => Kind::Mesh(true),
        Scope::Namespace(namespace) => Kind::Namespace(namespace.to_string()),
        Scope::Class => Kind::Class(true),
        Scope::Waypoint { namespace, name } => Kind::Waypoint(format!("{namespace}/{name}")),
        Scope::Service(key) => Kind::Service(key.to_string()),
    };
    pb::Scope { kind: Some(kind) }
}

fn tracing_to_pb(tracing: &Tracing) -> pb::Tracing {
    let Tracing { providers, sampling, disabled, tags, istio_tags, usual } = tracing;
    let names = |all: &Vec<Label>| pb::Names { names: all.iter().map(ToString::to_string).collect() };
    pb::Tracing {
        providers: providers.as_ref().map(names),
        sampling: sampling.map(|it| it.parts().into()),
        disabled: *disabled,
        tags: tags.as_deref().map(tags_to_pb),
        istio_tags: *istio_tags,
        usual_sampling: usual.sampling.parts().into(),
        usual_tags: (!usual.tags.is_empty()).then(|| tags_to_pb(&usual.tags)),
    }
}

fn tags_to_pb(tags: &[(Label, Tag)]) -> pb::Tags {
    let tag = |(name, tag): &(Label, Tag)| {
        let (text, header) = match tag {
            Tag::Literal(text) => (text, String::new()),
            Tag::Header { name, default } => (default, name.to_string()),
        };
        pb::Attribute { name: name.to_string(), text: text.to_string(), header }
    };
    pb::Tags { tags: tags.iter().map(tag).collect() }
}

fn word_to_pb(word: &LogWord) -> pb::LogWord {
    use pb::sink::Kind;
    let LogWord { to, disabled, filter } = word;
    let sink = |it: &Sink| match it {
        Sink::Log => Kind::Log(true),
        Sink::Collector(name) => Kind::Collector(name.to_string()),
        Sink::File(name) => Kind::File(name.to_string()),
    };
    pb::LogWord {
        to: to.iter().map(|it| pb::Sink { kind: Some(sink(it)) }).collect(),
        disabled: *disabled,
        filter: filter.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> pb::Telemetry {
        let word = |name: &str, value: &str| pb::LabelWord {
            of: vec!["REQUEST_COUNT".into(), "REQUEST_SIZE".into()],
            name: name.into(),
            value: value.into(),
        };
        pb::Telemetry {
            namespace: "shop".into(),
            name: "own".into(),
            scopes: vec![scope_to_pb(&Scope::Usual), scope_to_pb(&Scope::Class)],
            logging: vec![word_to_pb(&LogWord {
                to: vec![Sink::Log, Sink::File("file".into()), Sink::Collector("otel".into())],
                disabled: None,
                filter: None,
            })],
            labels: vec![word("host", "request.host + '!'"), word("reporter", "")],
            headers: Some(pb::HeaderWords {
                told: vec!["xForwardedHost".into()],
                untold: vec!["requestId".into(), "attemptCount".into()],
                server: Some("shop".into()),
            }),
            ..pb::Telemetry::default()
        }
    }

    #[test]
    fn what_is_said_of_labels_and_headers_reads_back_as_it_was_written() {
        let read = telemetry_from_pb(raw()).unwrap();
        assert_eq!(read.scopes, [Scope::Usual, Scope::Class]);
        assert_eq!(read.logging[0].to[1], Sink::File("file".into()));
        assert_eq!(read.labels[1].to, Relabel::Removed);
        assert_eq!(telemetry_to_pb(&read), raw());
    }

    #[test]
    fn a_word_of_headers_that_is_none_is_refused_by_its_field() {
        let of = |told: Vec<String>, server: Option<&str>| {
            let words = pb::HeaderWords { told, untold: vec![], server: server.map(Into::into) };
            telemetry_from_pb(pb::Telemetry { headers: Some(words), ..raw() }).map(|it| it.headers)
        };
        assert_eq!(of(vec![], Some("")).unwrap().server, Some(Server::Untold));
        assert!(of(vec![], None).unwrap().is_empty());
        for (told, server, wanted) in
            [("all", None, "headers"), ("requestId", Some("a\nb"), "headers.server")]
        {
            let error = of(vec![told.into()], server).unwrap_err();
            assert!(matches!(&error, ConvertError::Value { field, .. } if *field == wanted), "{error}");
        }
        let many = vec!["requestId".to_owned(); ProxyHeader::ALL.len() + 1];
        assert!(matches!(of(many, None), Err(ConvertError::TooMany { field: "headers", .. })));
    }

    #[test]
    fn a_label_that_is_none_is_refused_by_its_field() {
        for (name, value, of, field) in [
            ("a-b", "", "REQUEST_COUNT", "labels.name"),
            ("a", "request.hots", "REQUEST_COUNT", "labels.value"),
            ("a", "", "REQUESTS", "counted"),
        ] {
            let mut telemetry = raw();
            telemetry.labels =
                vec![pb::LabelWord { of: vec![of.into()], name: name.into(), value: value.into() }];
            let error = telemetry_from_pb(telemetry).unwrap_err();
            assert!(matches!(&error, ConvertError::Value { field: found, .. } if *found == field), "{error}");
        }
        let mut telemetry = raw();
        telemetry.labels = vec![telemetry.labels[0].clone(); limits::PROVIDER_LIST + 1];
        assert!(matches!(telemetry_from_pb(telemetry), Err(ConvertError::TooMany { field: "labels", .. })));
    }
}
