//! The `onceward` binary.

mod demo;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    demo::upstream::run(([127, 0, 0, 1], 0).into()).await
}
