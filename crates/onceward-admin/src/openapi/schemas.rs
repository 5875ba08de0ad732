//! The shapes of what is sent and answered.

use onceward_core::Status;
use serde_json::{Map, Value, json};

use crate::answer;
use crate::params::{self, REVISION_PATTERN};

/// A reference to the schema of this name.
pub(crate) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Why a live lease is overruled.
pub(crate) fn reason() -> Value {
    json!({ "type": "string", "maxLength": params::REASON_CHARS_MAX, "pattern": params::REASON_PATTERN })
}

/// The same where it may be null.
fn perhaps_reason() -> Value {
    let mut reason = reason();
    reason["type"] = json!(["string", "null"]);
    reason
}

/// All schemas by name.
pub(crate) fn all() -> Value {
    let mut all = looked_at();
    all.append(&mut sent());
    all.append(&mut found());
    all.into()
}

/// Records and what lists them.
fn looked_at() -> Map<String, Value> {
    let states = Status::ALL.map(Status::as_str);
    let text = json!({ "type": "string" });
    let number = json!({ "type": "string", "pattern": "^[0-9]+$" });
    let time = json!({ "type": ["string", "null"], "format": "date-time" });
    let seconds = json!({ "type": ["number", "null"], "minimum": 0 });
    let length = json!({ "type": "number", "minimum": 0 });
    map(json!({
        "State": { "type": "string", "enum": states },
        "RecordId": { "type": "string", "pattern": "^[0-9a-fA-F]{64}$" },
        "Principal": {
            "type": "string", "pattern": "^([0-9a-fA-F]{32}|anonymous)$",
            "description": "A hash of the caller's identity.",
        },
        "Revision": {
            "type": "string", "pattern": REVISION_PATTERN,
            "description": "Which change a record last saw. A string: JavaScript would round it.",
        },
        "Record": object(json!({
            "id": reference("RecordId"),
            "state": reference("State"),
            "principal": reference("Principal"),
            "method": text, "host": text, "path": text, "key": text,
            "attempt": { "type": "integer", "minimum": 0 },
            "fence": number,
            "revision": number,
            "created": time, "updated": time,
            "lease_until": time, "lease_remaining_seconds": seconds,
            "run_until": time,
            "answer_until": time, "answer_remaining_seconds": seconds,
            "gone_until": time, "gone_remaining_seconds": seconds,
            "policy": reference("Policy"),
            "answer": { "oneOf": [{ "type": "null" }, object(json!({
                "kind": text,
                "bytes": { "type": "integer", "minimum": 0 },
            }))] },
            "reason": { "type": ["string", "null"] },
        })),
        "Policy": object(json!({
            "lease_seconds": length, "run_max_seconds": length,
            "retention_seconds": length, "tombstone_seconds": length,
            "unresolved": { "type": "string", "enum": ["hold", "rerun"] },
        })),
        "RecordPage": object(json!({
            "records": { "type": "array", "items": reference("Record") },
            "next": {
                "oneOf": [{ "type": "null" }, reference("RecordId")],
                "description": "The `cursor` of the next page; null at the end.",
            },
            "unreadable": {
                "type": "array", "items": reference("RecordId"),
                "description": "Records that are there and cannot be read.",
            },
            "now": time,
        })),
    }))
}

