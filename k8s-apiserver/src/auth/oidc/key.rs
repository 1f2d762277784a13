//! [`Key`]: what an issuer's signatures are checked with.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::Jwk};
use p521::ecdsa::{Signature, VerifyingKey, signature::Verifier};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::SigningAlgorithm;

/// How many bytes a coordinate of a point on P-521 has.
const P521_BYTES: usize = 66;

/// What a token says of its signature.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    alg: String,
    pub(super) kid: Option<String>,
    /// What must be understood of it: nothing is.
    crit: Option<Value>,
}

impl Header {
    /// That of a token; nothing if it is none.
    pub(super) fn of(token: &str) -> Option<Self> {
        let (header, _) = token.split_once('.')?;
        let header = URL_SAFE_NO_PAD.decode(header).ok()?;
        let header: Header = serde_json::from_slice(&header).ok()?;
        header.crit.is_none().then_some(header)
    }

    /// How it is signed, if that is one of these.
    pub(super) fn algorithm(
        &self,
        allowed: &[SigningAlgorithm],
    ) -> Result<SigningAlgorithm, String> {
        let found = self.alg.parse().ok();
        found
            .filter(|found| allowed.contains(found))
            .ok_or_else(|| {
                let allowed: Vec<String> =
                    allowed.iter().map(|a| format!("{:?}", a.name())).collect();
                format!(
                    "id token signed with unsupported algorithm, expected [{}] got {:?}",
                    allowed.join(" "),
                    self.alg
                )
            })
    }
}

/// A key of an issuer's.
pub(super) struct Key {
    id: Option<String>,
    public: Public,
}

enum Public {
    /// On P-521, which ring does not have.
    P521(Box<VerifyingKey>),
    Other(Box<DecodingKey>),
}

impl Key {
    /// The keys of a JWK set; those of sorts that nobody here knows are passed over.
    pub(super) fn all(set: &Value) -> Option<Vec<Self>> {
        let keys = set.get("keys")?.as_array()?;
        Some(keys.iter().filter_map(Key::read).collect())
    }

    fn read(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let public = match (text("kty")?, text("crv")) {
            ("EC", Some("P-521")) => {
                // SEC 1: a point that is not compressed.
                let mut point = vec![4];
                for name in ["x", "y"] {
                    let coordinate = URL_SAFE_NO_PAD.decode(text(name)?).ok()?;
                    (coordinate.len() == P521_BYTES).then_some(())?;
                    point.extend(coordinate);
                }
                Public::P521(Box::new(VerifyingKey::from_sec1_bytes(&point).ok()?))
            }
            _ => {
                // What it may be used for is told by the token, and no reason not to understand it.
                let mut jwk = jwk.clone();
                let members = jwk.as_object_mut()?;
                members.retain(|name, _| !matches!(name.as_str(), "alg" | "use" | "key_ops"));
                let jwk: Jwk = serde_json::from_value(jwk).ok()?;
                Public::Other(Box::new(DecodingKey::from_jwk(&jwk).ok()?))
            }
        };
        let id = text("kid").filter(|id| !id.is_empty()).map(str::to_owned);
        Some(Key { id, public })
    }

    /// Whether tokens that name that key may be signed with it.
    pub(super) fn is(&self, id: Option<&str>) -> bool {
        id.is_none_or(|id| id.is_empty() || self.id.as_deref() == Some(id))
    }

    /// The claims of a token, if this key has signed it.
    pub(super) fn claims(
        &self,
        token: &str,
        algorithm: SigningAlgorithm,
    ) -> Option<Map<String, Value>> {
        match (&self.public, algorithm.of_ring()) {
            (Public::Other(key), Some(algorithm)) => ring(token, key, algorithm),
            (Public::P521(key), None) => {
                let (message, signature) = token.rsplit_once('.')?;
                let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
                let signature = Signature::from_slice(&signature).ok()?;
                key.verify(message.as_bytes(), &signature).ok()?;
                let (_, claims) = message.split_once('.')?;
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
            }
            _ => None,
        }
    }
}

fn ring(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Option<Map<String, Value>> {
    // The claims are looked at by who knows the issuer.
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let token = jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation);
    Some(token.ok()?.claims)
}

#[cfg(test)]
mod tests {
    use p521::ecdsa::{SigningKey, signature::Signer};
    use serde_json::json;

    use super::*;

    fn key(seed: u8) -> (SigningKey, Value) {
        let private = SigningKey::from_slice(&[seed; P521_BYTES][..]);
        // The first bytes of a number below the curve's order are small.
        let private = private.unwrap_or_else(|_| {
            let mut bytes = [seed; P521_BYTES];
            bytes[0] = 0;
            SigningKey::from_slice(&bytes).unwrap()
        });
        let point = VerifyingKey::from(&private).to_sec1_point(false);
        let bytes = point.as_bytes();
        let coordinate = |at: usize| URL_SAFE_NO_PAD.encode(&bytes[at..at + P521_BYTES]);
        let jwk = json!({"kty": "EC", "crv": "P-521", "alg": "ES512", "use": "sig", "kid": format!("k{seed}"),
            "x": coordinate(1), "y": coordinate(1 + P521_BYTES)});
        (private, jwk)
    }

    fn token(key: &SigningKey, header: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(&json!({"sub": "jane"})));
        let signature: Signature = key.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    #[test]
    fn what_is_signed_on_p521_is_taken_from_who_has_the_key() {
        let (mine, jwk) = key(1);
        let (others, _) = key(2);
        let keys = Key::all(&json!({"keys": [jwk]})).unwrap();
        let header = json!({"alg": "ES512", "kid": "k1"});
        let good = token(&mine, &header);
        let claims = keys[0].claims(&good, SigningAlgorithm::Es512).unwrap();
        assert_eq!(claims["sub"], "jane");
        let forged = token(&others, &header);
        assert!(keys[0].claims(&forged, SigningAlgorithm::Es512).is_none());
        // A key is for one sort of signatures.
        assert!(keys[0].claims(&good, SigningAlgorithm::Es256).is_none());
        let (body, signature) = good.rsplit_once('.').unwrap();
        for bad in [
            format!("{body}.{}", &signature[..8]),
            format!("{body}."),
            format!("x.{good}"),
        ] {
            assert!(keys[0].claims(&bad, SigningAlgorithm::Es512).is_none());
        }
    }

    #[test]
    fn keys_that_nobody_knows_are_passed_over() {
        let (_, jwk) = key(1);
        let mut short = jwk.clone();
        short["x"] = "AAAA".into();
        let unknown = json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"});
        let set = json!({"keys": [unknown, short, 1, jwk]});
        let keys = Key::all(&set).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(keys[0].is(Some("k1")) && keys[0].is(None) && !keys[0].is(Some("k2")));
        assert!(Key::all(&json!({"keys": 1})).is_none());
    }

    #[test]
    fn a_token_is_signed_as_is_allowed_and_demands_nothing_more() {
        let (mine, _) = key(1);
        let allowed = [SigningAlgorithm::Rs256, SigningAlgorithm::Es512];
        let header = |header: Value| Header::of(&token(&mine, &header));
        let good = header(json!({"alg": "ES512"})).unwrap();
        assert_eq!(good.algorithm(&allowed), Ok(SigningAlgorithm::Es512));
        let none = header(json!({"alg": "none"})).unwrap();
        assert_eq!(
            none.algorithm(&allowed).unwrap_err(),
            "id token signed with unsupported algorithm, expected [\"RS256\" \"ES512\"] got \"none\""
        );
        assert!(header(json!({"alg": "ES512", "crit": ["b64"], "b64": false})).is_none());
    }
}
