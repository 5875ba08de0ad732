//! Each test names what the far end must see.

use super::*;

struct Sent {
    prefix: &'static str,
    host: HostMode,
    spoken: Spoken,
    trust_forwarded: bool,
    pass_through: bool,
}

impl Default for Sent {
    fn default() -> Self {
        let (host, spoken) = (HostMode::Preserve, Spoken::Http1);
        Self { prefix: "", host, spoken, trust_forwarded: false, pass_through: true }
    }
}

impl Sent {
    fn try_rewrite(self, request: http::request::Builder) -> Result<Request<()>, Refusal> {
        let target = Target::parse(&format!("http://up:9000{}", self.prefix).parse().unwrap()).unwrap();
        let outbound = Outbound {
            target: &target,
            spoken: self.spoken,
            host: self.host,
            trust_forwarded: self.trust_forwarded,
            upgrade: None,
            pass_through: self.pass_through,
        };
        outbound.rewrite(&request.body(()).unwrap().into_parts().0, Some(0))
    }

    fn rewrite(self, request: http::request::Builder) -> Request<()> {
        self.try_rewrite(request).unwrap()
    }
}

fn get(request: &Request<()>, name: &str) -> Vec<String> {
    let lines = request.headers().get_all(name).iter();
    lines.map(|it| String::from_utf8(it.as_bytes().to_vec()).unwrap()).collect()
}

fn request() -> http::request::Builder {
    let client = ClientAddr("192.0.2.1:4711".parse().unwrap());
    Request::builder().uri("/").header("host", "shop.example:8080").extension(client)
}

#[test]
fn the_path_and_query_go_upstream_byte_for_byte() {
    for raw in ["/%70ayments//a/../b?x=%zz", "//double", "/a;b=1?", "/?q=a%2Fb&&", "/\u{fc}"] {
        assert_eq!(Sent::default().rewrite(request().uri(raw)).uri(), raw);
        let prefixed = Sent { prefix: "/base/", ..Sent::default() }.rewrite(request().uri(raw));
        assert_eq!(prefixed.uri().to_string(), format!("/base{raw}"));
    }
}

#[test]
fn connection_fields_stay_here_and_all_others_pass_in_order() {
    let sent = Sent::default().rewrite(
        request()
            .header("connection", "close, X-Private")
            .header("connection", "keep-alive")
            .header("x-private", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-connection", "keep-alive")
            .header("proxy-authorization", "Basic x")
            .header("te", "gzip")
            .header("transfer-encoding", "chunked")
            .header("upgrade", "h2c")
            .header("http2-settings", "AAA")
            .header("expect", "100-continue")
            .header("trailer", "x-sum")
            .header("x-many", "1")
            .header("authorization", "Bearer t")
            .header("x-many", "2"),
    );
    let mut names: Vec<_> = sent.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names[0], "host");
    names.sort_unstable();
    let kept = ["authorization", "forwarded", "host", "via", "x-forwarded-for", "x-forwarded-host"];
    assert_eq!(names, [kept.as_slice(), &["x-forwarded-proto", "x-many"]].concat());
    assert_eq!(get(&sent, "x-many"), ["1", "2"]);
}

#[test]
fn a_client_cannot_strip_the_key_or_the_fence_by_naming_it_in_connection() {
    let sent = Sent { pass_through: false, ..Sent::default() }.rewrite(
        request()
            .header("connection", "idempotency-key, onceward-fence, host")
            .header("idempotency-key", "k")
            .header("onceward-fence", "7"),
    );
    assert_eq!(get(&sent, "idempotency-key"), ["k"]);
    assert_eq!(get(&sent, "onceward-fence"), ["7"]);
    assert_eq!(get(&sent, "host"), ["shop.example:8080"]);
}

#[test]
fn a_fence_that_a_client_made_up_is_dropped() {
    let sent = Sent::default().rewrite(request().header("onceward-fence", "9").header("onceward-x", "1"));
    assert_eq!(get(&sent, "onceward-fence"), Vec::<String>::new());
    assert_eq!(get(&sent, "onceward-x"), Vec::<String>::new());
}

