//! The harness itself: S3 servers start, keep objects, and end.

use highwater_tests::S3;

fn keeps_objects(server: &S3) {
    let bucket = server.new_bucket();
    let key = "clusters/main/7/wal/00000001/a+b=c:d";
    assert_eq!(server.object(&bucket, key), None);
    server.overwrite(&bucket, key, b"first");
    server.overwrite(&bucket, key, b"second");
    assert_eq!(server.object(&bucket, key).unwrap(), b"second");
    server.remove(&bucket, key);
    assert_eq!(server.object(&bucket, key), None);
}

#[test]
fn moto_keeps_objects() {
    keeps_objects(&S3::moto());
}

#[test]
fn moto_with_tls_keeps_objects() {
    keeps_objects(&S3::moto_with_tls());
}

#[test]
fn ceph_keeps_objects_and_is_shared() {
    keeps_objects(S3::ceph());
    assert_eq!(S3::ceph().endpoint(), S3::ceph().endpoint());
    assert_ne!(S3::ceph().new_bucket(), S3::ceph().new_bucket());
}
