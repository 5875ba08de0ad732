//! Every page: the one table that both the router and the OpenAPI document are made of.

use std::sync::Arc;

use axum::routing::{MethodRouter, delete, get, post};
use serde_json::{Value, json};

use crate::openapi::schemas;
use crate::problem::{Kind, kind};
use crate::router::Shared;
use crate::{change, doctor, health, openapi, params, records, reload, upstreams};

/// Where the API begins.
pub(crate) const API: &str = "/api/v1";

/// One method of one path.
#[derive(Debug)]
pub(crate) struct Page {
    /// In lower case, as the document has it.
    pub(crate) method: &'static str,
    /// In full, with `{name}` for a segment that varies.
    pub(crate) path: &'static str,
    /// Whether it is shown to nobody without the token.
    pub(crate) token: bool,
    /// The name of the operation in the document.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) says: &'static str,
    pub(crate) parameters: &'static [Parameter],
    /// The name of the schema of the body, where one is wanted.
    pub(crate) body: Option<&'static str>,
    /// What it answers with, apart from problems.
    pub(crate) answers: &'static [Answer],
    /// The problems that it may answer with, apart from those of the token.
    pub(crate) problems: &'static [Kind],
    pub(crate) handler: fn() -> MethodRouter<Arc<Shared>>,
}

/// A parameter that a page knows. There are no others.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// `query`, `path` or `header`.
    pub(crate) place: &'static str,
    pub(crate) required: bool,
    pub(crate) says: &'static str,
    pub(crate) schema: fn() -> Value,
}

/// An answer that is no problem.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) says: &'static str,
    pub(crate) media_type: &'static str,
    pub(crate) schema: fn() -> Value,
}

const JSON: &str = "application/json";

const fn ok(says: &'static str, schema: fn() -> Value) -> Answer {
    Answer { status: 200, says, media_type: JSON, schema }
}

const fn query(name: &'static str, says: &'static str, schema: fn() -> Value) -> Parameter {
    Parameter { name, place: "query", required: false, says, schema }
}

const RECORD_ID: Parameter = Parameter {
    name: "id",
    place: "path",
    required: true,
    says: "The record id, in full.",
    schema: || schemas::reference("RecordId"),
};

const OPERATOR: Parameter = Parameter {
    name: "Onceward-Operator",
    place: "header",
    required: false,
    says: "Who asks, for the audit: a claim, not a credential.",
    schema: || json!({ "type": "string", "pattern": crate::operator::PATTERN }),
};

const TEXT: fn() -> Value = || json!({ "type": "string" });

const LOOK: [Kind; 4] = [kind::INVALID, kind::STORE_UNAVAILABLE, kind::UNREADABLE, kind::UNEXPECTED];