/// Request bodies.
fn sent() -> Map<String, Value> {
    let revision = json!({ "oneOf": [
        reference("Revision"),
        // What every reader of JSON keeps exactly.
        { "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64 },
    ] });
    map(json!({
        "Resolve": { "oneOf": [
            {
                "type": "object",
                "description": "It did not happen: free the key.",
                "properties": {
                    "outcome": { "const": "rerun" }, "revision": revision, "force": perhaps_reason(),
                    "answer": { "type": "null" },
                },
                "required": ["outcome", "revision"],
                "additionalProperties": false,
            },
            {
                "type": "object",
                "description": "It happened: replay this answer.",
                "properties": {
                    "outcome": { "const": "answer" }, "revision": revision, "force": perhaps_reason(),
                    "answer": reference("GivenAnswer"),
                },
                "required": ["outcome", "revision", "answer"],
                "additionalProperties": false,
            },
        ] },
        "GivenAnswer": given_answer(),
    }))
}

/// The answer that an operator gives: a body as text, a body in base64, or a status that has none.
fn given_answer() -> Value {
    let null = json!({ "type": "null" });
    let text = json!({ "type": ["string", "null"] });
    let base64 = json!({ "type": ["string", "null"], "pattern": answer::BASE64_PATTERN });
    let empty = json!({ "enum": ["", null] });
    let bodiless = json!({ "enum": [204, 304] });
    let status = json!({ "type": "integer", "minimum": 200, "maximum": 599, "not": bodiless });
    let headers = json!({
        "type": "array",
        "description": "Pairs of name and value, in order. Lines of one connection, Content-Length, Date, \
            Idempotent-Replayed and Onceward-* are refused: they are made anew.",
        "items": {
            "type": "array",
            "prefixItems": [
                { "type": "string", "pattern": answer::header_name_pattern() },
                { "type": "string", "pattern": answer::HEADER_VALUE_PATTERN },
            ],
            "items": false,
            "minItems": 2,
            "maxItems": 2,
        },
        "maxItems": answer::HEADERS_MAX,
    });
    let with = |status: &Value, body: &Value, body_base64: &Value| {
        json!({
            "type": "object",
            "properties": { "status": status, "headers": headers, "body": body, "body_base64": body_base64 },
            "required": ["status"],
            "additionalProperties": false,
        })
    };
    json!({ "anyOf": [
        with(&status, &text, &null),
        with(&status, &null, &base64),
        with(&bodiless, &empty, &null),
        with(&bodiless, &null, &empty),
    ] })
}

/// What the gateway says of itself.
fn found() -> Map<String, Value> {
    let text = json!({ "type": "string" });
    let perhaps = json!({ "type": ["string", "null"] });
    let yes_or_no = json!({ "type": "boolean" });
    let count = json!({ "type": "integer", "minimum": 0 });
    let texts = json!({ "type": "array", "items": text });
    let refusal = object(json!({ "setting": perhaps, "says": text }));
    map(json!({
        "Alive": object(json!({ "alive": { "const": true }, "version": text, "commit": text })),
        "Ready": object(json!({
            "ready": yes_or_no, "draining": yes_or_no,
            "store": { "type": "string", "enum": ["up", "down"] },
        })),
        "Upstreams": object(json!({ "upstreams": { "type": "array", "items": object(json!({
            "url": text,
            "state": { "type": "string", "enum": ["up", "ejected", "trial"] },
            "ejected_remaining_seconds": { "type": ["number", "null"], "minimum": 0 },
            "in_flight": count,
            "consecutive_failures": count,
            "last_error": perhaps,
        })) } })),
        "Findings": object(json!({ "findings": { "type": "array", "items": object(json!({
            "level": { "type": "string", "enum": ["ok", "notice", "warning", "error"] },
            "check": text, "setting": perhaps, "says": text, "remedy": perhaps,
        })) } })),
        "Reloaded": object(json!({ "changed": texts, "warnings": texts })),
        "Problem": {
            "type": "object",
            "description": "RFC 9457.",
            "properties": {
                "type": text,
                "title": text,
                "status": { "type": "integer" },
                "detail": text,
                "record": reference("Record"),
                "revision": { "type": "string", "pattern": "^[0-9]+$" },
                "lease_remaining_seconds": { "type": "number", "minimum": 0 },
                "refusals": { "type": "array", "items": refusal },
            },
            "required": ["type", "title", "status", "detail"],
        },
    }))
}

/// An object with exactly these members.
fn object(members: Value) -> Value {
    let required: Vec<&String> = members.as_object().into_iter().flat_map(Map::keys).collect();
    json!({ "type": "object", "required": required, "properties": members, "additionalProperties": false })
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
