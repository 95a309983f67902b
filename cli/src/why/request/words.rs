//! The explanation of a request in words, below those of its connection.

use std::fmt;

use serde_json::Value;

use super::{AtWaypoint, End, PolicyTold, RequestExplanation, RuleTold, Share};

impl fmt::Display for RequestExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, connection, waypoint } = self;
        let said = connection.to_string();
        let (first, rest) = said.split_once('\n').unwrap_or((&said, ""));
        match waypoint {
            None => {
                let outcome = first.rsplit_once(": ").map_or("", |(_, outcome)| outcome);
                writeln!(f, "{} asks {request}: {outcome}", connection.source.name)?;
                writeln!(f, "{rest}")?;
                write!(f, "  request  nobody on the way looks at requests")
            }
            Some(seen) => {
                writeln!(f, "{} asks {request}: {}", connection.source.name, seen.end)?;
                writeln!(f, "{rest}")?;
                seen.fmt(f)
            }
        }
    }
}

impl fmt::Display for AtWaypoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  waypoint looks at {}, path {}", self.target, self.path)?;
        if !self.issuers.is_empty() {
            writeln!(f, "  tokens   of {} are believed; this is asked without one", self.issuers.join(", "))?;
        }
        match &self.rule {
            Some(rule) => writeln!(f, "  route    {rule}")?,
            None if self.passed_over.is_empty() => writeln!(f, "  route    none is attached")?,
            None => writeln!(f, "  route    none of those that are attached")?,
        }
        for passed in &self.passed_over {
            writeln!(f, "           not {passed}")?;
        }
        if self.passed_over_more > 0 {
            writeln!(f, "           nor {} more", self.passed_over_more)?;
        }
        for (at, policy) in self.policies.iter().enumerate() {
            writeln!(f, "  {} {policy}", if at == 0 { "policies" } else { "        " })?;
        }
        for (at, limit) in self.limits.iter().enumerate() {
            writeln!(f, "  {}   {limit}", if at == 0 { "limits" } else { "      " })?;
        }
        for (at, processor) in self.processors.iter().enumerate() {
            writeln!(f, "  {}  {processor}", if at == 0 { "goes by" } else { "       " })?;
        }
        if !(self.limits.is_empty() && self.processors.is_empty()) {
            writeln!(f, "           none of those was asked: each may still refuse it or change it")?;
        }
        match &self.end {
            End::Sent { shares, verdict } => {
                write!(f, "  verdict  {verdict}")?;
                for (at, share) in shares.iter().enumerate() {
                    write!(f, "\n  {}  {share}", if at == 0 { "goes to" } else { "       " })?;
                }
                Ok(())
            }
            End::Asked { provider } => write!(f, "  verdict  {provider} is asked"),
            End::Answered { status, why } => write!(f, "  answer   {status}: {why}"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent { .. } => f.write_str("sent on"),
            Self::Asked { provider } => write!(f, "{provider} decides"),
            Self::Answered { status, .. } => write!(f, "answered {status} by the waypoint"),
        }
    }
}

impl fmt::Display for RuleTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.route, self.index)?;
        if let Some(name) = self.rule.get("name").and_then(Value::as_str) {
            write!(f, " ({name})")?;
        }
        for (key, value) in self.rule.as_object().into_iter().flatten() {
            if !["name", "backends"].contains(&key.as_str()) {
                write!(f, "\n           {key} {value}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for PolicyTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.action, self.name)?;
        match self.rule {
            Some(rule) => write!(f, "rule {rule} matches")?,
            None => f.write_str("no rule matches")?,
        }
        f.write_str(if self.dry_run { " (dry run)" } else { "" })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, percent, broken, endpoints: (well, all) } = self;
        write!(f, "{percent} % {to}")?;
        match broken {
            Some(why) => write!(f, ", answered 500: {why}"),
            None => write!(f, ", {well} of {all} endpoints well"),
        }
    }
}
