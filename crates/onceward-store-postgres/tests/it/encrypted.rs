//! Encryption is what `sslmode` says, never less.

use onceward_store_postgres::{OpenError, PostgresSettings, PostgresStore};
use onceward_testkit::server::Postgres;

use crate::support;

struct Certified {
    certificate: String,
    key: String,
}

fn certified(name: &str) -> Certified {
    let it = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Certified { certificate: it.cert.pem(), key: it.signing_key.serialize_pem() }
}

/// A server with this certificate, and a file that trusts it.
fn server(it: &Certified) -> (Postgres, tempfile::NamedTempFile) {
    let settings = [("ssl", "on"), ("ssl_cert_file", "cert.pem"), ("ssl_key_file", "key.pem")];
    let files = [("cert.pem", it.certificate.as_str()), ("key.pem", it.key.as_str())];
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), &it.certificate).unwrap();
    (Postgres::start_with_files(&settings, &files), trusted)
}

/// Whether the connection is encrypted; an error where there is none.
async fn opened(server: &Postgres, query: &str) -> Result<bool, OpenError> {
    // A name of its own: the server may still know those before it for a moment.
    let name = support::name();
    let url = format!("{}?application_name={name}{query}", server.url("onceward"));
    let store = PostgresStore::open(PostgresSettings::from_url(&url).unwrap()).await?;
    let (client, _) = support::client(&server.url("onceward")).await;
    let sql =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
    let ssl = client.query_one(sql, &[&name]).await.unwrap().get(0);
    store.close().await;
    Ok(ssl)
}

/// The same of a pool of `sqlx`.
#[cfg(feature = "sqlx-tls")]
async fn pooled(server: &Postgres, query: &str) -> sqlx::Result<bool> {
    let url = format!("{}?connect_timeout=1{query}", server.url("onceward"));
    let pool = PostgresSettings::from_url(&url).unwrap().sqlx_pool(1).unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    sqlx::query_scalar(sql).fetch_one(&pool).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_believes_whom_it_says() {
    let (right, trusted) = server(&certified("127.0.0.1"));
    let (misnamed, trusted_too) = server(&certified("db.example"));
    let plain = Postgres::start(&[]);
    let roots = format!("&sslrootcert={}", trusted.path().display());
    let roots_too = format!("&sslrootcert={}", trusted_too.path().display());
    for (server, query, expected) in [
        (&right, "&sslmode=disable".to_owned(), Some(false)),
        (&right, String::new(), Some(true)),
        (&right, "&sslmode=prefer".to_owned(), Some(true)),
        (&right, "&sslmode=require".to_owned(), Some(true)),
        (&right, format!("&sslmode=require{roots_too}"), None),
        (&right, format!("&sslmode=verify-ca{roots}"), Some(true)),
        (&right, format!("&sslmode=verify-full{roots}"), Some(true)),
        (&right, format!("&sslmode=verify-full{roots_too}"), None),
        (&right, "&sslmode=verify-full".to_owned(), None),
        (&misnamed, format!("&sslmode=require{roots_too}"), Some(true)),
        (&misnamed, format!("&sslmode=verify-ca{roots_too}"), Some(true)),
        (&misnamed, format!("&sslmode=verify-ca{roots}"), None),
        (&misnamed, format!("&sslmode=verify-full{roots_too}"), None),
        (&plain, "&sslmode=prefer".to_owned(), Some(false)),
        (&plain, "&sslmode=require".to_owned(), None),
        (&plain, format!("&sslmode=verify-full{roots}"), None),
    ] {
        let told = opened(server, &query).await;
        assert_eq!(told.as_ref().ok().copied(), expected, "{query}: {told:?}");
        #[cfg(feature = "sqlx-tls")]
        {
            let told = pooled(server, &query).await;
            assert_eq!(told.as_ref().ok().copied(), expected, "a pool, {query}: {told:?}");
        }
    }
}

#[tokio::test]
async fn a_file_without_certificates_is_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    for path in ["/nowhere.pem", empty.path().to_str().unwrap()] {
        let url = format!("postgres://pay@127.0.0.1:1/x?sslmode=verify-full&sslrootcert={path}");
        let error = PostgresStore::open(PostgresSettings::from_url(&url).unwrap()).await.unwrap_err();
        assert!(matches!(&error, OpenError::Tls { cause } if cause.contains(path)), "{error}");
    }
}
