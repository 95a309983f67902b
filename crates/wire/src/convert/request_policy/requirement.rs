//! A demand on one attribute.

use ambit_model::policy::{Condition, TextMatch};
use ambit_model::request_policy::{AddressOf, Requirement, TextOf, text_match, written};

use super::values::{account, account_to_pb, range, values, values_to_pb};
use crate::convert::route::header_name;
use crate::convert::{ConvertError, known};
use crate::pb::waypoint as pb;
use crate::pb::waypoint::PolicyAttribute as Attribute;
use crate::pb::waypoint::policy_requirement::Of;

pub(super) fn requirement_from_pb(raw: pb::PolicyRequirement) -> Result<Requirement, ConvertError> {
    let pb::PolicyRequirement { of, values: demanded } = raw;
    let text = |of, demanded| -> Result<Requirement, ConvertError> {
        Ok(Requirement::Text { of, values: values(demanded, |text| Ok(text_match(text)))? })
    };
    match of.ok_or(ConvertError::NoAlternative { field: "when.of" })? {
        Of::Header(name) => text(TextOf::Header(header_name("when.header", &name)?), demanded),
        Of::Claim(pb::PolicyClaim { path }) => {
            text(TextOf::Claim(path.into_iter().map(Into::into).collect()), demanded)
        }
        Of::Unknown(key) => Ok(Requirement::Unknown(key.into())),
        Of::Attribute(raw) => match known("when.attribute", raw)? {
            Attribute::SourcePrincipal => text(TextOf::Principal, demanded),
            Attribute::SourceTrustDomain => text(TextOf::TrustDomain, demanded),
            Attribute::Audiences => text(TextOf::Audiences, demanded),
            Attribute::Presenter => text(TextOf::Presenter, demanded),
            Attribute::Sni => text(TextOf::Sni, demanded),
            other => named(other, raw, demanded),
        },
    }
}

/// Those that are no texts.
fn named(attribute: Attribute, raw: i32, demanded: Option<pb::Values>) -> Result<Requirement, ConvertError> {
    let address = |of| -> Result<Requirement, ConvertError> {
        Ok(Requirement::Address { of, values: values(demanded.clone(), range)? })
    };
    Ok(match attribute {
        Attribute::SourceIp => address(AddressOf::Source)?,
        Attribute::RemoteIp => address(AddressOf::Remote)?,
        Attribute::DestinationIp => address(AddressOf::Destination)?,
        Attribute::DestinationPort => Requirement::Port(values(demanded, port)?),
        Attribute::SourceNamespace => Requirement::Namespace(values(demanded, |text| Ok(text.into()))?),
        Attribute::SourceServiceAccount => Requirement::ServiceAccount(values(demanded, account)?),
        Attribute::RequestPrincipal => {
            Requirement::RequestPrincipal(values(demanded, |text| Ok(text.into()))?)
        }
        _ => return Err(ConvertError::UnknownValue { field: "when.attribute", value: raw }),
    })
}

fn port(text: &str) -> Result<u16, ConvertError> {
    let refused = |_| ConvertError::Value { field: "when.values", value: text.into(), wanted: "a port" };
    text.parse().map_err(refused)
}

pub(super) fn requirement_to_pb(requirement: &Requirement) -> pb::PolicyRequirement {
    let attribute = |attribute: Attribute, values| (Of::Attribute(attribute.into()), values);
    let (of, values) = match requirement {
        Requirement::Text { of, values } => (text_of(of), values_to_pb(values, written)),
        Requirement::Address { of, values } => {
            let of = match of {
                AddressOf::Source => Attribute::SourceIp,
                AddressOf::Remote => Attribute::RemoteIp,
                AddressOf::Destination => Attribute::DestinationIp,
            };
            attribute(of, values_to_pb(values, ToString::to_string))
        }
        Requirement::Namespace(values) => {
            attribute(Attribute::SourceNamespace, values_to_pb(values, ToString::to_string))
        }
        Requirement::ServiceAccount(values) => {
            attribute(Attribute::SourceServiceAccount, values_to_pb(values, account_to_pb))
        }
        Requirement::RequestPrincipal(values) => {
            attribute(Attribute::RequestPrincipal, values_to_pb(values, ToString::to_string))
        }
        Requirement::Port(values) => {
            attribute(Attribute::DestinationPort, values_to_pb(values, ToString::to_string))
        }
        Requirement::Unknown(key) => {
            (Of::Unknown(key.to_string()), values_to_pb(&Condition::<TextMatch>::default(), written))
        }
    };
    pb::PolicyRequirement { of: Some(of), values }
}

fn text_of(of: &TextOf) -> Of {
    let attribute = match of {
        TextOf::Header(name) => return Of::Header(name.to_string()),
        TextOf::Claim(path) => {
            return Of::Claim(pb::PolicyClaim { path: path.iter().map(ToString::to_string).collect() });
        }
        TextOf::Principal => Attribute::SourcePrincipal,
        TextOf::TrustDomain => Attribute::SourceTrustDomain,
        TextOf::Audiences => Attribute::Audiences,
        TextOf::Presenter => Attribute::Presenter,
        TextOf::Sni => Attribute::Sni,
    };
    Of::Attribute(attribute.into())
}
