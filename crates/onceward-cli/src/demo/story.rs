//! The story that `onceward demo` tells: what was sent, what came back, and what the customer paid for it.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::call::{CallError, Reply, call};
use crate::demo::parts::{Bank, Gateway};
use crate::exit::Exit;

const PATIENCE: Duration = Duration::from_secs(15);
const CHARGE: &str = r#"{"account":"alice","amount":1200}"#;

/// Starts both processes, tells the story, and stays up for the reader's own requests unless `once`.
pub(crate) async fn run(once: bool) -> ExitCode {
    let stopped = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            return Exit::CannotStart.report(&format!("cannot listen for signals: {error}"));
        }
    };
    // Whatever ends the story ends both processes and takes the folder away.
    let told = tokio::select! {
        told = tell(once) => told,
        () = stopped => return Exit::Done.code(),
    };
    match told {
        Ok(true) => Exit::Done.code(),
        Ok(false) => Exit::No.report("a step was not as promised, see above"),
        Err(error) => Exit::CannotStart.report(&format!("the demo cannot go on: {error}")),
    }
}

async fn tell(once: bool) -> io::Result<bool> {
    let folder = tempfile::Builder::new().prefix("onceward-demo-").tempdir()?;
    let bank = Bank::start().await?;
    let gateway = Gateway::start(&bank.url, folder.path()).await?;
    let mut story = Story { bank, gateway, step: 0, kept: true, colours: io::stdout().is_terminal() };
    story.introduce();
    story.pay().await?;
    story.retry_five_times().await?;
    story.two_at_once().await?;
    story.lost_answer().await?;
    story.another_amount().await?;
    let payment = story.kill_in_mid_payment().await?;
    story.resolve_by_hand(&payment).await?;
    story.without_onceward().await?;
    story.end(once);
    if !once {
        story.invite();
        std::future::pending::<()>().await;
    }
    Ok(story.kept)
}

struct Story {
    bank: Bank,
    gateway: Gateway,
    step: u32,
    kept: bool,
    colours: bool,
}

impl Story {
    fn introduce(&self) {
        println!("A payment API that charges each time it is asked, and Onceward in front of it.");
        println!();
        println!("  payment API   {}", self.bank.url);
        println!("  gateway       {}   (lease 2 s)", self.gateway.url);
        println!("  records       {}", self.gateway.token_file().with_file_name("").display());
    }

    async fn pay(&mut self) -> io::Result<()> {
        self.begin("Alice pays 12.00 for order 1001");
        let reply = self.send("order-1001", CHARGE, &[]).await;
        self.expect("paid", answered(&reply, 201, false));
        self.charged("order-1001", 1).await
    }

    async fn retry_five_times(&mut self) -> io::Result<()> {
        self.begin("Her phone repeats the request five times");
        let first = self.send("order-1001", CHARGE, &[]).await;
        let mut same = answered(&first, 201, true);
        for _ in 1..5 {
            let again = self.send("order-1001", CHARGE, &[]).await;
            same &= answered(&again, 201, true) && body_of(&again) == body_of(&first);
        }
        self.expect("the first answer each time, marked as a replay", same);
        self.charged("order-1001", 1).await
    }

    async fn two_at_once(&mut self) -> io::Result<()> {
        self.begin("She clicks twice: two requests at the same moment");
        let slow = [("Demo-Delay", "400ms")];
        let (one, two) = tokio::join!(
            self.quietly("order-1002", CHARGE, &slow, PATIENCE),
            self.quietly("order-1002", CHARGE, &slow, PATIENCE)
        );
        self.sent("order-1002", CHARGE, &slow);
        self.came(&one);
        self.came(&two);
        let statuses = [status_of(&one), status_of(&two)];
        self.expect(
            "one runs, the other is told to wait",
            statuses.contains(&201) && statuses.contains(&409),
        );
        let again = self.send("order-1002", CHARGE, &slow).await;
        self.expect("a repeat gets the answer", answered(&again, 201, true));
        self.charged("order-1002", 1).await
    }

