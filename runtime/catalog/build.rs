//! Rebuilds the crate when a migration is added, which `sqlx::migrate!` alone would not notice.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
