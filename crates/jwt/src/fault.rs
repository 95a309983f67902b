//! Why a token is not believed (`waypoint.md` 4.4). Owns the words that clients are told and the word in records.

/// A part of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// How it is signed.
    Header,
    /// What it claims.
    Payload,
    /// The signature.
    Signature,
}

/// Why a token is not believed. Its text is what the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It has not three parts.
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Form,
    /// It is longer than any that is looked at.
    #[error("Jwt is too long")]
    TooLong,
    /// A part is no text of this alphabet.
    #[error("Jwt {} is an invalid Base64url encoded", .0.word())]
    Encoding(Part),
    /// A part is no JSON object, or says something twice.
    #[error("Jwt {} is an invalid JSON", .0.word())]
    Json(Part),
    /// It is signed in no way that is known, or not at all.
    #[error("Jwt header [alg] is not supported")]
    Algorithm,
    /// Its header demands something that is not understood (RFC 7515, 4.1.11).
    #[error("Jwt header [crit] is not supported")]
    Critical,
    /// One of its times is none.
    #[error("Jwt payload holds a time that is none")]
    Time,
    /// It is over.
    #[error("Jwt is expired")]
    Expired,
    /// It is for later.
    #[error("Jwt not yet valid")]
    Early,
    /// Nobody here believes its issuer.
    #[error("Jwt issuer is not configured")]
    Issuer,
    /// It is for somebody else.
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    /// The issuer's keys are not known.
    #[error("Jwks remote fetch is failed")]
    NoKeys,
    /// None of the issuer's keys fits it.
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    /// The issuer did not sign it.
    #[error("Jwt verification fails")]
    Signature,
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        }
    }
}

impl Fault {
    /// The same in one word, for records.
    #[must_use]
    pub fn details(self) -> &'static str {
        match self {
            Self::Form => {
                "jwt_authn_access_denied{Jwt_is_not_in_the_form_of_Header.Payload.Signature_with_two_dots_and_3_sections}"
            }
            Self::TooLong => "jwt_authn_access_denied{Jwt_is_too_long}",
            Self::Encoding(Part::Header) => {
                "jwt_authn_access_denied{Jwt_header_is_an_invalid_Base64url_encoded}"
            }
            Self::Encoding(Part::Payload) => {
                "jwt_authn_access_denied{Jwt_payload_is_an_invalid_Base64url_encoded}"
            }
            Self::Encoding(Part::Signature) => {
                "jwt_authn_access_denied{Jwt_signature_is_an_invalid_Base64url_encoded}"
            }
            Self::Json(Part::Header) => "jwt_authn_access_denied{Jwt_header_is_an_invalid_JSON}",
            Self::Json(Part::Payload) => "jwt_authn_access_denied{Jwt_payload_is_an_invalid_JSON}",
            Self::Json(Part::Signature) => "jwt_authn_access_denied{Jwt_signature_is_an_invalid_JSON}",
            Self::Algorithm => "jwt_authn_access_denied{Jwt_header_[alg]_is_not_supported}",
            Self::Critical => "jwt_authn_access_denied{Jwt_header_[crit]_is_not_supported}",
            Self::Time => "jwt_authn_access_denied{Jwt_payload_holds_a_time_that_is_none}",
            Self::Expired => "jwt_authn_access_denied{Jwt_is_expired}",
            Self::Early => "jwt_authn_access_denied{Jwt_not_yet_valid}",
            Self::Issuer => "jwt_authn_access_denied{Jwt_issuer_is_not_configured}",
            Self::Audience => "jwt_authn_access_denied{Audiences_in_Jwt_are_not_allowed}",
            Self::NoKeys => "jwt_authn_access_denied{Jwks_remote_fetch_is_failed}",
            Self::NoKey => "jwt_authn_access_denied{Jwks_doesn't_have_key_to_match_kid_or_alg_from_Jwt}",
            Self::Signature => "jwt_authn_access_denied{Jwt_verification_fails}",
        }
    }

    /// Whether it is a token like any other, but for somebody else: the client is known, and may not.
    #[must_use]
    pub fn is_forbidden(self) -> bool {
        self == Self::Audience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_in_records_is_what_the_client_is_told() {
        use Part::{Header, Payload, Signature};
        let parts = [Header, Payload, Signature].into_iter();
        let of_parts = parts.flat_map(|part| [Fault::Encoding(part), Fault::Json(part)]);
        let others = [
            Fault::Form,
            Fault::TooLong,
            Fault::Algorithm,
            Fault::Critical,
            Fault::Time,
            Fault::Expired,
            Fault::Early,
            Fault::Issuer,
            Fault::Audience,
            Fault::NoKeys,
            Fault::NoKey,
            Fault::Signature,
        ];
        for fault in of_parts.chain(others) {
            let wanted = format!("jwt_authn_access_denied{{{}}}", fault.to_string().replace(' ', "_"));
            assert_eq!(fault.details(), wanted);
        }
    }
}