#[test]
fn the_upstream_learns_who_asked() {
    let sent = Sent::default().rewrite(request());
    assert_eq!(get(&sent, "forwarded"), ["for=192.0.2.1;host=\"shop.example:8080\";proto=http"]);
    assert_eq!(get(&sent, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(get(&sent, "x-forwarded-proto"), ["http"]);
    assert_eq!(get(&sent, "x-forwarded-host"), ["shop.example:8080"]);
    assert_eq!(get(&sent, "via"), ["1.1 onceward"]);
}

#[test]
fn what_earlier_proxies_said_comes_first_in_one_line() {
    let sent = Sent::default().rewrite(
        request()
            .header("forwarded", "for=198.51.100.7")
            .header("x-forwarded-for", "198.51.100.7")
            .header("forwarded", "for=203.0.113.9;by=_a")
            .header("x-forwarded-for", "203.0.113.9, 203.0.113.10")
            .header("via", "1.1 edge"),
    );
    assert_eq!(get(&sent, "x-forwarded-for"), ["198.51.100.7, 203.0.113.9, 203.0.113.10, 192.0.2.1"]);
    let ours = "for=192.0.2.1;host=\"shop.example:8080\";proto=http";
    assert_eq!(get(&sent, "forwarded"), [format!("for=198.51.100.7, for=203.0.113.9;by=_a, {ours}")]);
    assert_eq!(get(&sent, "via"), ["1.1 edge, 1.1 onceward"]);
}

#[test]
fn an_open_quote_cannot_swallow_our_element() {
    let sent = Sent::default().rewrite(request().header("forwarded", "for=\"198.51.100.7"));
    assert_eq!(get(&sent, "forwarded"), ["for=192.0.2.1;host=\"shop.example:8080\";proto=http"]);
    let sent = Sent::default().rewrite(request().header("forwarded", r#"for="a\"";host=b"#));
    assert!(get(&sent, "forwarded")[0].starts_with(r#"for="a\"";host=b, for=192.0.2.1"#));
}

#[test]
fn ipv6_clients_are_bracketed_and_mapped_ipv4_ones_are_ipv4() {
    for (address, forwarded, x_forwarded_for) in [
        ("[2001:db8::1]:9", "for=\"[2001:db8::1]\";", "2001:db8::1"),
        ("[::ffff:192.0.2.9]:9", "for=192.0.2.9;", "192.0.2.9"),
    ] {
        let sent = Sent::default().rewrite(request().extension(ClientAddr(address.parse().unwrap())));
        assert!(get(&sent, "forwarded")[0].starts_with(forwarded), "{address}");
        assert_eq!(get(&sent, "x-forwarded-for"), [x_forwarded_for]);
    }
}

#[test]
fn an_untrusted_client_cannot_pretend_another_host_or_scheme() {
    let pretend = || request().header("x-forwarded-host", "evil").header("x-forwarded-proto", "https");
    let sent = Sent::default().rewrite(pretend());
    assert_eq!(get(&sent, "x-forwarded-host"), ["shop.example:8080"]);
    assert_eq!(get(&sent, "x-forwarded-proto"), ["http"]);
    let sent = Sent { trust_forwarded: true, ..Sent::default() }.rewrite(pretend());
    assert_eq!(get(&sent, "x-forwarded-host"), ["evil"]);
    assert_eq!(get(&sent, "x-forwarded-proto"), ["https"]);
}

#[test]
fn the_host_is_the_clients_or_the_upstreams() {
    let upstream = || Sent { host: HostMode::Upstream, ..Sent::default() };
    let h2 = || Request::builder().uri("http://h2.example/a").version(Version::HTTP_2);
    let user = || Request::builder().uri("http://me:pw@abs.example/a").header("host", "other");
    assert_eq!(get(&Sent::default().rewrite(request()), "host"), ["shop.example:8080"]);
    assert_eq!(get(&upstream().rewrite(request()), "host"), ["up:9000"]);
    assert_eq!(get(&upstream().rewrite(request()), "x-forwarded-host"), ["shop.example:8080"]);
    assert_eq!(get(&Sent::default().rewrite(h2()), "host"), ["h2.example"]);
    assert_eq!(Sent::default().rewrite(h2()).uri(), "/a");
    assert_eq!(get(&Sent::default().rewrite(h2()), "via"), ["2 onceward"]);
    assert_eq!(get(&Sent::default().rewrite(user()), "host"), ["abs.example"]);
    assert_eq!(get(&Sent::default().rewrite(Request::builder().uri("/")), "host"), ["up:9000"]);
    let h2c = Sent { spoken: Spoken::Http2, ..Sent::default() }.rewrite(request().uri("/a?b"));
    assert_eq!(h2c.uri(), "http://shop.example:8080/a?b");
    assert_eq!(get(&h2c, "host"), Vec::<String>::new());
}

#[test]
fn a_request_with_two_hosts_or_connect_goes_nowhere() {
    let two = Sent::default().try_rewrite(request().header("host", "b"));
    assert_eq!(two.unwrap_err(), Refusal::BadHost);
    let connect = Sent::default().try_rewrite(request().method("CONNECT").uri("a:1"));
    assert_eq!(connect.unwrap_err(), Refusal::Connect);
}

#[test]
fn the_framing_comes_from_the_body_and_not_from_what_was_claimed() {
    let post = Sent::default().rewrite(request().method("POST").header("content-length", "99"));
    assert_eq!(get(&post, "content-length"), ["0"]);
    assert_eq!(get(&Sent::default().rewrite(request()), "content-length"), Vec::<String>::new());
}

#[test]
fn split_cookies_of_http2_become_one_line() {
    let sent = Sent::default().rewrite(request().header("cookie", "a=1").header("cookie", "b=2"));
    assert_eq!(get(&sent, "cookie"), ["a=1; b=2"]);
}

#[test]
fn a_length_beside_a_transfer_coding_is_dropped_from_responses() {
    let mut upstream = HeaderMap::new();
    upstream.insert("content-length", HeaderValue::from_static("3"));
    assert!(response_headers(upstream.clone(), true).contains_key("content-length"));
    upstream.insert("transfer-encoding", HeaderValue::from_static("chunked"));
    upstream.insert("connection", HeaderValue::from_static("x-hop"));
    upstream.insert("x-hop", HeaderValue::from_static("1"));
    upstream.append("set-cookie", HeaderValue::from_static("a=1"));
    upstream.append("set-cookie", HeaderValue::from_static("b=2"));
    upstream.insert("onceward-outcome", HeaderValue::from_static("store"));
    let operation = response_headers(upstream.clone(), false);
    assert_eq!(
        operation.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
        ["set-cookie", "onceward-outcome"]
    );
    let passed = response_headers(upstream, true);
    assert_eq!(passed.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(passed.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["set-cookie"]);
}

#[test]
fn a_client_cannot_strip_what_tells_callers_and_requests_apart() {
    let names = ["authorization", "cookie", "x-api-key", "content-type"];
    let sent =
        names.iter().fold(request().header("connection", names.join(", ")), |it, name| it.header(*name, "v"));
    let sent = Sent { pass_through: false, ..Sent::default() }.rewrite(sent);
    for name in names {
        assert_eq!(get(&sent, name), ["v"], "{name}");
    }
}

#[test]
fn a_target_that_the_prefix_makes_too_long_is_refused_before_it_is_sent() {
    let long = format!("/{}", "a".repeat(65_000));
    let prefix: &'static str = Box::leak(format!("/{}", "x".repeat(600)).into_boxed_str());
    let refused = Sent { prefix, ..Sent::default() }.try_rewrite(request().uri(&long));
    assert_eq!(refused.unwrap_err(), Refusal::TooLong);
    let response = Refusal::TooLong.response();
    assert_eq!(response.status(), 414);
    assert_eq!(response.extensions().get(), Some(&onceward_http::Outcome::Release), "nothing was sent");
}

#[test]
fn a_client_behind_tls_is_told_of_as_https_and_so_is_a_tls_upstream_asked() {
    let sent = Sent::default().rewrite(request().extension(SecureClient));
    assert_eq!(get(&sent, "x-forwarded-proto"), ["https"]);
    assert_eq!(get(&sent, "forwarded"), ["for=192.0.2.1;host=\"shop.example:8080\";proto=https"]);
    let target = Target::parse(&"https://up".parse().unwrap()).unwrap();
    let outbound = Outbound {
        target: &target,
        spoken: Spoken::Http2,
        host: HostMode::Upstream,
        trust_forwarded: false,
        upgrade: None,
        pass_through: true,
    };
    let parts = request().uri("/a").body(()).unwrap().into_parts().0;
    assert_eq!(outbound.rewrite(&parts, None).unwrap().uri(), "https://up/a");
}

#[test]
fn what_stays_of_a_response_keeps_its_order_wherever_the_rest_stood() {
    let names = |lines: &[(&'static str, &'static str)]| {
        let mut upstream = HeaderMap::new();
        for (name, value) in lines {
            upstream.append(*name, HeaderValue::from_static(value));
        }
        let kept = response_headers(upstream, true);
        kept.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect::<Vec<_>>()
    };
    let stays = [("a", "1"), ("set-cookie", "2"), ("set-cookie", "3"), ("b", "4")];
    let goes = [("keep-alive", "timeout=5"), ("connection", "keep-alive, x"), ("x", "1"), ("upgrade", "h2c")];
    let expected = ["a=1", "set-cookie=2", "set-cookie=3", "b=4"];
    assert_eq!(names(&stays), expected);
    assert_eq!(names(&[&stays[..], &goes].concat()), expected, "behind");
    assert_eq!(names(&[&goes[..], &stays].concat()), expected, "before");
    assert_eq!(names(&[&stays[..2], &goes, &stays[2..]].concat()), expected, "in between");
}

#[test]
fn every_octet_of_an_address_is_spelled_as_usual() {
    for octet in 0..=u8::MAX {
        let client = std::net::SocketAddr::from(([octet, 0, 10, octet], 1));
        let sent = Sent::default().rewrite(request().extension(ClientAddr(client)));
        assert_eq!(get(&sent, "x-forwarded-for"), [client.ip().to_string()]);
    }
}
