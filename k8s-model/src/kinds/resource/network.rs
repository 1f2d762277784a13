//! What a driver tells of a device in a network.

use std::net::IpAddr;

use k8s_openapi::api::resource::v1::NetworkDeviceData;

use super::lists::each_unique;
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{list, text},
};

const INTERFACE: usize = 256;
const HARDWARE: usize = 128;
const ADDRESSES: usize = 16;

/// What is wrong with it.
pub(super) fn network(data: &NetworkDeviceData, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    for (name, value, most) in [
        ("interfaceName", &data.interface_name, INTERFACE),
        ("hardwareAddress", &data.hardware_address, HARDWARE),
    ] {
        if text(value).len() > most {
            out.push(field::too_long(path.child(name), most));
        }
    }
    let (ips, path) = (list(&data.ips), path.child("ips"));
    out.extend(each_unique(ips, ADDRESSES, &path, String::as_str, |ip, path| {
        interface_address(ip, path)
    }));
    out
}

/// An address with the length of its network's prefix, as in `192.168.1.5/24`, in canonical form.
fn interface_address(value: &str, path: &Path) -> ErrorList {
    let text = match canonical(value) {
        Some(canonical) if canonical == value => return ErrorList::new(),
        Some(canonical) => format!("must be in canonical form ({canonical:?})"),
        None => "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned(),
    };
    vec![field::invalid(path.clone(), value, text)]
}

/// The canonical form of an address with a prefix. As upstream's historical parser, it takes leading zeros.
fn canonical(value: &str) -> Option<String> {
    let (address, length) = value.split_once('/')?;
    let address: IpAddr = match address.contains(':') {
        true => address.parse().ok()?,
        false => {
            let parts = address.split('.').map(|part| match part.trim_start_matches('0') {
                "" if !part.is_empty() => "0",
                digits => digits,
            });
            parts.collect::<Vec<_>>().join(".").parse().ok()?
        }
    };
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    if length > if address.is_ipv4() { 32 } else { 128 } {
        return None;
    }
    let plain = address.to_canonical();
    // An IPv4 address that is written as one of IPv6 has its prefix there.
    let length = if plain.is_ipv4() && length > 32 { length.saturating_sub(96) } else { length };
    Some(format!("{plain}/{length}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_canonical_form() {
        for (value, form) in [
            ("192.168.1.5/24", Some("192.168.1.5/24")),
            ("192.168.001.5/24", Some("192.168.1.5/24")),
            ("::ffff:192.168.0.1/120", Some("192.168.0.1/24")),
            ("2001:DB8::5/64", Some("2001:db8::5/64")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("10.0.0.1", None),
            ("10.0.0.1/33", None),
            ("10.0.0/8", None),
            ("10.0.0./8", None),
            ("a/8", None),
            ("::1/129", None),
            ("::1/+1", None),
        ] {
            assert_eq!(canonical(value).as_deref(), form, "{value}");
        }
        let found = interface_address("::1/064", &Path::new("ips"));
        let text = r#"ips: Invalid value: "::1/064": must be in canonical form ("::1/64")"#;
        assert_eq!(found[0].to_string(), text);
    }
}
