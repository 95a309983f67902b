//! What a rule says of TLS to endpoints, to how waypoints begin it (`waypoint.md` 1.14, 4.5): pure. What names files or
//! secrets cannot be honoured, since nobody but who mounts them reads them: nothing is sent then.

use ambit_cluster::kinds::destination_rule::{ClientTls, TlsMode};
use ambit_model::name::Label;
use ambit_model::traffic::{Origination, Roots, SubjectName, is_host};

/// The word for the machine's own roots, where a file could be named.
const SYSTEM: &str = "system";
/// Names that are carried; more are of no use to anybody.
const NAMES: usize = 64;

/// How TLS is begun; nothing where it is not, or why it cannot be.
pub(super) fn origination(given: Option<&ClientTls>) -> Result<Option<Origination>, &'static str> {
    let Some(tls) = given else { return Ok(None) };
    match tls.mode {
        // In tunnels both ends are proven anyway.
        TlsMode::Disable | TlsMode::IstioMutual => return Ok(None),
        TlsMode::Mutual => {
            return Err("tls.mode MUTUAL: waypoints have no certificate to show outside of the mesh");
        }
        TlsMode::Simple => {}
    }
    let is_unchecked = tls.insecure_skip_verify == Some(true);
    if !is_unchecked {
        vouching(tls)?;
    }
    if !tls.sni.is_empty() && !is_host(&tls.sni) {
        return Err("tls.sni: not a host's name");
    }
    if tls.subject_alt_names.len() > NAMES {
        return Err("tls.subjectAltNames: more than 64");
    }
    Ok(Some(Origination {
        server: Some(tls.sni.as_str()).filter(|it| !it.is_empty()).map(Label::from),
        names: tls.subject_alt_names.iter().map(|it| SubjectName::Any(it.as_str().into())).collect(),
        roots: if is_unchecked { Roots::Unchecked } else { Roots::System },
    }))
}

fn vouching(tls: &ClientTls) -> Result<(), &'static str> {
    if !tls.credential_name.is_empty() {
        return Err(
            "tls.credentialName: secrets are not read; leave it out to believe whom the waypoint's image believes",
        );
    }
    if !matches!(tls.ca_certificates.as_str(), "" | SYSTEM) {
        return Err(
            "tls.caCertificates: waypoints have no such file; leave it out to believe whom the waypoint's image believes",
        );
    }
    if !tls.ca_crl.is_empty() {
        return Err("tls.caCrl: waypoints have no such file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_is_begun_and_what_names_files_or_secrets_is_refused() {
        let simple = || ClientTls { mode: TlsMode::Simple, ..ClientTls::default() };
        let plain = Origination { server: None, names: Vec::new(), roots: Roots::System };
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
            let found = origination(Some(&tls)).map_err(|why| why.split(':').next().unwrap_or_default());
            assert_eq!(found, wanted, "{tls:?}");
        }
        assert_eq!(origination(None), Ok(None));
    }
}
