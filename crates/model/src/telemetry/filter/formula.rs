//! Values of labels, in the part of CEL that conditions are written in: attributes, texts and numbers, joined by `+`, or
//! one of two by a condition. Owns what a value is for one request, and how long it may be.

use std::fmt::{self, Write};
use std::str::FromStr;

use http::HeaderName;

use super::{Expr, Facts, FilterError, LONGEST, Term, Value, read};

/// Bytes of one value; what is longer is cut off.
const LONGEST_VALUE: usize = 128;

/// What the value of a label is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formula {
    text: Box<str>,
    root: Pick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    Joined(Vec<Term>),
    If(Expr, Box<Self>, Box<Self>),
}

/// A part of a text.
pub(super) struct Part {
    pub(super) of: Term,
    /// Whether it was said that it is to be a text.
    pub(super) shown: bool,
}

impl Formula {
    /// What it is for a request. None: something of it is not known, or nothing is left.
    pub fn value(&self, facts: &impl Facts) -> Option<String> {
        let mut value = String::new();
        self.root.write(facts, &mut value)?;
        if value.len() > LONGEST_VALUE {
            let end = (0..=LONGEST_VALUE).rev().find(|at| value.is_char_boundary(*at));
            value.truncate(end.unwrap_or_default());
        }
        (!value.is_empty()).then_some(value)
    }

    /// The headers that it is made of.
    #[must_use]
    pub fn headers(&self) -> Vec<&HeaderName> {
        let mut all = Vec::new();
        self.root.headers(&mut all);
        all
    }
}

impl FromStr for Formula {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > LONGEST {
            let problem = format!("a value of more than {LONGEST} characters");
            return Err(FilterError { at: LONGEST, problem, remedy: "make it shorter" });
        }
        Ok(Self { text: text.into(), root: read::read_value(text)? })
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pick {
    fn write(&self, facts: &impl Facts, to: &mut String) -> Option<()> {
        match self {
            Self::If(condition, then, otherwise) => {
                let pick = if condition.value(facts)? { then } else { otherwise };
                pick.write(facts, to)
            }
            Self::Joined(all) => all.iter().try_for_each(|term| shown(term.value(facts)?, to)),
        }
    }

    fn headers<'a>(&'a self, all: &mut Vec<&'a HeaderName>) {
        match self {
            Self::Joined(terms) => all.extend(terms.iter().filter_map(Term::header)),
            Self::If(condition, then, otherwise) => {
                condition.headers(all);
                then.headers(all);
                otherwise.headers(all);
            }
        }
    }
}

fn shown(value: Value<'_>, to: &mut String) -> Option<()> {
    // Writing into a text does not fail.
    match value {
        Value::Text(it) => to.write_str(it),
        Value::Number(it) => write!(to, "{it}"),
        Value::Bool(it) => write!(to, "{it}"),
        Value::Time(it) => write!(to, "{}s", it.as_secs_f64()),
    }
    .ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Attribute;
    use super::*;

    /// What a long header says.
    struct Asked(String);

    impl Facts for Asked {
        fn value(&self, of: &Attribute) -> Option<Value<'_>> {
            let header = |name: &str| Attribute::Header(name.parse().unwrap());
            let known = [
                (Attribute::Host, Value::Text("cart.shop")),
                (Attribute::Port, Value::Number(80)),
                (Attribute::RequestDuration, Value::Time(Duration::from_millis(1_500))),
                (Attribute::Mtls, Value::Bool(true)),
                (Attribute::Query, Value::Text("")),
                (header("x-user"), Value::Text("ada")),
                (header("x-long"), Value::Text(&self.0)),
            ];
            known.into_iter().find(|(it, _)| it == of).map(|(_, value)| value)
        }
    }

    #[test]
    fn a_value_is_what_is_known_of_a_request_and_of_what_is_not_known_there_is_none() {
        // A character lies across the end of what a value may be.
        let asked = Asked("a".repeat(LONGEST_VALUE - 1) + "üx");
        for (text, wanted) in [
            ("request.host", Some("cart.shop")),
            ("'fixed'", Some("fixed")),
            ("destination.port", Some("80")),
            ("string(destination.port)", Some("80")),
            ("connection.mtls", Some("true")),
            ("request.duration", Some("1.5s")),
            ("request.host + ':' + string(destination.port)", Some("cart.shop:80")),
            ("request.headers['x-user']", Some("ada")),
            ("request.headers['x-none']", None),
            ("request.query", None),
            ("has(request.headers['x-none']) ? request.headers['x-none'] : 'nobody'", Some("nobody")),
            ("connection.mtls ? 'proven' : 'not'", Some("proven")),
            ("(destination.port == 443) ? 'tls' : destination.port == 80 ? 'plain' : 'else'", Some("plain")),
            ("response.code >= 500 ? 'bad' : 'good'", None),
            ("request.host == 'a' ? request.path : \"it's\"", Some("it's")),
        ] {
            let formula: Formula = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(formula.value(&asked).as_deref(), wanted, "{text}");
            assert_eq!(formula.to_string(), text);
        }
        let long: Formula = "request.headers['x-long']".parse().unwrap();
        assert_eq!(
            long.value(&asked).map(|it| it.len()),
            Some(LONGEST_VALUE - 1),
            "cut where a character ends"
        );
        let all: Formula = "has(request.headers['a']) ? request.headers['b'] + 'c' : 'd'".parse().unwrap();
        assert_eq!(all.headers(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_value_is_refused_with_the_place_and_the_remedy() {
        let deep = "true ? 'a' : ".repeat(40) + "'b'";
        let long = format!("'{}'", "a".repeat(2_000));
        for (text, at, problem) in [
            ("request.hots", 1, "\"request.hots\" is not known here"),
            ("request.host + destination.port", 32, "only texts are joined"),
            ("request.host request.path", 14, "nothing more"),
            ("true ? 'a'", 11, "\":\" is missing"),
            ("", 1, "a value is missing"),
            (deep.as_str(), 0, "too many"),
            (long.as_str(), 1_024, "more than 1024"),
        ] {
            let error = text.parse::<Formula>().unwrap_err();
            assert!(error.problem.contains(problem), "{text}: {error}");
            assert!(error.at == at || at == 0, "{text}: {error}");
        }
    }
}
