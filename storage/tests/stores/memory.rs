//! The store in memory, on which tests of other crates rely.

use highwater_storage::conformance;
use highwater_storage::memory::MemoryStore;

use crate::common::key;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_in_memory_conforms() {
    conformance::check(&MemoryStore::default(), &key("conformance")).await.unwrap();
}
