//! `requestState`: what a call has reached, in the hands of its client, which must not change it.

use anyhow::{Result, anyhow};
use aws_lc_rs::{hmac, rand::SystemRandom};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rmcp::ErrorData;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Seals with a key that lives as long as the process.
#[derive(Debug)]
pub(crate) struct Seal(hmac::Key);

/// What is sealed: the state, and the one tool or prompt that it is for.
#[derive(Serialize, Deserialize)]
struct Sealed {
    of: String,
    state: Value,
}

impl Seal {
    pub(crate) fn new() -> Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Self(key.map_err(|_| anyhow!("the system gives no random numbers"))?))
    }

    pub(crate) fn close(&self, of: &str, state: Value) -> Result<String, ErrorData> {
        let sealed = serde_json::to_vec(&Sealed { of: of.to_owned(), state })
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let tag = hmac::sign(&self.0, &sealed);
        Ok(format!("{}.{}", URL_SAFE_NO_PAD.encode(&sealed), URL_SAFE_NO_PAD.encode(tag)))
    }

    pub(crate) fn open(&self, of: &str, text: &str) -> Result<Value, ErrorData> {
        self.verified(text).filter(|sealed| sealed.of == of).map(|sealed| sealed.state).ok_or_else(
            || {
                ErrorData::invalid_params(
                    "requestState is not what this server sent: start the call anew",
                    None,
                )
            },
        )
    }

    fn verified(&self, text: &str) -> Option<Sealed> {
        let (sealed, tag) = text.split_once('.')?;
        let (sealed, tag) =
            (URL_SAFE_NO_PAD.decode(sealed).ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?);
        hmac::verify(&self.0, &sealed, &tag).ok()?;
        serde_json::from_slice(&sealed).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn state_opens_only_as_it_was_closed_and_only_for_its_tool() {
        let (seal, other) = (Seal::new().unwrap(), Seal::new().unwrap());
        let text = seal.close("a", json!({ "round": 1 })).unwrap();

        assert_eq!(seal.open("a", &text).unwrap(), json!({ "round": 1 }));
        assert!(seal.open("b", &text).is_err(), "another tool");
        assert!(other.open("a", &text).is_err(), "another key");
        for tampered in
            [format!("{text}-TAMPERED"), format!("e{text}"), String::new(), ".".to_owned()]
        {
            assert!(seal.open("a", &tampered).is_err(), "{tampered}");
        }
    }
}
