//! The calls of the payment API.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::Work;
use super::answer::{Problem, json};
use super::input::{PaymentOrder, TransferOrder, arrived};
use super::switches::{Cut, Switches};
use crate::demo::bank::{Account, Bank, Payment, Recorded, Transfer};

const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The API over fresh books. Its calls run as tasks of `work`.
pub(super) fn router(work: Work) -> Router {
    Router::new()
        .route("/payments", post(pay).get(list_payments))
        .route("/payments/{id}", get(show_payment))
        .route("/transfers", post(transfer).get(list_transfers))
        .route("/transfers/{id}", get(show_transfer))
        .route("/accounts", get(list_accounts))
        .route("/accounts/{id}", get(show_account))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(work, run_detached))
        .with_state(Books(Arc::new(Mutex::new(Bank::opening()))))
}

/// Runs the call to its end, even when its caller leaves: most servers do, and it is why a caller that got no
/// answer cannot know what happened. The body is read before, so that the call needs the connection no more.
async fn run_detached(State(work): State<Work>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let switches = match Switches::read(&parts.headers) {
        Ok(switches) => switches,
        Err(problem) => return problem.into_response(),
    };
    let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
        let message = format!("the body did not come whole, or has more than {REQUEST_BYTES_MAX} bytes");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).into_response();
    };
    let request = Request::from_parts(parts, Body::from(body));
    match work.start(switches.apply(next.run(request))).await {
        Ok(Some(response)) => response,
        Ok(None) | Err(_) => Cut::response(), // cut off by the end of the server, or by a panic
    }
}

async fn pay(State(books): State<Books>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let order = PaymentOrder::parse(&body)?;
    let payment = books.open().pay(&order.account, order.amount, arrived(&headers))?;
    Ok(created(format!("/payments/{}", payment.id), &payment))
}

async fn transfer(State(books): State<Books>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let order = TransferOrder::parse(&body)?;
    let transfer = books.open().transfer(&order.from, &order.to, order.amount, arrived(&headers))?;
    Ok(created(format!("/transfers/{}", transfer.id), &transfer))
}

async fn list_payments(
    State(books): State<Books>,
    query: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(filter) = query.map_err(|error| Problem::bad("account", error.body_text()))?;
    let payments = books.open().payments(filter.account.as_deref())?;
    let charged = payments.iter().map(|it| u128::from(it.effect.amount.get())).sum();
    Ok(json(StatusCode::OK, &Payments { count: payments.len(), charged, payments }))
}

async fn show_payment(State(books): State<Books>, Path(id): Path<String>) -> Result<Response, Problem> {
    let payment = books.open().payment(&id);
    let missing = || Problem::not_found(format!("there is no payment {id:?}: GET /payments lists them"));
    payment.ok_or_else(missing).map(|it| json(StatusCode::OK, &it))
}

async fn list_transfers(State(books): State<Books>) -> Response {
    let transfers = books.open().transfers();
    json(StatusCode::OK, &Transfers { count: transfers.len(), transfers })
}

async fn show_transfer(State(books): State<Books>, Path(id): Path<String>) -> Result<Response, Problem> {
    let transfer = books.open().transfer_by_id(&id);
    let missing = || Problem::not_found(format!("there is no transfer {id:?}: GET /transfers lists them"));
    transfer.ok_or_else(missing).map(|it| json(StatusCode::OK, &it))
}

async fn list_accounts(State(books): State<Books>) -> Response {
    let accounts = books.open().accounts();
    json(StatusCode::OK, &Accounts { accounts })
}

async fn show_account(State(books): State<Books>, Path(id): Path<String>) -> Result<Response, Problem> {
    let account = books.open().account(&id)?;
    Ok(json(StatusCode::OK, &account))
}

async fn no_such_path(uri: Uri) -> Problem {
    let path = uri.path();
    Problem::not_found(format!("there is nothing at {path:?}, only /payments, /transfers and /accounts"))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{method} is not possible at {:?}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

fn created(location: String, what: &impl Serialize) -> Response {
    let mut response = json(StatusCode::CREATED, what);
    let location = HeaderValue::try_from(location).expect("ids are plain ASCII");
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// The books, shared by all calls. No call waits for anything while it holds them.
#[derive(Debug, Clone)]
struct Books(Arc<Mutex<Bank>>);

impl Books {
    fn open(&self) -> MutexGuard<'_, Bank> {
        self.0.lock().expect("the ledger does not panic")
    }
}

#[derive(Debug, Deserialize)]
struct Filter {
    account: Option<String>,
}

#[derive(Debug, Serialize)]
struct Payments {
    count: usize,
    charged: u128,
    payments: Vec<Recorded<Payment>>,
}

#[derive(Debug, Serialize)]
struct Transfers {
    count: usize,
    transfers: Vec<Recorded<Transfer>>,
}

#[derive(Debug, Serialize)]
struct Accounts {
    accounts: Vec<Account>,
}
