//! What the errors of SQS mean.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use onceward_core::{Error, ErrorKind};

/// Refusals that stay until somebody changes something, by what their code contains, and what to do.
const REFUSALS: [(&str, &str); 12] = [
    ("NonExistentQueue", "ask SQS: the queue does not exist; create it, or correct its URL"),
    ("QueueDoesNotExist", "ask SQS: the queue does not exist; create it, or correct its URL"),
    ("InvalidAddress", "ask SQS: the queue does not exist; create it, or correct its URL"),
    ("AccessDenied", "ask SQS: AWS refuses this user; check its credentials and policy"),
    ("InvalidClientTokenId", "ask SQS: AWS refuses this user; check its credentials and policy"),
    ("UnrecognizedClient", "ask SQS: AWS refuses this user; check its credentials and policy"),
    ("SignatureDoesNotMatch", "ask SQS: AWS refuses this user; check its credentials and policy"),
    ("InvalidSecurity", "ask SQS: AWS refuses this user; check its credentials and policy"),
    ("InvalidMessageContents", "publish a message: SQS does not take it; see its characters and its size"),
    ("InvalidParameter", "ask SQS: it does not take what it was asked; see sizes, names and times"),
    ("BatchRequestTooLong", "publish a message: SQS does not take it; see its characters and its size"),
    ("UnsupportedOperation", "ask SQS: this queue cannot do what it was asked"),
];

/// Translates an error of a call.
pub(super) fn translate<E>(doing: &'static str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default();
    let refusal = REFUSALS.into_iter().find(|it| code.contains(it.0));
    let (kind, doing) = match (&error, refusal) {
        (_, Some((_, what))) => (ErrorKind::Invalid, what),
        // Without them nothing was asked.
        (_, None) if let Some(credentials) = of_credentials(&error) => match credentials {
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => (
                ErrorKind::Invalid,
                "ask SQS: no credentials for AWS are found; set them, or name a profile that has some",
            ),
            _ => (ErrorKind::Unavailable, "find credentials for AWS"),
        },
        (SdkError::ConstructionFailure(_), None) => {
            (ErrorKind::Invalid, "ask SQS: there are no credentials, or a setting is wrong")
        }
        (SdkError::DispatchFailure(it), None) if it.is_io() && !it.is_timeout() => {
            // The connection was refused, or it broke and the call may have been carried out: nobody says which.
            (ErrorKind::Uncertain, doing)
        }
        // Answered, and refused for now: too many requests, or too much in flight.
        (SdkError::ServiceError(it), None) if it.raw().status().as_u16() < 500 => {
            (ErrorKind::Unavailable, doing)
        }
        (_, None) => (ErrorKind::Uncertain, doing),
    };
    Error::new(kind, doing).caused_by(error)
}

/// Why there are no credentials, if that is what failed.
fn of_credentials<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CredentialsError> {
    std::iter::successors(Some(error), |it| it.source()).find_map(|it| it.downcast_ref())
}
