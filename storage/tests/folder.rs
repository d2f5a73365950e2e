//! The local folder keeps the contract.

use highwater_storage::{StoreConfig, conformance, create};

#[tokio::test]
async fn the_local_folder_conforms() {
    let scratch = tempfile::tempdir().unwrap();
    let url = format!("file://{}/new/repository", scratch.path().display());
    let store = create(&StoreConfig::from_url(url)).unwrap();
    conformance::check(&*store, &"conformance".parse().unwrap()).await.unwrap();
}
