//! What the errors of librdkafka mean.

use onceward_core::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What an error of a consumer means for it.
pub(super) enum Trouble {
    /// The client deals with it by itself.
    Passing,
    /// The next caller is told. The client goes on.
    Told(Error),
    /// The client is of no use any more.
    Fatal(Error),
}

/// Judges what a consumer was told; `began` whether it was ever given a partition.
pub(super) fn of_consumer(error: KafkaError, began: bool) -> Trouble {
    let unavailable = |what| Error::new(ErrorKind::Unavailable, what);
    if let KafkaError::MessageConsumptionFatal(_) = error {
        return Trouble::Fatal(unavailable("go on with a Kafka consumer").caused_by(error));
    }
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) if began => {
            Trouble::Told(unavailable("read a topic that was there").caused_by(error))
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            Trouble::Told(invalid("read a topic: it does not exist; create it", error))
        }
        Some(code) if refused(code) => {
            let what = "read a topic: Kafka refuses this user or group; check credentials and ACLs";
            Trouble::Told(invalid(what, error))
        }
        Some(Code::AllBrokersDown) => {
            Trouble::Told(unavailable("reach any broker of Kafka").caused_by(error))
        }
        _ => Trouble::Passing,
    }
}

/// Translates why a message was not published.
pub(super) fn of_publish(error: KafkaError) -> Error {
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            invalid("publish a message: its topic does not exist; create it", error)
        }
        Some(
            Code::MessageSizeTooLarge
            | Code::InvalidTopic
            | Code::InvalidRecord
            | Code::InvalidMessage
            | Code::PolicyViolation
            | Code::InvalidArgument,
        ) => invalid("publish a message: Kafka does not take it; see its size and its topic", error),
        Some(code) if refused(code) => {
            invalid("publish a message: Kafka refuses this user; check credentials and ACLs", error)
        }
        Some(Code::QueueFull) => Error::new(ErrorKind::Unavailable, "publish a message").caused_by(error),
        _ => Error::new(ErrorKind::Uncertain, "publish a message").caused_by(error),
    }
}

/// The client could not be made.
pub(super) fn of_client(error: KafkaError) -> Error {
    invalid("make a Kafka client: a setting is wrong", error)
}

fn refused(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::InvalidGroupId
            | Code::InconsistentGroupProtocol
    )
}

fn invalid(what: &'static str, error: KafkaError) -> Error {
    Error::new(ErrorKind::Invalid, what).caused_by(error)
}
