//! The gateway in front of a server that is not ours, told nothing but where it is.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::client::{get, pay};
use crate::process::Place;

/// Counts each POST, and knows nothing of keys. HTTP/1.0, as the standard library has it.
const SERVER: &str = r#"
import http.server, json, sys

class Shop(http.server.BaseHTTPRequestHandler):
    orders = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Shop.orders.append(json.loads(body))
        self.answer(201, {"order": len(Shop.orders)})

    def do_GET(self):
        self.answer(200, Shop.orders)

    def answer(self, status, value):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_of_the_python_library_is_protected_with_its_url_alone() {
    let started =
        Command::new("python3").args(["-c", SERVER]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = started.expect("python3 is needed: `apt-get install python3`");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let _python = Python(child);
    let port = lines.next().expect("python3 starts").unwrap();
    let gateway = Place::before(&format!("http://127.0.0.1:{port}")).start();

    let first = gateway.ask(&pay("order-1"));
    assert_eq!((first.status, first.json()), (201, json!({ "order": 1 })));
    assert!(!first.is_replay());
    for _ in 0..5 {
        gateway.ask(&pay("order-1")).assert_replay_of(&first);
    }
    gateway.ask(&pay("order-1").body("{}")).assert_problem(422, "key-reused");
    let racers: Vec<_> = (0..8).map(|_| pay("order-2").send_meanwhile(gateway.address)).collect();
    for racer in racers {
        let reply = racer.join().unwrap().unwrap();
        assert!(matches!(reply.status, 201 | 409), "{reply:?}");
    }
    assert_eq!(gateway.ask_until_settled(&pay("order-2")).json(), json!({ "order": 2 }));
    // Without a key each request counts.
    let bare = crate::client::Ask::new("POST", "/payments").body("{}");
    assert_eq!(gateway.ask(&bare).json(), json!({ "order": 3 }));
    assert_eq!(gateway.ask(&bare).json(), json!({ "order": 4 }));
    assert_eq!(gateway.ask(&get("/orders")).json().as_array().unwrap().len(), 4);
}
