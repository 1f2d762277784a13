//! What the name in a proxy's URL says: `name`, `name:port` or `scheme:name:port`.

use std::net::IpAddr;

use crate::Error;

/// The parts of such a name. An empty scheme is `http`; an empty port, the default one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) https: bool,
    pub(super) name: &'a str,
    pub(super) port: &'a str,
}

impl<'a> Target<'a> {
    /// Takes the name apart; `kind` is for the error.
    pub(super) fn parse(kind: &str, text: &'a str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => ("invalid", "", ""),
        };
        if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
            return Err(Error::bad_request(format!(
                "invalid {kind} request {text:?}"
            )));
        }
        Ok(Target {
            https: scheme == "https",
            name,
            port,
        })
    }
}

/// Refuses addresses that are the server's own, however they are written, and those of more than one machine.
pub(super) fn proxyable(host: &str) -> Result<IpAddr, Error> {
    let ip = host.parse();
    let ip = ip.map_err(|_| Error::bad_request("address not allowed"))?;
    allowed(ip).map(|()| ip)
}

/// What a host stands for: an address, or those of a name, which must all be [`proxyable`].
pub(super) async fn resolved(host: &str) -> Result<Vec<IpAddr>, Error> {
    let found: Vec<IpAddr> = match host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => {
            let found = tokio::net::lookup_host((host, 0)).await;
            let found = found.map_err(|error| Error::bad_request(error.to_string()))?;
            found.map(|address| address.ip()).collect()
        }
    };
    if found.is_empty() {
        return Err(Error::bad_request("no addresses for hostname"));
    }
    for ip in &found {
        allowed(*ip)?;
    }
    Ok(found)
}

fn allowed(ip: IpAddr) -> Result<(), Error> {
    let refused = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast()
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast(),
    };
    if refused || ip.to_canonical().is_unspecified() {
        return Err(Error::bad_request("address not allowed"));
    }
    Ok(())
}

/// A host and port as a URL has them.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The path of a proxy itself: the first segments, as many as `depth`.
pub(super) fn prefix(uri: &http::Uri, depth: usize) -> &str {
    let path = uri.path();
    let end = path.match_indices('/').nth(depth);
    end.map_or(path, |(at, _)| &path[..at])
}

/// What follows `/proxy` in the request's path, as it was written: escapes and the last slash are the
/// backend's business. `depth` is how many segments come before it.
pub(super) fn path_and_query(uri: &http::Uri, depth: usize, rest: &str) -> String {
    let mut path = uri.path();
    let mut found = true;
    for _ in 0..depth {
        match path.get(1..).and_then(|p| p.find('/')) {
            Some(at) => path = &path[at + 1..],
            None => {
                found = false;
                break;
            }
        }
    }
    let path = match found {
        true => path.to_owned(),
        false => format!("/{rest}"),
    };
    match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_port_and_a_scheme() {
        let target = Target::parse("pod", "https:web:443").unwrap();
        assert!(target.https);
        assert_eq!((target.name, target.port), ("web", "443"));
        assert_eq!(Target::parse("pod", "web").unwrap().port, "");
        for bad in ["", "a:b:c:d", "ftp:web:21", ":80"] {
            let error = Target::parse("pod", bad).unwrap_err();
            assert_eq!(
                error.status().message.as_deref(),
                Some(format!("invalid pod request {bad:?}").as_str())
            );
        }
    }

    #[test]
    fn the_rest_of_a_path_is_passed_on_as_it_was_written() {
        let cases = [
            (
                "/api/v1/namespaces/ns/pods/web/proxy/a%2Fb/?q=1",
                7,
                "/a%2Fb/?q=1",
            ),
            ("/api/v1/namespaces/ns/pods/web/proxy/", 7, "/"),
            ("/api/v1/namespaces/ns/pods/web/proxy", 7, "/"),
            ("/api/v1/nodes/n/proxy/metrics", 5, "/metrics"),
        ];
        for (uri, depth, wanted) in cases {
            let uri: http::Uri = uri.parse().unwrap();
            assert_eq!(path_and_query(&uri, depth, ""), wanted);
        }
    }

    #[test]
    fn the_servers_own_addresses_are_not_proxied_to() {
        for host in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "0.0.0.0",
            "nonsense",
            "::ffff:127.0.0.1",
            "::ffff:a9fe:a9fe",
            "::ffff:0.0.0.0",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(proxyable(host).is_err(), "{host}");
        }
        proxyable("10.244.0.5").unwrap();
        proxyable("fd00::5").unwrap();
    }
}
