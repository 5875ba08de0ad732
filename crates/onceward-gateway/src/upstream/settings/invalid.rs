//! What is wrong with a setting.

use std::borrow::Cow;

/// A field of [`UpstreamSettings`](super::UpstreamSettings) that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {remedy}")]
pub struct InvalidSetting {
    field: &'static str,
    remedy: Cow<'static, str>,
}

impl InvalidSetting {
    pub(in crate::upstream) fn new(field: &'static str, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { field, remedy: remedy.into() }
    }

    /// The name of the field.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// What is wrong and what to write instead.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}
