//! A certificate of somebody else's key and name, signed by a key of ours: who believes only in ours believes in the
//! other by it. Owns making one. Who needs one, and for how long, is `rotation`'s.

use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, SubjectPublicKeyInfo,
};
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::cert::Cert;
use super::sign::SKEW;

/// The key and the name of an authority's certificate, signed by another; none where its name is of a form that
/// would come out otherwise, for then it would join nothing.
pub(super) fn signed(
    of: &Cert,
    by: &Issuer<'_, KeyPair>,
    (now, until): (SystemTime, SystemTime),
) -> Option<Cert> {
    let (_, parsed) = X509Certificate::from_der(of.der()).ok()?;
    let key = SubjectPublicKeyInfo::from_der(parsed.public_key().raw).ok()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(parsed.subject())?;
    // What it may not do under its own root, it may not do under ours.
    if parsed.name_constraints().ok()?.is_some() {
        return None;
    }
    params.is_ca = match parsed.basic_constraints().ok()??.value.path_len_constraint {
        None => IsCa::Ca(BasicConstraints::Unconstrained),
        Some(depth) => IsCa::Ca(BasicConstraints::Constrained(depth.try_into().ok()?)),
    };
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    // Some look for issuers by this: leaves name it.
    if let Some(id) = parsed.iter_extensions().find_map(|it| match it.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    }) {
        params.key_identifier_method = KeyIdMethod::PreSpecified(id);
    }
    params.not_before = (now - SKEW).into();
    params.not_after = until.into();
    let made = Cert::from_der(params.signed_by(&key, by).ok()?.der())?;
    made.is_named_as(of).then_some(made)
}

fn name(of: &X509Name<'_>) -> Option<DistinguishedName> {
    let mut name = DistinguishedName::new();
    for part in of.iter_attributes() {
        name.push(DnType::CustomDnType(part.attr_type().iter()?.collect()), value(part.attr_value())?);
    }
    Some(name)
}

/// Its text, in the encoding that it had.
fn value(of: &Any<'_>) -> Option<DnValue> {
    let text = std::str::from_utf8(of.data).ok()?;
    match of.header.tag() {
        Tag::Utf8String => Some(DnValue::Utf8String(text.to_owned())),
        Tag::PrintableString => Some(DnValue::PrintableString(text.try_into().ok()?)),
        Tag::Ia5String => Some(DnValue::Ia5String(text.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_is_kept_as_it_was_written_and_one_that_cannot_be_makes_no_bridge() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let until = now + Duration::from_secs(3600);
        let ours = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
        let texts: [(&str, DnValue, bool); 4] = [
            ("utf8", DnValue::Utf8String("Größe".into()), true),
            ("printable", DnValue::PrintableString("A B".try_into().unwrap()), true),
            ("ia5", DnValue::Ia5String("a@b.example".try_into().unwrap()), true),
            ("bmp", DnValue::BmpString("bmp".try_into().unwrap()), false),
        ];
        for (form, text, works) in texts {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::OrganizationName, text);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let other = Cert::from_der(params.self_signed(&key).unwrap().der()).unwrap();
            let bridge = signed(&other, &ours, (now, until));
            let Some(bridge) = bridge else {
                assert!(!works, "{form}");
                continue;
            };
            assert!(works && bridge.is_named_as(&other) && bridge.is_of(&key), "{form}");
            assert!(bridge.is_authority() && bridge.validity() == (now - SKEW, until), "{form}");
        }
    }
}
