//! Istio's authentication of requests by tokens, with its field names. Unknown fields are refused: a rule that is read
//! without its audiences would believe more than was asked for.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::fault::Wrong;
use crate::kinds::meta::Meta;
use crate::kinds::policy::{PolicyStatus, PolicyTarget, Selector};

/// Whose tokens are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RequestAuthentication {
    /// Metadata.
    pub metadata: Meta,
    /// What was asked for.
    pub spec: TokenSpec,
    /// What became of it.
    pub status: PolicyStatus,
}

/// What is read of an authentication of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TokenSpec {
    /// Which workloads; none: all of the namespace. Only sidecars go by it.
    pub selector: Option<Selector>,
    /// One object that enforces it.
    pub target_ref: Option<PolicyTarget>,
    /// Objects that enforce it.
    #[schemars(length(max = 16))]
    pub target_refs: Vec<PolicyTarget>,
    /// Issuers that are believed.
    #[schemars(length(max = 64))]
    pub jwt_rules: Vec<JwtRule>,
}

impl TokenSpec {
    /// The objects it is attached to, if it is attached by reference.
    pub fn targets(&self) -> impl Iterator<Item = &PolicyTarget> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

/// An issuer that is believed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["issuer"]))]
pub struct JwtRule {
    /// What its tokens call it.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// Of which a token must be for one. None: for anybody.
    pub audiences: Vec<String>,
    /// Where its keys are.
    #[serde(alias = "jwks_uri")]
    #[schemars(length(max = 2048))]
    pub jwks_uri: String,
    /// Its keys.
    pub jwks: String,
    /// Headers in which its tokens are looked for.
    pub from_headers: Vec<JwtHeader>,
    /// Parameters in the query in which they are looked for.
    pub from_params: Vec<String>,
    /// Cookies in which they are looked for.
    pub from_cookies: Vec<String>,
    /// The header that the claims go on in.
    pub output_payload_to_header: String,
    /// Whether the token goes on with the request.
    pub forward_original_token: bool,
    /// Headers that single claims go on in.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// How long its keys are waited for.
    pub timeout: String,
    /// Claims that are words in a row.
    pub space_delimited_claims: Vec<String>,
}

/// A header in which tokens are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub struct JwtHeader {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// What comes before the token.
    pub prefix: String,
}

/// A claim in a header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["header", "claim"]))]
pub struct ClaimToHeader {
    /// The header.
    #[schemars(length(min = 1))]
    pub header: String,
    /// The claim, with dots between names.
    #[schemars(length(min = 1))]
    pub claim: String,
}

impl RequestAuthentication {
    /// Without an issuer it is not known whose tokens a rule is about.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        for (at, rule) in self.spec.jwt_rules.iter().enumerate() {
            let field = format!("spec.jwtRules[{at}]");
            if rule.issuer.is_empty() {
                return Err(Wrong::field(
                    format!("{field}.issuer"),
                    "",
                    "missing",
                    "name the issuer as tokens do",
                ));
            }
            if !rule.jwks.is_empty() && !rule.jwks_uri.is_empty() {
                let remedy = "give the keys in jwks, or where they are in jwksUri";
                return Err(Wrong::field(format!("{field}.jwks"), "", "given together with jwksUri", remedy));
            }
        }
        Ok(())
    }
}
