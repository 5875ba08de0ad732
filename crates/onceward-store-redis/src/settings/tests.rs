use super::*;

fn read(url: &str) -> RedisSettings {
    RedisSettings::from_url(url).unwrap()
}

#[test]
fn a_url_says_every_setting_and_the_rest_stay_as_they_are() {
    let plain = read("redis://cache");
    assert_eq!(format!("{plain:?}"), format!("{:?}", RedisSettings::new("cache", 6379)));
    let full = read(
        "rediss://me%40work:p%3Aw%2F%3F@cache.example:7000/3?prefix=shop:1&buckets=128&durability=durable&\
         replicas=2&wait=500ms&call_timeout=2s&max_queue=10&hints=off&ca=/etc/ca%20s.pem",
    );
    assert_eq!(full.servers, [Address { host: "cache.example".into(), port: 7000 }]);
    assert_eq!((full.cluster, full.tls, full.database, full.buckets), (false, true, 3, Some(128)));
    assert_eq!(full.user.as_deref(), Some("me@work"));
    assert_eq!(full.password.as_ref().map(Password::reveal), Some("p:w/?"));
    assert_eq!((full.prefix.as_str(), full.durability), ("shop:1", Some(Durability::Durable)));
    assert_eq!((full.replicas, full.wait), (2, Duration::from_millis(500)));
    assert_eq!((full.call_timeout, full.max_queue), (Duration::from_secs(2), 10));
    assert_eq!((full.hints, plain.hints, read("redis://a?hints=on").hints), (false, true, true));
    assert_eq!(full.ca, Some("/etc/ca s.pem".into()));

    let only_password = read("redis://:pw@[::1]:7001");
    assert_eq!((only_password.user, only_password.password), (None, Some(Password::new("pw"))));
    assert_eq!(only_password.servers[0].to_string(), "[::1]:7001");
    let cluster = read("redis-cluster://a:1,b,c:3");
    let shown: Vec<_> = cluster.servers.iter().map(ToString::to_string).collect();
    let sentinel = read("rediss-sentinel://me:pw@a,b:7/my%20master/2?sentinel_user=s&sentinel_password=t");
    let ports: Vec<_> = sentinel.servers.iter().map(|it| it.port).collect();
    assert_eq!((ports, sentinel.tls, sentinel.cluster, sentinel.database), (vec![26_379, 7], true, false, 2));
    let named =
        Sentinel { name: "my master".into(), user: Some("s".into()), password: Some(Password::new("t")) };
    assert_eq!((sentinel.sentinel, sentinel.user.as_deref()), (Some(named), Some("me")));
    assert_eq!((cluster.cluster, shown), (true, vec!["a:1".into(), "b:6379".into(), "c:3".into()]));
}

#[test]
fn a_wrong_url_is_refused_by_parameter_with_what_to_write() {
    for (url, parts) in [
        ("embedded:./data", ["begin with", "`redis://`"]),
        ("redis:cache", ["begin with", "`redis://`"]),
        ("redis://", ["no server", "`redis://HOST:PORT`"]),
        ("redis://cache?hints=no", ["`hints`", "`off`"]),
        ("redis://cache:0", ["no server", "`redis://HOST:PORT`"]),
        ("redis://cache:+1", ["no server", "`redis://HOST:PORT`"]),
        ("redis://a b", ["no server", "`redis://HOST:PORT`"]),
        ("redis://::1", ["no server", "`redis://HOST:PORT`"]),
        ("redis://a,b", ["several", "`redis-cluster://`"]),
        ("redisx://a", ["begin with", "`redis://`"]),
        ("redis-sentinels://a/m", ["begin with", "`redis://`"]),
        ("redis-sentinel://a,b", ["what the Sentinels call", "/NAME"]),
        ("redis-sentinel://a/m/x", ["path", "number of a database"]),
        ("redis-sentinel://a/m?sentinel_password=", ["cannot be read", "%XX"]),
        ("redis://a?sentinel_user=x", ["`sentinel_user`", "with Sentinels"]),
        ("redis://me@cache", ["cannot be read", "`USER:PASSWORD@`"]),
        ("redis://me:%zz@cache", ["cannot be read", "%XX"]),
        ("redis://cache/x", ["path", "`redis://HOST:PORT/0`"]),
        ("redis-cluster://cache/1", ["one database", "path"]),
        ("redis://cache?prefix=", ["`prefix`", "letters"]),
        ("redis://cache?prefix={a}", ["`prefix`", "letters"]),
        ("redis://cache?buckets=0", ["`buckets`", "1 to 4096"]),
        ("redis://cache?durability=yes", ["`yes`", "`durable` or `relaxed`"]),
        ("redis://cache?replicas=-1", ["`replicas`", "0 to 16"]),
        ("redis://cache?wait=1", ["`wait`", "`500ms`"]),
        ("redis://cache?wait=5s", ["`wait`", "`call_timeout`"]),
        ("redis://cache?call_timeout=6m", ["`call_timeout`", "5m"]),
        ("redis://cache?max_queue=0", ["`max_queue`", "65536"]),
        ("redis://cache?ca=", ["`ca`", "PEM"]),
        ("redis://cache?prefix=a&prefix=b", ["`prefix` twice", "once"]),
        ("redis://cache?Prefix=a", ["`Prefix`", "prefix, buckets"]),
        ("redis://cache?timeout=1s", ["`timeout`", "call_timeout"]),
    ] {
        let said = RedisSettings::from_url(url).unwrap_err().to_string();
        assert!(parts.iter().all(|it| said.contains(it)), "{url}: {said}");
    }
}

#[test]
fn no_text_shows_a_password() {
    let settings = read("redis://me:hunter2@cache");
    assert!(!format!("{settings:?}").contains("hunter2"));
    for url in ["redis://me:hunter2@a,b", "redis://me:hunter2%@cache", "redis://me:hunter2@cache/x"] {
        let error = RedisSettings::from_url(url).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
    }
}
