//! `settled-test-servers`: starts, controls and stops the private servers of the tests.

use std::process::ExitCode;

use settled_testkit::servers::guard;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    guard().await
}
