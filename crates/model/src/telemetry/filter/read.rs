//! Reads a condition, or a value. Bounded in depth by what parentheses, `!` and `?` may hold of each other, in length by
//! `LONGEST`.

use std::time::Duration;

use super::formula::{Part, Pick};
use super::{Attribute, Expr, FilterError, How, Order, Sort, Term};

/// How deep parentheses, `!` and `?` may be in each other.
const DEEPEST: usize = 16;

const ATTRIBUTES: &str = "there are response.code, response.grpc_status, response.size, response.code_details, \
    response.backend_latency, request.method, request.path, request.url_path, request.host, request.headers['name'], \
    request.useragent, request.id, request.size, request.duration, request.protocol, request.query, request.referer, \
    destination.port, upstream.address, xds.route_name, connection.uri_san_peer_certificate and connection.mtls";

pub(super) fn read(text: &str) -> Result<Expr, FilterError> {
    let mut reader = Reader { text, rest: text, depth: 0 };
    let expr = reader.any()?;
    if reader.blank().is_empty() {
        return Ok(expr);
    }
    Err(reader.wrong("nothing more is expected here", "join conditions by && or ||"))
}

pub(super) fn read_value(text: &str) -> Result<Pick, FilterError> {
    let mut reader = Reader { text, rest: text, depth: 0 };
    let pick = reader.pick()?;
    if reader.blank().is_empty() {
        return Ok(pick);
    }
    Err(reader.wrong("nothing more is expected here", "join texts by +, or choose with ? and :"))
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, problem: impl Into<String>, remedy: &'static str) -> FilterError {
        let before = self.text.len() - self.rest.len();
        let at = self.text.get(..before).map_or(0, |it| it.chars().count()) + 1;
        FilterError { at, problem: problem.into(), remedy }
    }

    /// What is left, without blanks before it.
    fn blank(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn takes(&mut self, token: &str) -> bool {
        let rest = self.blank().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &'static str) -> Result<(), FilterError> {
        if self.takes(token) {
            return Ok(());
        }
        Err(self.wrong(format!("{token:?} is missing"), "write it there"))
    }

    /// One value, or the one of two that a condition says.
    fn pick(&mut self) -> Result<Pick, FilterError> {
        self.depth += 1;
        // A condition is one step deeper.
        if self.depth >= DEEPEST {
            return Err(self.wrong("too many choices in each other", "write it with fewer ? and :"));
        }
        let (rest, depth) = (self.rest, self.depth);
        let condition = self.condition();
        let pick = match condition {
            Some(condition) => {
                let then = self.pick()?;
                self.expect(":")?;
                Pick::If(condition, Box::new(then), Box::new(self.pick()?))
            }
            None => {
                (self.rest, self.depth) = (rest, depth);
                self.joined()?
            }
        };
        self.depth -= 1;
        Ok(pick)
    }

    /// A condition and its question mark; what is none is a value.
    fn condition(&mut self) -> Option<Expr> {
        let condition = self.any().ok()?;
        self.takes("?").then_some(condition)
    }

    fn joined(&mut self) -> Result<Pick, FilterError> {
        let mut all = vec![self.part()?];
        while self.takes("+") {
            all.push(self.part()?);
        }
        let is_text = |it: &Part| it.shown || it.of.sort() == Sort::Text;
        if all.len() > 1 && !all.iter().all(is_text) {
            let remedy = "put numbers, times and the like into string(…)";
            return Err(self.wrong("only texts are joined by +", remedy));
        }
        Ok(Pick::Joined(all.into_iter().map(|it| it.of).collect()))
    }

    fn part(&mut self) -> Result<Part, FilterError> {
        if self.takes("string(") {
            let of = self.term()?;
            self.expect(")")?;
            return Ok(Part { of, shown: true });
        }
        Ok(Part { of: self.term()?, shown: false })
    }

    fn any(&mut self) -> Result<Expr, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong("too many parentheses in each other", "write it with fewer of them"));
        }
        let mut all = vec![self.all()?];
        while self.takes("||") {
            all.push(self.all()?);
        }
        self.depth -= 1;
        Ok(one_or(all, Expr::Any))
    }

    fn all(&mut self) -> Result<Expr, FilterError> {
        let mut all = vec![self.unary()?];
        while self.takes("&&") {
            all.push(self.unary()?);
        }
        Ok(one_or(all, Expr::All))
    }

    fn unary(&mut self) -> Result<Expr, FilterError> {
        if self.blank().starts_with('!') {
            self.depth += 1;
            if self.depth > DEEPEST {
                return Err(self.wrong("too many ! in each other", "write it with fewer of them"));
            }
            self.expect("!")?;
            let inner = self.unary()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.takes("(") {
            let inner = self.any()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.takes("has(") {
            let Term::Of(attribute) = self.term()? else {
                return Err(self.wrong("has() is about attributes", ATTRIBUTES));
            };
            self.expect(")")?;
            return Ok(Expr::Has(attribute));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr, FilterError> {
        let left = self.term()?;
        if let Term::Text(name) = &left
            && self.takes("in ")
        {
            return self.named(name.as_str());
        }
        for (token, how) in
            [(".startsWith(", How::Begins), (".endsWith(", How::Ends), (".contains(", How::Holds)]
        {
            if self.takes(token) {
                return self.method(left, how);
            }
        }
        if self.rest.starts_with('.') {
            let remedy = "there are startsWith, endsWith and contains";
            return Err(self.wrong("a method that is not understood here", remedy));
        }
        let orders = [
            ("==", Order::Same),
            ("!=", Order::Other),
            ("<=", Order::LessOrSame),
            (">=", Order::MoreOrSame),
            ("<", Order::Less),
            (">", Order::More),
        ];
        let Some((_, order)) = orders.into_iter().find(|(token, _)| self.takes(token)) else {
            if left.sort() == Sort::Bool {
                return Ok(Expr::Is(left));
            }
            return Err(self.wrong("a comparison is missing", "write ==, !=, <, <=, > or >="));
        };
        let right = self.term()?;
        let is_ordered = matches!(left.sort(), Sort::Number | Sort::Time);
        if left.sort() != right.sort() {
            let remedy = "compare numbers with numbers, texts with 'texts' and times with duration('1s')";
            return Err(self.wrong("both sides are of different sorts", remedy));
        }
        if !is_ordered && !matches!(order, Order::Same | Order::Other) {
            return Err(self.wrong("only numbers and times have an order", "write == or !="));
        }
        Ok(Expr::Compare(left, order, right))
    }

    /// `'name' in request.headers`.
    fn named(&mut self, name: &str) -> Result<Expr, FilterError> {
        self.expect("request.headers")?;
        let header = name.parse();
        header
            .map(|name| Expr::Has(Attribute::Header(name)))
            .map_err(|_| self.wrong(format!("{name:?} is no header's name"), "give one, as 'x-user'"))
    }

    fn method(&mut self, left: Term, how: How) -> Result<Expr, FilterError> {
        let wanted = self.term()?;
        self.expect(")")?;
        match (left, wanted) {
            (Term::Of(of), Term::Text(text)) if of.sort() == Sort::Text => Ok(Expr::Text(of, how, text)),
            _ => Err(self.wrong("not a text", "ask attributes that are texts, about a 'text'")),
        }
    }

    fn term(&mut self) -> Result<Term, FilterError> {
        let rest = self.blank();
        match rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.text(quote).map(|it| Term::Text(it.into())),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            Some(c) if c.is_ascii_alphabetic() => self.word(),
            _ => {
                Err(self
                    .wrong("a value is missing", "name an attribute, a number, a 'text' or duration('1s')"))
            }
        }
    }

    /// Without escapes, so that nothing is read in two ways.
    fn text(&mut self, quote: char) -> Result<&'a str, FilterError> {
        let inner = self.rest.get(1..).unwrap_or_default();
        let Some((text, rest)) = inner.split_once(quote) else {
            return Err(self.wrong("a text that does not end", "close it with the quote that it begins with"));
        };
        if text.contains('\\') {
            return Err(self.wrong("escapes are not understood here", "write the text without a backslash"));
        }
        self.rest = rest;
        Ok(text)
    }

    fn number(&mut self) -> Result<Term, FilterError> {
        let is_of = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let end = self.rest.find(|c| !is_of(c)).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        let number = digits.parse();
        let number = number.map_err(|_| self.wrong(format!("{digits:?} is no whole number"), "write one"))?;
        self.rest = rest;
        Ok(Term::Number(number))
    }

    fn word(&mut self) -> Result<Term, FilterError> {
        let before = self.rest;
        let is_of = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        let end = before.find(|c| !is_of(c)).unwrap_or(before.len());
        let (mut name, mut rest) = before.split_at_checked(end).unwrap_or((before, ""));
        // A method's name is none of the attribute's.
        if rest.starts_with('(')
            && let Some((attribute, _)) = name.rsplit_once('.')
        {
            (name, rest) = before.split_at_checked(attribute.len()).unwrap_or((before, ""));
        }
        let found = match name {
            "true" => Some(Term::Bool(true)),
            "false" => Some(Term::Bool(false)),
            "duration" => {
                self.rest = rest;
                return self.duration();
            }
            "request.headers" if rest.starts_with('[') => {
                self.rest = rest;
                return self.header();
            }
            name => Attribute::named(name).map(Term::Of),
        };
        let found = found.ok_or_else(|| self.wrong(format!("{name:?} is not known here"), ATTRIBUTES))?;
        self.rest = rest;
        Ok(found)
    }

    fn quoted(&mut self) -> Result<&'a str, FilterError> {
        match self.blank().chars().next() {
            Some(quote @ ('\'' | '"')) => self.text(quote),
            _ => Err(self.wrong("a text is missing", "write it in quotes")),
        }
    }

    fn header(&mut self) -> Result<Term, FilterError> {
        self.expect("[")?;
        let name = self.quoted()?;
        let parsed = name.parse();
        let name = parsed
            .map_err(|_| self.wrong(format!("{name:?} is no header's name"), "give one, as 'x-user'"))?;
        self.expect("]")?;
        Ok(Term::Of(Attribute::Header(name)))
    }

    fn duration(&mut self) -> Result<Term, FilterError> {
        self.expect("(")?;
        let text = self.quoted()?;
        let time = time(text);
        let time = time.ok_or_else(|| {
            self.wrong(format!("{text:?} is no time"), "write it as '500ms', '1.5s' or '1m'")
        })?;
        self.expect(")")?;
        Ok(Term::Time(time))
    }
}

fn one_or(mut all: Vec<Expr>, of: fn(Vec<Expr>) -> Expr) -> Expr {
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            all.extend(last);
            of(all)
        }
    }
}

/// A number and one unit.
fn time(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at_checked(end)?;
    let seconds = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}
