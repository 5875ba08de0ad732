//! The id that an application gave something, where it stands in JSON.

use serde_json::Value;

/// Why there is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is not JSON.
    #[error("it is not JSON")]
    NotJson,
    /// There is no text and no integer at the place.
    #[error("there is no text or integer at the place")]
    NothingThere,
}

/// The text or the integer, as its digits, at a place in JSON, by JSON pointer (RFC 6901): `/data/id`.
///
/// # Errors
/// It is not JSON, or there is none: `true`, `null`, `1.5`, a list and a table are no ids.
pub fn id_in_json(json: &[u8], pointer: &str) -> Result<String, IdError> {
    let value: Value = serde_json::from_slice(json).map_err(|_| IdError::NotJson)?;
    match value.pointer(pointer) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        _ => Err(IdError::NothingThere),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_integers_are_ids_and_nothing_else_is() {
        let json =
            br#"{"id":"a","n":-7,"big":18446744073709551615,"f":1.5,"t":true,"z":null,"o":{"id":[1,"b"]}}"#;
        for (pointer, id) in [("/id", "a"), ("/n", "-7"), ("/big", "18446744073709551615"), ("/o/id/1", "b")]
        {
            assert_eq!(id_in_json(json, pointer), Ok(id.to_owned()), "{pointer}");
        }
        for pointer in ["/f", "/t", "/z", "/o", "/o/id", "/none", "/o/id/2"] {
            assert_eq!(id_in_json(json, pointer), Err(IdError::NothingThere), "{pointer}");
        }
        assert_eq!(id_in_json(b"{", "/id"), Err(IdError::NotJson));
    }
}