    async fn lost_answer(&mut self) -> io::Result<()> {
        self.begin("The answer is lost on the way: her phone hangs up before it comes");
        let slow = [("Demo-Delay-After", "500ms")];
        self.sent("order-1003", CHARGE, &slow);
        let answered_early = {
            let paying = self.quietly("order-1003", CHARGE, &slow, PATIENCE);
            let charged = self.until_charged("order-1003");
            tokio::pin!(paying);
            tokio::select! {
                reply = &mut paying => { self.came(&reply); true }
                payment = charged => { payment?; false }
            }
        };
        self.note("the bank has charged; the phone is gone before the answer");
        self.expect("no answer", !answered_early);
        self.sent("order-1003", CHARGE, &slow);
        let again = self.until_settled("order-1003", &slow).await;
        self.came(&again);
        self.expect("the repeat gets the first answer", answered(&again, 201, true));
        self.charged("order-1003", 1).await
    }

    async fn another_amount(&mut self) -> io::Result<()> {
        self.begin("The same key with another amount");
        let reply = self.send("order-1001", r#"{"account":"alice","amount":9900}"#, &[]).await;
        self.expect("refused", answered(&reply, 422, false));
        self.charged("order-1001", 1).await
    }

    /// The payment that the bank did and that nobody told the gateway of.
    async fn kill_in_mid_payment(&mut self) -> io::Result<Value> {
        self.begin("The gateway is killed with kill -9 in the middle of a payment");
        let slow = [("Demo-Delay-After", "60s")];
        self.sent("order-1004", CHARGE, &slow);
        let url = self.gateway.url.clone();
        let payment = {
            let paying = self.quietly_at(&url, "order-1004", CHARGE, &slow, PATIENCE);
            let charged = self.until_charged("order-1004");
            tokio::pin!(paying);
            tokio::select! {
                reply = &mut paying => { self.came(&reply); Value::Null }
                payment = charged => payment?,
            }
        };
        self.gateway.kill().await?;
        self.note("the bank has charged; the gateway is dead before it knows");
        self.gateway.start_again().await?;
        self.note("the gateway runs again, over the same records");
        let early = self.send("order-1004", CHARGE, &[]).await;
        self.expect("not run again", status_of(&early) == 409);
        let late = self.until(|it| it.as_ref().is_ok_and(|it| it.header("retry-after").is_none())).await;
        self.sent("order-1004", CHARGE, &[]);
        self.came(&late);
        self.expect("unresolved once the lease is over: nobody knows, so it is not run again", {
            status_of(&late) == 409 && problem_of(&late).as_deref() == Some("unresolved")
        });
        self.charged("order-1004", 1).await?;
        Ok(payment)
    }

    async fn resolve_by_hand(&mut self, payment: &Value) -> io::Result<()> {
        self.begin("An operator looks it up at the bank and resolves it by hand");
        let bearer = format!("Bearer {}", self.gateway.token()?);
        let api = format!("{}/api/v1/records", self.gateway.admin_url);
        let admin = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let list = call(Method::GET, &format!("{api}?state=unresolved"), &admin, "", PATIENCE).await;
        let records = list.as_ref().map(Reply::json).unwrap_or_default();
        let record = &records["records"][0];
        let id = record["id"].as_str().unwrap_or_default().to_owned();
        let revision = record["revision"].as_str().unwrap_or_default().to_owned();
        println!("  $ onceward keys list --state unresolved");
        println!(
            "    {} {} {} {}…",
            text(record, "state"),
            text(record, "method"),
            text(record, "path"),
            id.get(..12).unwrap_or("?")
        );
        println!("  $ curl {}/payments", self.bank.url);
        println!("    {} of key {} is there", text(payment, "id"), text(payment, "key"));
        self.expect(
            "one unresolved record, and its payment at the bank",
            !id.is_empty() && payment["id"].is_string(),
        );
        let receipt =
            serde_json::json!({ "id": payment["id"], "account": "alice", "amount": 1200 }).to_string();
        let verdict = serde_json::json!({
            "outcome": "answer",
            "revision": revision,
            "answer": {
                "status": 201,
                "headers": [["content-type", "application/json"]],
                "body": receipt,
            },
        });
        println!(
            "  $ onceward keys resolve {}… --revision {revision} --status 201 --header 'content-type: application/json' --body '{receipt}'",
            id.get(..12).unwrap_or("?")
        );
        let resolved =
            call(Method::POST, &format!("{api}/{id}/resolve"), &admin, verdict.to_string(), PATIENCE).await;
        self.expect("resolved", resolved.is_ok_and(|it| it.status.is_success()));
        let again = self.send("order-1004", CHARGE, &[]).await;
        self.expect("the repeat gets that answer", answered(&again, 201, true) && body_of(&again) == receipt);
        self.charged("order-1004", 1).await
    }

    async fn without_onceward(&mut self) -> io::Result<()> {
        self.begin("The first two steps again, without Onceward: straight to the payment API");
        let url = self.bank.url.clone();
        for _ in 0..6 {
            self.sent("order-2001", CHARGE, &[]);
            let reply = self.quietly_at(&url, "order-2001", CHARGE, &[], PATIENCE).await;
            self.came(&reply);
        }
        self.charged("order-2001", 6).await
    }

    fn end(&self, once: bool) {
        println!();
        if self.kept {
            println!("Every step was as promised.");
        } else {
            println!("NOT every step was as promised. The gateway's log:");
            print!("{}", std::fs::read_to_string(self.gateway.log_file()).unwrap_or_default());
        }
        if once {
            println!("Run `onceward demo` without --once to try it yourself.");
        }
    }

    fn invite(&self) {
        let gateway = &self.gateway.url;
        println!();
        println!("Both are still running. Try it yourself (Ctrl-C ends them):");
        println!("  curl -i {gateway}/payments -H 'Idempotency-Key: mine-1' -d '{CHARGE}'");
        println!(
            "  curl -i {gateway}/transfers -H 'Idempotency-Key: mine-2' -d '{{\"from\":\"alice\",\"to\":\"carol\",\"amount\":500}}'"
        );
        println!("  curl {gateway}/accounts/alice");
        println!("  curl '{gateway}/payments?account=alice'");
        println!(
            "Make the payment API misbehave: -H 'Demo-Delay: 2s', -H 'Demo-Cut: yes', -H 'Demo-Fail: 503'."
        );
        println!("Look at the records:");
        println!(
            "  onceward keys list --admin {} --token-file {}",
            self.gateway.admin_url,
            self.gateway.token_file().display()
        );
    }

    fn begin(&mut self, title: &str) {
        self.step += 1;
        println!();
        println!("{}", self.bold(&format!("{}. {title}", self.step)));
    }

    fn note(&self, text: &str) {
        println!("  {text}");
    }

    /// Says whether something is as promised.
    fn expect(&mut self, what: &str, is_so: bool) {
        self.kept &= is_so;
        let mark = if is_so { self.green("✓") } else { self.red("✗ NOT AS PROMISED:") };
        println!("  {mark} {what}");
        // A reader follows step by step, also through a pipe.
        let _ = io::stdout().flush();
    }

    /// Asks the bank itself how many times it charged for a key.
    async fn charged(&mut self, key: &str, expected: usize) -> io::Result<()> {
        let times = self.payments(key).await?.len();
        let word = if times == 1 { "time" } else { "times" };
        self.expect(&format!("charged {times} {word}"), times == expected);
        Ok(())
    }

    async fn payments(&self, key: &str) -> io::Result<Vec<Value>> {
        let url = format!("{}/payments", self.bank.url);
        let reply = call(Method::GET, &url, &[], "", PATIENCE).await.map_err(io::Error::other)?;
        let all = reply.json();
        let mine = all["payments"].as_array().into_iter().flatten().filter(|it| it["key"] == key);
        Ok(mine.cloned().collect())
    }

    /// The first payment of a key, once the bank has it.
    async fn until_charged(&self, key: &str) -> io::Result<Value> {
        for _ in 0..500 {
            if let Some(first) = self.payments(key).await?.into_iter().next() {
                return Ok(first);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(io::Error::other("the bank was never asked"))
    }

    /// Repeats until the answer is no "still running".
    async fn until_settled(&self, key: &str, headers: &[(&str, &str)]) -> Result<Reply, CallError> {
        loop {
            let reply = self.quietly(key, CHARGE, headers, PATIENCE).await;
            if status_of(&reply) != 409 {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Repeats order 1004 until `settled` likes the answer, for at most ten seconds.
    async fn until(&self, settled: impl Fn(&Result<Reply, CallError>) -> bool) -> Result<Reply, CallError> {
        let mut reply = self.quietly("order-1004", CHARGE, &[], PATIENCE).await;
        for _ in 0..100 {
            if settled(&reply) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            reply = self.quietly("order-1004", CHARGE, &[], PATIENCE).await;
        }
        reply
    }

    async fn send(&self, key: &str, body: &str, headers: &[(&str, &str)]) -> Result<Reply, CallError> {
        self.sent(key, body, headers);
        let reply = self.quietly(key, body, headers, PATIENCE).await;
        self.came(&reply);
        reply
    }

    async fn quietly(
        &self,
        key: &str,
        body: &str,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Reply, CallError> {
        self.quietly_at(&self.gateway.url, key, body, headers, patience).await
    }

    async fn quietly_at(
        &self,
        url: &str,
        key: &str,
        body: &str,
        headers: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Reply, CallError> {
        let mut all = vec![("idempotency-key", key), ("content-type", "application/json")];
        all.extend_from_slice(headers);
        call(Method::POST, &format!("{url}/payments"), &all, body.to_owned(), patience).await
    }

    fn sent(&self, key: &str, body: &str, headers: &[(&str, &str)]) {
        let more: String = headers.iter().map(|(name, value)| format!("  {name}: {value}")).collect();
        println!("  → POST /payments  Idempotency-Key: {key}{more}  {body}");
    }

    fn came(&self, reply: &Result<Reply, CallError>) {
        match reply {
            Ok(reply) => {
                let mark = if reply.header("idempotent-replayed").is_some() {
                    "  Idempotent-Replayed: true"
                } else {
                    ""
                };
                let pause =
                    reply.header("retry-after").map(|it| format!("  Retry-After: {it}")).unwrap_or_default();
                let json = reply.json();
                let gist = json["title"].as_str().or(json["id"].as_str()).unwrap_or_default();
                println!("  ← {}{mark}{pause}  {gist}", reply.status);
            }
            Err(error) => println!("  ← nothing: {error}"),
        }
    }

    fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn status_of(reply: &Result<Reply, CallError>) -> u16 {
    reply.as_ref().map_or(0, |it| it.status.as_u16())
}

fn body_of(reply: &Result<Reply, CallError>) -> String {
    reply.as_ref().map(|it| String::from_utf8_lossy(&it.body).into_owned()).unwrap_or_default()
}

fn problem_of(reply: &Result<Reply, CallError>) -> Option<String> {
    let json = reply.as_ref().ok()?.json();
    Some(json["type"].as_str()?.rsplit(':').next()?.to_owned())
}

fn answered(reply: &Result<Reply, CallError>, status: u16, replayed: bool) -> bool {
    let Ok(reply) = reply else { return false };
    let marked = reply.header("idempotent-replayed") == Some("true");
    reply.status == StatusCode::from_u16(status).unwrap_or_default() && marked == replayed
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("?")
}
