//! Lets in who presents the token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};

use crate::audit::Audit;
use crate::problem::Problem;
use crate::router::Shared;
use crate::token::Token;

/// Passes the request on, or answers 401. An attempt to change something is audited.
pub(crate) async fn require_token(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    if presents(request.headers(), &shared.admin.token) {
        return next.run(request).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        Audit::new("unauthorized", request.extensions()).write(Problem::Unauthorized.code());
    }
    Problem::Unauthorized.into_response()
}

/// Whether exactly one `Authorization` line is there and is `Bearer` (in any case) with the token.
fn presents(headers: &HeaderMap, token: &Token) -> bool {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some((scheme, rest)) = line.as_bytes().split_at_checked("bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"bearer ") && token.matches(rest.trim_ascii())
}
