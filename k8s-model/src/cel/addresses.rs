//! Addresses: of the web, of hosts and of networks.

use std::{net::IpAddr, rc::Rc};

use super::{CelError, Val, value::Url};

type Found<'v> = Result<Val<'v>, CelError>;

/// `url(…)`, `isURL(…)` and so on.
pub(super) fn parse<'v>(name: &str, text: &str) -> Found<'v> {
    let failed = |what: &str| {
        CelError::Failed(format!(
            "{what} {text:?} parse error during conversion from string"
        ))
    };
    match name {
        "isURL" => Ok(url(text).is_some().into()),
        "isIP" => Ok(ip(text).is_some().into()),
        "isCIDR" => Ok(cidr(text).is_some().into()),
        "url" => match url(text) {
            Some(url) => Ok(Val::Url(Rc::new(url))),
            None => Err(CelError::Failed(format!(
                "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
            ))),
        },
        "ip" => ip(text).map(Val::Ip).ok_or_else(|| failed("IP Address")),
        _ => cidr(text)
            .map(|(ip, bits)| Val::Cidr(ip, bits))
            .ok_or_else(|| failed("network address")),
    }
}

/// As Go's `url.ParseRequestURI`: absolute, or a path from the root.
fn url(text: &str) -> Option<Url> {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return None;
    }
    let (rest, query) = match text.split_once('?') {
        Some((rest, query)) => (rest, query.to_owned()),
        None => (text, String::new()),
    };
    let (scheme, host, path) = match rest.split_once("://") {
        Some((scheme, rest)) => {
            let fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            if !fits {
                return None;
            }
            let end = rest.find('/').unwrap_or(rest.len());
            (
                scheme.to_lowercase(),
                rest[..end].to_owned(),
                rest[end..].to_owned(),
            )
        }
        None if rest.starts_with('/') => (String::new(), String::new(), rest.to_owned()),
        None => return None,
    };
    if host.contains(' ') {
        return None;
    }
    let host = host
        .rsplit_once('@')
        .map_or(host.clone(), |(_, host)| host.to_owned());
    Some(Url {
        scheme,
        host,
        path: path.replace(' ', "%20"),
        query,
    })
}

impl Url {
    fn host_and_port(&self) -> (&str, &str) {
        match self.host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (&self.host, ""),
        }
    }
}

/// Neither a zone nor an IPv4 address in the form of IPv6 is one.
fn ip(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        ip => Some(ip),
    }
}

fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address = ip(address)?;
    let bits: u8 = bits.parse().ok().filter(|_| !bits.starts_with('+'))?;
    (bits <= width(address)).then_some((address, bits))
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The address as a number, left-aligned.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn mask(ip: IpAddr, bits: u8) -> u128 {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    number(ip) & mask
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    let masked = mask(ip, bits);
    match ip {
        IpAddr::V4(_) => {
            let high = u32::try_from(masked >> 96).unwrap_or(0);
            IpAddr::V4(high.into())
        }
        IpAddr::V6(_) => IpAddr::V6(masked.into()),
    }
}

/// `ip.isCanonical(text)`.
pub(super) fn is_canonical<'v>(text: &str) -> Found<'v> {
    match ip(text) {
        Some(ip) => Ok((ip.to_string() == text).into()),
        None => Err(CelError::Failed(format!(
            "IP Address {text:?} parse error during conversion from string"
        ))),
    }
}

/// `url.getHost()`, `cidr.containsIP(…)` and so on.
pub(super) fn method<'v>(name: &str, args: &[Val<'v>]) -> Found<'v> {
    let other_ip = |value: &Val<'v>| match value {
        Val::Ip(ip) => Ok(*ip),
        Val::String(text) => ip(text).ok_or_else(|| {
            CelError::Failed(format!(
                "IP Address {text:?} parse error during conversion from string"
            ))
        }),
        _ => Err(CelError::NoOverload),
    };
    let other_cidr = |value: &Val<'v>| match value {
        Val::Cidr(ip, bits) => Ok((*ip, *bits)),
        Val::String(text) => cidr(text).ok_or_else(|| {
            CelError::Failed(format!(
                "network address {text:?} parse error during conversion from string"
            ))
        }),
        _ => Err(CelError::NoOverload),
    };
    match args {
        [Val::Url(url)] => Ok(match name {
            "getScheme" => url.scheme.as_str().into(),
            "getHost" => url.host.as_str().into(),
            "getHostname" => {
                let host = url.host_and_port().0;
                host.trim_start_matches('[').trim_end_matches(']').into()
            }
            "getPort" => url.host_and_port().1.into(),
            "getEscapedPath" => url.path.as_str().into(),
            "getQuery" => query(&url.query),
            _ => return Err(CelError::NoOverload),
        }),
        [Val::Ip(ip)] => Ok(match name {
            "family" => Val::Int(if ip.is_ipv4() { 4 } else { 6 }),
            "isUnspecified" => ip.is_unspecified().into(),
            "isLoopback" => ip.is_loopback().into(),
            "isLinkLocalMulticast" => is_link_local_multicast(*ip).into(),
            "isLinkLocalUnicast" => is_link_local_unicast(*ip).into(),
            "isGlobalUnicast" => {
                let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
                (!ip.is_unspecified()
                    && !ip.is_loopback()
                    && !ip.is_multicast()
                    && !broadcast
                    && !is_link_local_unicast(*ip))
                .into()
            }
            _ => return Err(CelError::NoOverload),
        }),
        [Val::Cidr(ip, bits)] => Ok(match name {
            "ip" => Val::Ip(*ip),
            "masked" => Val::Cidr(masked(*ip, *bits), *bits),
            "prefixLength" => Val::Int((*bits).into()),
            _ => return Err(CelError::NoOverload),
        }),
        [Val::Cidr(ip, bits), other] if name == "containsIP" => {
            let other = other_ip(other)?;
            Ok((ip.is_ipv4() == other.is_ipv4() && mask(*ip, *bits) == mask(other, *bits)).into())
        }
        [Val::Cidr(ip, bits), other] if name == "containsCIDR" => {
            let (other, others) = other_cidr(other)?;
            Ok((ip.is_ipv4() == other.is_ipv4()
                && others >= *bits
                && mask(*ip, *bits) == mask(other, *bits))
            .into())
        }
        _ => Err(CelError::NoOverload),
    }
}

fn is_link_local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

/// The values of each name in a query.
fn query<'v>(text: &str) -> Val<'v> {
    let mut out: Vec<(String, Vec<Val<'v>>)> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        match out.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value.into()),
            None => out.push((name, vec![value.into()])),
        }
    }
    let entries = out
        .into_iter()
        .map(|(name, values)| (name.into(), Val::List(Rc::new(values))));
    Val::Map(Rc::new(entries.collect()))
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%')
            .then(|| digit(at + 1).zip(digit(at + 2)))
            .flatten()
            .and_then(|(a, b)| u8::try_from(a * 16 + b).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
