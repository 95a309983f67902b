//! What a metrics port answers: the registry's text, typed and compressed as the scraper accepts it
//! (`ztunnel.md` 11.1). Owns that negotiation; paths and metrics are each program's.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName, HeaderValue, VARY};
use http::{HeaderMap, Response, StatusCode};

use crate::admin::{self, Body};
use crate::observe::{Registry, encode};

const OPEN_METRICS: &str = "application/openmetrics-text";
/// Shorter texts are not worth the work.
const COMPRESS_FROM: usize = 1024;

/// How a body goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    Gzip,
    Deflate,
}

/// Answers a scrape.
#[must_use]
pub fn answer(registry: &Registry, asked: &HeaderMap) -> Response<Body> {
    let text = encode(registry);
    let content_type = if entries(asked, ACCEPT).any(|(entry, _)| entry.eq_ignore_ascii_case(OPEN_METRICS)) {
        "application/openmetrics-text;charset=utf-8;version=1.0.0"
    } else {
        "text/plain; charset=utf-8"
    };
    let coding = if text.len() < COMPRESS_FROM { Coding::Plain } else { best(asked) };
    // Compressing into memory cannot fail; if it does, the text goes as it is.
    let (body, name) = match (coding, compressed(coding, text.as_bytes())) {
        (Coding::Gzip, Some(body)) => (body, Some("gzip")),
        (Coding::Deflate, Some(body)) => (body, Some("deflate")),
        _ => (text.into_bytes(), None),
    };
    let mut response = admin::answer(StatusCode::OK, content_type, body);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if let Some(name) = name {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

fn compressed(coding: Coding, text: &[u8]) -> Option<Vec<u8>> {
    // Scraped every few seconds: quick matters more than the last percent.
    let effort = Compression::fast();
    match coding {
        Coding::Plain => None,
        Coding::Gzip => {
            let mut to = GzEncoder::new(Vec::new(), effort);
            to.write_all(text).and_then(|()| to.finish()).ok()
        }
        Coding::Deflate => {
            let mut to = ZlibEncoder::new(Vec::new(), effort);
            to.write_all(text).and_then(|()| to.finish()).ok()
        }
    }
}

/// The coding that is liked best; gzip among equals.
fn best(asked: &HeaderMap) -> Coding {
    let of = |name: &str| entries(asked, ACCEPT_ENCODING).find(|(entry, _)| entry.eq_ignore_ascii_case(name));
    let liked = |name: &str| of(name).or_else(|| of("*")).map_or(0, |(_, weight)| weight);
    let plain = of("identity").map_or(0, |(_, weight)| weight);
    let (gzip, deflate) = (liked("gzip"), liked("deflate"));
    match gzip.max(deflate) {
        0 => Coding::Plain,
        most if plain > most => Coding::Plain,
        most if gzip == most => Coding::Gzip,
        _ => Coding::Deflate,
    }
}

/// The entries of a header that is a list, each with its weight in thousandths (RFC 9110, 12.4.2).
fn entries(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = (&str, u16)> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let what = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        (what, weight.map_or(1000, thousandths))
    })
}

/// At most three digits follow the point; what is no weight counts as none.
fn thousandths(weight: &str) -> u16 {
    let (whole, part) = weight.split_once('.').unwrap_or((weight, ""));
    match whole {
        "1" => 1000,
        "0" if part.len() <= 3 => format!("{part:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http_body_util::BodyExt;
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    fn asked(accept: &[&str], encodings: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in [(ACCEPT, accept), (ACCEPT_ENCODING, encodings)] {
            for value in values {
                headers.append(&name, value.parse().unwrap());
            }
        }
        headers
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for number in 0..50 {
            registry.register(format!("seen_{number}"), "Things that were seen", Counter::<u64>::default());
        }
        registry
    }

    #[tokio::test]
    async fn every_coding_decodes_to_the_same_text() {
        let registry = registry();
        let plain = encode(&registry);
        for (encodings, named) in [
            (vec![], None),
            (vec!["br"], None),
            (vec!["gzip"], Some("gzip")),
            (vec!["deflate"], Some("deflate")),
            (vec!["deflate, gzip;q=1.0", "*;q=0.5"], Some("gzip")),
            (vec!["gzip;q=0.1, deflate;q=0.2"], Some("deflate")),
            (vec!["gzip;q=0, deflate;q=0"], None),
            (vec!["*"], Some("gzip")),
            (vec!["identity, gzip;q=0.5"], None),
            (vec!["gzip;q=x"], None),
        ] {
            let response = answer(&registry, &asked(&[], &encodings));
            let coding = response.headers().get(CONTENT_ENCODING).map(|v| v.to_str().unwrap().to_owned());
            assert_eq!(coding.as_deref(), named, "{encodings:?}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let mut text = String::new();
            match named {
                Some("gzip") => drop(flate2::read::GzDecoder::new(&*body).read_to_string(&mut text).unwrap()),
                Some(_) => drop(flate2::read::ZlibDecoder::new(&*body).read_to_string(&mut text).unwrap()),
                None => text = String::from_utf8(body.to_vec()).unwrap(),
            }
            assert_eq!(text, plain, "{encodings:?}");
            assert!(named.is_none() || body.len() < plain.len() / 2, "{}", body.len());
        }
    }

    #[test]
    fn the_type_is_openmetrics_if_any_entry_names_it() {
        let registry = registry();
        for (accept, open) in [
            (vec![], false),
            (vec!["text/plain"], false),
            (vec!["text/plain;q=0.5, application/openmetrics-text;version=1.0.0;q=0.1"], true),
            (vec!["text/html", "Application/OpenMetrics-Text"], true),
            (vec!["application/openmetrics-textual"], false),
        ] {
            let response = answer(&registry, &asked(&accept, &[]));
            let kind = response.headers()["content-type"].to_str().unwrap();
            assert_eq!(kind.starts_with(OPEN_METRICS), open, "{accept:?}");
        }
    }
}
