//! Certificates as peers show them and as files hold them: somebody's, or refused.
//! Input: a letter for what it is. `d`: one certificate. `p`: chain, key and roots as PEM, a byte 0 between them.
//! `m`: a leaf, its key and a root as DER, the first two after their length as two bytes.
#![no_main]

use ambit_tls::credential::{Credential, Material, Terms};
use ambit_tls::peer::of_leaf;
use libfuzzer_sys::fuzz_target;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

fn peer(der: &[u8]) {
    if let Ok(identity) = of_leaf(&CertificateDer::from(der)) {
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }
}

fn files(data: &[u8]) -> Option<Material> {
    let mut parts = data.split(|byte| *byte == 0);
    let (chain, key, roots) = (parts.next()?, parts.next()?, parts.next()?);
    Material::from_pem(chain, key, roots).ok()
}

fn decoded(data: &[u8]) -> Option<Material> {
    let (leaf, rest) = counted(data)?;
    let (key, root) = counted(rest)?;
    Some(Material {
        chain: vec![CertificateDer::from(leaf.to_vec())],
        key: PrivatePkcs8KeyDer::from(key.to_vec()).into(),
        roots: vec![CertificateDer::from(root.to_vec())],
    })
}

fn counted(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = data.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*size).into())
}

fuzz_target!(|data: &[u8]| {
    let Some((letter, rest)) = data.split_first() else { return };
    let material = match letter {
        b'd' => return peer(rest),
        b'p' => files(rest),
        _ => decoded(rest),
    };
    let Some(material) = material else { return };
    let leaf = material.chain[0].clone();
    let Ok(credential) = Credential::new(material, &Terms::default()) else { return };
    // Ours as peers see it.
    assert_eq!(of_leaf(&leaf).as_ref(), Ok(credential.identity()));
    assert_eq!(credential.chain().first().map(|it| &it.der), Some(&leaf));
});
