//! Which endpoint is chosen, how much there may be, and who is left out. Owns those messages.

use ambit_model::http_route::RetryBudget;
use ambit_model::traffic::{Balance, HashBy, HashTable, Limits, Outlier, Version, Warmup};

use super::super::{ConvertError, known};
use super::{after, ms};
use crate::pb::waypoint as pb;

/// Larger rings and tables are not made.
const TABLE_MOST: u32 = 8 * 1024 * 1024;

pub(super) fn balance_from_pb(raw: Option<pb::Balance>) -> Result<Balance, ConvertError> {
    use pb::balance::Kind;
    let Some(pb::Balance { kind }) = raw else { return Ok(Balance::default()) };
    Ok(match kind.ok_or(ConvertError::NoAlternative { field: "balance" })? {
        Kind::LeastRequest(_) => Balance::LeastRequest,
        Kind::Random(_) => Balance::Random,
        Kind::RoundRobin(_) => Balance::RoundRobin,
        Kind::Hash(raw) => hash(raw)?,
    })
}

fn hash(raw: pb::HashBalance) -> Result<Balance, ConvertError> {
    use pb::hash_balance::{By, Table};
    let pb::HashBalance { by, table } = raw;
    let by = match by.ok_or(ConvertError::NoAlternative { field: "balance.hash.by" })? {
        By::Header(name) => HashBy::Header(name.parse().map_err(|_| ConvertError::Value {
            field: "balance.hash.header",
            value: name,
            wanted: "a header's name",
        })?),
        By::Cookie(pb::HashCookie { name, path, ttl_ms }) => {
            HashBy::Cookie { name: name.into(), path: path.into(), ttl: ttl_ms.map(after) }
        }
        By::Query(name) => HashBy::Query(name.into()),
        By::SourceIp(_) => HashBy::SourceIp,
    };
    let table = match table.ok_or(ConvertError::NoAlternative { field: "balance.hash.table" })? {
        Table::Ring(least) => HashTable::Ring { least: least.min(TABLE_MOST) },
        Table::Maglev(size) => HashTable::Maglev { size: size.min(TABLE_MOST) },
    };
    Ok(Balance::Hash(by, table))
}

pub(super) fn balance_to_pb(balance: &Balance) -> Option<pb::Balance> {
    use pb::balance::Kind;
    use pb::hash_balance::{By, Table};
    let kind = match balance {
        Balance::LeastRequest => return None,
        Balance::Random => Kind::Random(true),
        Balance::RoundRobin => Kind::RoundRobin(true),
        Balance::Hash(by, table) => {
            let by = match by {
                HashBy::Header(name) => By::Header(name.to_string()),
                HashBy::Cookie { name, path, ttl } => By::Cookie(pb::HashCookie {
                    name: name.to_string(),
                    path: path.to_string(),
                    ttl_ms: ttl.map(ms),
                }),
                HashBy::Query(name) => By::Query(name.to_string()),
                HashBy::SourceIp => By::SourceIp(true),
            };
            let table = match table {
                HashTable::Ring { least } => Table::Ring(*least),
                HashTable::Maglev { size } => Table::Maglev(*size),
            };
            Kind::Hash(pb::HashBalance { by: Some(by), table: Some(table) })
        }
    };
    Some(pb::Balance { kind: Some(kind) })
}

pub(super) fn warmup_from_pb(raw: pb::Warmup) -> Warmup {
    let pb::Warmup { duration_ms, least_percent, aggression } = raw;
    Warmup { duration: after(duration_ms), least_percent, aggression }
}

pub(super) fn warmup_to_pb(warmup: Warmup) -> pb::Warmup {
    let Warmup { duration, least_percent, aggression } = warmup;
    pb::Warmup { duration_ms: ms(duration), least_percent, aggression }
}

pub(super) fn limits_from_pb(raw: pb::Limits) -> Result<Limits, ConvertError> {
    let pb::Limits {
        connections,
        pending,
        requests,
        retries,
        per_connection,
        connect_ms,
        idle_ms,
        still_ms,
        age_ms,
        streams,
        version,
    } = raw;
    Ok(Limits {
        connections,
        pending,
        requests,
        retries,
        per_connection,
        connect: connect_ms.map(after),
        idle: idle_ms.map(after),
        still: still_ms.map(after),
        age: age_ms.map(after),
        streams,
        version: match known("limits.version", version)? {
            pb::HttpVersion::OfPort => Version::OfPort,
            pb::HttpVersion::HttpVersion1 => Version::Http1,
            pb::HttpVersion::HttpVersion2 => Version::Http2,
        },
    })
}

pub(super) fn limits_to_pb(limits: &Limits) -> pb::Limits {
    let Limits {
        connections,
        pending,
        requests,
        retries,
        per_connection,
        connect,
        idle,
        still,
        age,
        streams,
        version,
    } = limits;
    let version = match version {
        Version::OfPort => pb::HttpVersion::OfPort,
        Version::Http1 => pb::HttpVersion::HttpVersion1,
        Version::Http2 => pb::HttpVersion::HttpVersion2,
    };
    pb::Limits {
        connections: *connections,
        pending: *pending,
        requests: *requests,
        retries: *retries,
        per_connection: *per_connection,
        connect_ms: connect.map(ms),
        idle_ms: idle.map(ms),
        still_ms: still.map(ms),
        age_ms: age.map(ms),
        streams: *streams,
        version: version.into(),
    }
}

pub(super) fn outlier_from_pb(raw: pb::Outlier) -> Outlier {
    let pb::Outlier { errors, gateway_errors, split, interval_ms, base_ms, most_percent, panic_percent } =
        raw;
    Outlier {
        errors,
        gateway_errors,
        split,
        interval: after(interval_ms),
        base: after(base_ms),
        most_percent,
        panic_percent,
    }
}

pub(super) fn outlier_to_pb(outlier: &Outlier) -> pb::Outlier {
    let Outlier { errors, gateway_errors, split, interval, base, most_percent, panic_percent } = outlier;
    pb::Outlier {
        errors: *errors,
        gateway_errors: *gateway_errors,
        split: *split,
        interval_ms: ms(*interval),
        base_ms: ms(*base),
        most_percent: *most_percent,
        panic_percent: *panic_percent,
    }
}

pub(super) fn budget_from_pb(raw: pb::RetryBudget) -> RetryBudget {
    let pb::RetryBudget { percent, floor } = raw;
    RetryBudget { percent, floor }
}

pub(super) fn budget_to_pb(budget: RetryBudget) -> pb::RetryBudget {
    let RetryBudget { percent, floor } = budget;
    pb::RetryBudget { percent, floor }
}
