//! Credentials as every program for AWS finds them.

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_sqs::config::{Region, SharedHttpClient};
use tokio::sync::OnceCell;

/// Whatever the environment, the profile, the container or the instance has, looked for when it is first needed.
#[derive(Debug)]
pub(super) struct Chain {
    config: ProviderConfig,
    region: Region,
    found: OnceCell<DefaultCredentialsChain>,
}

impl Chain {
    pub(super) fn new(region: Region, http: SharedHttpClient) -> Self {
        let config = ProviderConfig::without_region().with_region(Some(region.clone()));
        Self { config: config.with_http_client(http), region, found: OnceCell::new() }
    }

    async fn found(&self) -> &DefaultCredentialsChain {
        let find = || {
            let chain = DefaultCredentialsChain::builder().configure(self.config.clone());
            chain.region(self.region.clone()).build()
        };
        self.found.get_or_init(find).await
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.found().await.provide_credentials().await })
    }
}
