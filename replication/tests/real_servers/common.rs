//! What the tests against real servers share.

use highwater_replication::{Client, Config, Environment, Error, Mode, Result, connect};

/// Surroundings without anything of this machine's.
pub(crate) fn nowhere() -> Environment {
    Environment { os_user: Some("nobody".to_owned()), ..Environment::default() }
}

/// A connection string without this machine's environment.
pub(crate) fn config(text: &str) -> Config {
    Config::in_environment(text, &nowhere()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A connection for SQL.
pub(crate) async fn sql(text: &str) -> Result<Client> {
    connect(&config(text), Mode::Sql).await
}

/// A connection for replication commands.
pub(crate) async fn replication(text: &str) -> Result<Client> {
    connect(&config(text), Mode::Replication).await
}

/// The only value of a query.
pub(crate) async fn value(client: &mut Client, query: &str) -> String {
    client.query(query).await.unwrap().single().unwrap().parse(0).unwrap()
}

/// Why a connection was refused; the message always says what to do.
pub(crate) fn refusal(result: Result<Client>) -> Error {
    let error = result.map(drop).expect_err("the connection is to be refused");
    assert!(error.to_string().contains("hint: "), "{error}");
    error
}
