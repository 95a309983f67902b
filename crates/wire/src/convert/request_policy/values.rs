//! Accepted and refused values.

use std::net::IpAddr;

use ambit_model::policy::{AccountMatch, Condition};
use ipnet::IpNet;

use crate::convert::{ConvertError, check_count, name, port};
use crate::limits;
use crate::pb::waypoint as pb;

pub(super) fn values<T>(
    raw: Option<pb::Values>,
    read: impl Fn(&str) -> Result<T, ConvertError>,
) -> Result<Condition<T>, ConvertError> {
    let pb::Values { any, none } = raw.unwrap_or_default();
    check_count("values", limits::POLICY_LIST, any.len().max(none.len()))?;
    let read = |texts: Vec<String>| texts.iter().map(|text| read(text)).collect::<Result<_, _>>();
    Ok(Condition { any: read(any)?, none: read(none)? })
}

pub(super) fn ports(raw: Option<pb::Ports>) -> Result<Condition<u16>, ConvertError> {
    let pb::Ports { any, none } = raw.unwrap_or_default();
    let read = |all: Vec<u32>| all.into_iter().map(|it| port("ports", it)).collect::<Result<_, _>>();
    Ok(Condition { any: read(any)?, none: read(none)? })
}

/// A range of addresses, or one of them.
pub(super) fn range(text: &str) -> Result<IpNet, ConvertError> {
    let refused =
        || ConvertError::Value { field: "ip_blocks", value: text.into(), wanted: "a range of addresses" };
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().or_else(one).ok_or_else(refused)
}

/// `<namespace>/<name>`.
pub(super) fn account(text: &str) -> Result<AccountMatch, ConvertError> {
    const FIELD: &str = "service_accounts";
    let refused =
        || ConvertError::Value { field: FIELD, value: text.into(), wanted: "<namespace>/<service account>" };
    let (namespace, account) = text.split_once('/').ok_or_else(refused)?;
    Ok(AccountMatch { namespace: name(FIELD, namespace)?, service_account: name(FIELD, account)? })
}

pub(super) fn values_to_pb<T>(of: &Condition<T>, write: impl Fn(&T) -> String) -> Option<pb::Values> {
    let Condition { any, none } = of;
    let write = |list: &[T]| list.iter().map(&write).collect();
    (!of.is_empty()).then(|| pb::Values { any: write(any), none: write(none) })
}

pub(super) fn ports_to_pb(of: &Condition<u16>) -> Option<pb::Ports> {
    let Condition { any, none } = of;
    let write = |list: &[u16]| list.iter().copied().map(u32::from).collect();
    (!of.is_empty()).then(|| pb::Ports { any: write(any), none: write(none) })
}

pub(super) fn account_to_pb(account: &AccountMatch) -> String {
    let AccountMatch { namespace, service_account } = account;
    format!("{namespace}/{service_account}")
}