/// All pages.
pub(crate) const PAGES: &[Page] = &[
    Page {
        method: "get",
        path: "/healthz",
        token: false,
        id: "alive",
        summary: "Whether the process lives",
        says: "200 while it does. Never asks the store, so that an outage restarts nobody.",
        parameters: &[],
        body: None,
        answers: &[ok("It lives.", || schemas::reference("Alive"))],
        problems: &[],
        handler: || get(health::alive),
    },
    Page {
        method: "get",
        path: "/readyz",
        token: false,
        id: "ready",
        summary: "Whether to send requests here",
        says: "The store is asked at most once a second and given 500 ms.",
        parameters: &[],
        body: None,
        answers: &[
            ok("It serves.", || schemas::reference("Ready")),
            Answer {
                status: 503,
                says: "It drains, or its store is down and `admin.ready_requires_store` is set.",
                media_type: JSON,
                schema: || schemas::reference("Ready"),
            },
        ],
        problems: &[],
        handler: || get(health::ready),
    },
    Page {
        method: "get",
        path: "/metrics",
        token: false,
        id: "metrics",
        summary: "The metrics",
        says: "In the OpenMetrics text format.",
        parameters: &[],
        body: None,
        answers: &[Answer {
            status: 200,
            says: "The metrics.",
            media_type: health::OPEN_METRICS,
            schema: TEXT,
        }],
        problems: &[],
        handler: || get(health::metrics),
    },
    Page {
        method: "get",
        path: "/api/v1/openapi.json",
        token: false,
        id: "document",
        summary: "This document",
        says: "The admin API as an OpenAPI 3.1 document. It holds no data and needs no token.",
        parameters: &[],
        body: None,
        answers: &[ok("The document.", || json!({ "type": "object" }))],
        problems: &[],
        handler: || get(openapi::page),
    },
    Page {
        method: "get",
        path: "/api/v1/records",
        token: true,
        id: "listRecords",
        summary: "A page of records",
        says: "In an order of the store's own. A record that changes meanwhile may be missed or seen twice.",
        parameters: &[
            query("state", "Only records that look so now.", || schemas::reference("State")),
            query("principal", "Only this caller's.", || schemas::reference("Principal")),
            query("method", "Only with exactly this method.", TEXT),
            query("path", "Only on exactly this path.", TEXT),
            query("key", "Only with exactly this key.", TEXT),
            query(
                "older_than",
                "Only records unchanged for at least so long.",
                || json!({ "type": "string", "pattern": params::DURATION_PATTERN, "examples": ["10m"] }),
            ),
            query("limit", "At most so many.", || {
                json!({
                    "type": "integer", "minimum": 1,
                    "maximum": records::LIMIT_MAX, "default": records::LIMIT,
                })
            }),
            query("cursor", "The `next` of the page before: go on there.", || schemas::reference("RecordId")),
        ],
        body: None,
        answers: &[ok("The page.", || schemas::reference("RecordPage"))],
        problems: &LOOK,
        handler: || get(records::list),
    },
    Page {
        method: "get",
        path: "/api/v1/records/{id}",
        token: true,
        id: "showRecord",
        summary: "One record",
        says: "Without its answer's body.",
        parameters: &[RECORD_ID],
        body: None,
        answers: &[ok("The record.", || schemas::reference("Record"))],
        problems: &[
            kind::INVALID,
            kind::NO_SUCH_RECORD,
            kind::STORE_UNAVAILABLE,
            kind::UNREADABLE,
            kind::UNEXPECTED,
        ],
        handler: || get(records::show),
    },
    Page {
        method: "delete",
        path: "/api/v1/records/{id}",
        token: true,
        id: "removeRecord",
        summary: "Forgets what a record stands for",
        says: "Whatever its state, so that the next request with its key runs. The record itself may stay, \
               free, for a while.",
        parameters: &[
            RECORD_ID,
            Parameter {
                name: "revision",
                place: "query",
                required: true,
                says: "The revision that you looked at. If the record has changed, nothing is done.",
                schema: || schemas::reference("Revision"),
            },
            query("force", "The reason to overrule a holder whose lease is alive.", schemas::reason),
            OPERATOR,
        ],
        body: None,
        answers: &[ok("Done; the record as it is now.", || schemas::reference("Record"))],
        problems: &[
            kind::INVALID,
            kind::NO_SUCH_RECORD,
            kind::CHANGED,
            kind::LEASE_ALIVE,
            kind::CARRIES,
            kind::STORE_UNAVAILABLE,
            kind::UNCERTAIN,
            kind::UNREADABLE,
            kind::UNEXPECTED,
        ],
        handler: || delete(change::remove),
    },
    Page {
        method: "post",
        path: "/api/v1/records/{id}/resolve",
        token: true,
        id: "resolveRecord",
        summary: "Says what became of an unresolved operation",
        says: "`rerun` runs nothing by itself: the next request with the key does.",
        parameters: &[RECORD_ID, OPERATOR],
        body: Some("Resolve"),
        answers: &[ok("Done; the record as it is now.", || schemas::reference("Record"))],
        problems: &[
            kind::INVALID,
            kind::NO_SUCH_RECORD,
            kind::TOO_SLOW,
            kind::CHANGED,
            kind::LEASE_ALIVE,
            kind::NOTHING_TO_RESOLVE,
            kind::TOO_LARGE,
            kind::MEDIA_TYPE,
            kind::STORE_UNAVAILABLE,
            kind::UNCERTAIN,
            kind::UNREADABLE,
            kind::UNEXPECTED,
        ],
        handler: || post(change::resolve),
    },
    Page {
        method: "get",
        path: "/api/v1/upstreams",
        token: true,
        id: "listUpstreams",
        summary: "The upstreams as they are now",
        says: "In the order of the settings.",
        parameters: &[],
        body: None,
        answers: &[ok("All of them.", || schemas::reference("Upstreams"))],
        problems: &[kind::INVALID],
        handler: || get(upstreams::upstreams),
    },
    Page {
        method: "get",
        path: "/api/v1/doctor",
        token: true,
        id: "doctor",
        summary: "What should be put right",
        says: "Looks at the settings and at what they meet. Changes nothing.",
        parameters: &[],
        body: None,
        answers: &[ok("What was found.", || schemas::reference("Findings"))],
        problems: &[kind::INVALID],
        handler: || get(doctor::doctor),
    },
    Page {
        method: "post",
        path: "/api/v1/reload",
        token: true,
        id: "reload",
        summary: "Takes over changed settings",
        says: "Reads the settings file again, and takes it over as a whole or not at all. Takes no body.",
        parameters: &[OPERATOR],
        body: None,
        answers: &[ok("They are in force.", || schemas::reference("Reloaded"))],
        problems: &[kind::INVALID, kind::NO_SETTINGS_FILE, kind::TOO_SLOW, kind::RELOAD_REFUSED],
        handler: || post(reload::reload),
    },
];
