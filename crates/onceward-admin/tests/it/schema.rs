//! As much of JSON Schema as the document uses for answers.

use serde_json::Value;

/// What is wrong with `value` by `schema`, whose references are those of `document`.
pub(crate) fn mismatch(document: &Value, schema: &Value, value: &Value) -> Option<String> {
    let fits = |schema: &Value| mismatch(document, schema, value).is_none();
    for (rule, wanted) in schema.as_object().expect("a schema is an object") {
        let good = match rule.as_str() {
            "$ref" => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                let schema = document.pointer(pointer).unwrap_or_else(|| panic!("{wanted} leads nowhere"));
                if let Some(what) = mismatch(document, schema, value) {
                    return Some(what);
                }
                true
            }
            "allOf" => wanted.as_array().unwrap().iter().all(fits),
            "oneOf" => wanted.as_array().unwrap().iter().filter(|it| fits(it)).count() == 1,
            "type" => match wanted {
                Value::Array(any) => any.iter().any(|it| is(it.as_str().unwrap(), value)),
                one => is(one.as_str().unwrap(), value),
            },
            "enum" => wanted.as_array().unwrap().contains(value),
            "const" => wanted == value,
            "minimum" => value.as_f64().is_none_or(|it| it >= wanted.as_f64().unwrap()),
            "pattern" => value.as_str().is_none_or(|it| matches(wanted.as_str().unwrap(), it)),
            "format" => {
                assert_eq!(wanted, "date-time");
                value.as_str().is_none_or(|it| humantime::parse_rfc3339(it).is_ok())
            }
            "required" => {
                wanted.as_array().unwrap().iter().all(|it| value.get(it.as_str().unwrap()).is_some())
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    let inner = value.get(name).and_then(|it| mismatch(document, schema, it));
                    if let Some(what) = inner {
                        return Some(format!("{name}: {what}"));
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(wanted, false);
                let known = schema["properties"].as_object().unwrap();
                value.as_object().is_none_or(|it| it.keys().all(|name| known.contains_key(name)))
            }
            "items" => {
                let items = value.as_array().into_iter().flatten();
                if let Some(what) = items.filter_map(|it| mismatch(document, wanted, it)).next() {
                    return Some(format!("an item: {what}"));
                }
                true
            }
            "description" => true,
            other => panic!("the test does not know the rule `{other}`"),
        };
        if !good {
            return Some(format!("`{rule}` is {wanted}, not kept by {value}"));
        }
    }
    None
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("there is no type `{other}`"),
    }
}

/// The few patterns that answers are held to.
fn matches(pattern: &str, text: &str) -> bool {
    let hex = |count: usize| text.len() == count && text.bytes().all(|it| it.is_ascii_hexdigit());
    match pattern {
        "^[0-9]+$" => !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()),
        "^[0-9a-fA-F]{64}$" => hex(64),
        "^([0-9a-fA-F]{32}|anonymous)$" => text == "anonymous" || hex(32),
        other => panic!("the test does not know the pattern `{other}`"),
    }
}
