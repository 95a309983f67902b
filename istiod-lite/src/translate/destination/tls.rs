//! What a rule says of TLS to endpoints, to how waypoints begin it (`waypoint.md` 1.14, 4.5): pure. What names files cannot be
//! honoured, since nobody but who mounts them reads them: nothing is sent then. Secrets are `credential`'s.

use std::borrow::Cow;

use ambit_cluster::kinds::destination_rule::{ClientTls, TlsMode};
use ambit_model::name::Label;
use ambit_model::traffic::{Origination, Roots, SubjectName, is_host};

use super::credential::{Found, Within, find};

/// The word for the machine's own roots, where a file could be named.
const SYSTEM: &str = "system";
/// Names that are carried; more are of no use to anybody.
const NAMES: usize = 64;

/// How TLS is begun; nothing where it is not, or why it cannot be.
pub(super) fn origination(
    given: Option<&ClientTls>,
    within: Option<Within<'_>>,
) -> Result<Option<Origination>, Cow<'static, str>> {
    let Some(tls) = given else { return Ok(None) };
    // In tunnels both ends are proven anyway.
    if matches!(tls.mode, TlsMode::Disable | TlsMode::IstioMutual) {
        return Ok(None);
    }
    let is_unchecked = tls.insecure_skip_verify == Some(true);
    let secret = secret(tls, within)?;
    if !is_unchecked {
        vouching(tls)?;
    }
    if !tls.sni.is_empty() && !is_host(&tls.sni) {
        return Err("tls.sni: not a host's name".into());
    }
    if tls.subject_alt_names.len() > NAMES {
        return Err("tls.subjectAltNames: more than 64".into());
    }
    let roots = match &secret {
        _ if is_unchecked => Roots::Unchecked,
        Some(Found { name, vouches: true, .. }) => Roots::Credential(name.clone()),
        _ => Roots::System,
    };
    Ok(Some(Origination {
        server: Some(tls.sni.as_str()).filter(|it| !it.is_empty()).map(Label::from),
        names: tls.subject_alt_names.iter().map(|it| SubjectName::Any(it.as_str().into())).collect(),
        roots,
        shown: secret.filter(|_| tls.mode == TlsMode::Mutual).map(|it| it.name),
    }))
}

/// The secret that is named; with MUTUAL there has to be one.
fn secret(tls: &ClientTls, within: Option<Within<'_>>) -> Result<Option<Found>, Cow<'static, str>> {
    let is_mutual = tls.mode == TlsMode::Mutual;
    for (field, file) in [("clientCertificate", &tls.client_certificate), ("privateKey", &tls.private_key)] {
        if is_mutual && !file.is_empty() {
            return Err(format!(
                "tls.{field}: waypoints have no such file; put it into a secret of their namespace and name that with credentialName"
            )
            .into());
        }
    }
    let name = tls.credential_name.as_str();
    if name.is_empty() {
        let why = "tls.mode MUTUAL: name a secret of the waypoint's namespace with credentialName";
        return if is_mutual { Err(why.into()) } else { Ok(None) };
    }
    let nobody = "tls.credentialName: there is no waypoint in whose namespace it would be";
    let found = find(within.ok_or(nobody)?, name)?;
    if is_mutual && !found.shows {
        return Err("tls.credentialName: the secret has no tls.crt and tls.key to show".into());
    }
    if !is_mutual && !found.vouches && tls.insecure_skip_verify != Some(true) {
        return Err("tls.credentialName: the secret has no ca.crt of those who vouch".into());
    }
    Ok(Some(found))
}

fn vouching(tls: &ClientTls) -> Result<(), Cow<'static, str>> {
    if !matches!(tls.ca_certificates.as_str(), "" | SYSTEM) {
        return Err(
            "tls.caCertificates: waypoints have no such file; put it into a secret and name that with credentialName, or leave it out to believe whom the waypoint's image believes".into(),
        );
    }
    if !tls.ca_crl.is_empty() {
        return Err("tls.caCrl: waypoints have no such file".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_is_begun_and_what_names_files_or_secrets_is_refused() {
        let simple = || ClientTls { mode: TlsMode::Simple, ..ClientTls::default() };
        let plain = Origination { server: None, names: Vec::new(), roots: Roots::System, shown: None };
        for (tls, wanted) in [
            (ClientTls::default(), Ok(None)),
            (ClientTls { mode: TlsMode::IstioMutual, ..simple() }, Ok(None)),
            (simple(), Ok(Some(plain.clone()))),
            (ClientTls { ca_certificates: "system".into(), ..simple() }, Ok(Some(plain.clone()))),
            (
                ClientTls {
                    sni: "a.example".into(),
                    subject_alt_names: vec!["b.example".into()],
                    ..simple()
                },
                Ok(Some(Origination {
                    server: Some("a.example".into()),
                    names: vec![SubjectName::Any("b.example".into())],
                    roots: Roots::System,
                    shown: None,
                })),
            ),
            (
                ClientTls { insecure_skip_verify: Some(true), ca_certificates: "/a".into(), ..simple() },
                Ok(Some(Origination { roots: Roots::Unchecked, ..plain.clone() })),
            ),
            (ClientTls { insecure_skip_verify: Some(false), ..simple() }, Ok(Some(plain))),
            (ClientTls { mode: TlsMode::Mutual, ..simple() }, Err("tls.mode MUTUAL")),
            (ClientTls { credential_name: "c".into(), ..simple() }, Err("tls.credentialName")),
            (ClientTls { ca_certificates: "/etc/a.pem".into(), ..simple() }, Err("tls.caCertificates")),
            (ClientTls { ca_crl: "/etc/a.crl".into(), ..simple() }, Err("tls.caCrl")),
            (ClientTls { sni: "a b".into(), ..simple() }, Err("tls.sni")),
            (ClientTls { subject_alt_names: vec!["a".into(); 65], ..simple() }, Err("tls.subjectAltNames")),
        ] {
            let found = origination(Some(&tls), None);
            let found = found.as_ref().map_err(|why| why.split(':').next().unwrap_or_default());
            assert_eq!(found, wanted.as_ref().map_err(|it| *it), "{tls:?}");
        }
        assert_eq!(origination(None, None), Ok(None));
    }
}
