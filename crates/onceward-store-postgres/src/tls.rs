//! Connecting, encrypted or not.

use tokio_postgres::NoTls;

use crate::fault::Cause;
use crate::link::Link;
use crate::settings::PostgresSettings;

/// Connects as the settings say.
pub(crate) async fn connect(settings: &PostgresSettings) -> Result<Link, Cause> {
    let connected = settings.driver.connect(NoTls).await;
    let (client, connection) = connected.map_err(|it| Cause::of(&it))?;
    Ok(Link::over(client, connection))
}
