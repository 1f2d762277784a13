//! The parts of the table that don't depend on Services.

/// The table's name.
pub(super) const TABLE: &str = "kube-proxy";

/// The mark on packets whose source address must become the node's.
pub(super) const MASQUERADE_MARK: u32 = 0x4000;

/// The commands that make the table anew with everything but the Services in it.
pub(super) fn skeleton() -> String {
    let mark = MASQUERADE_MARK;
    format!(
        "add table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
  comment \"rules for Services\"
  set cluster-ips {{ type ipv4_addr; comment \"all cluster IPs\"; }}
  map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map service-nodeports {{ type inet_proto . inet_service : verdict; }}
  map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; }}

  chain mark-for-masquerade {{ meta mark set meta mark or {mark:#x}; }}
  chain reject-chain {{ reject; }}
  chain services {{
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @service-nodeports
  }}
  chain endpoints-check {{
    ip daddr . meta l4proto . th dport vmap @no-endpoint-services
    ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @no-endpoint-nodeports
  }}
  chain cluster-ips-check {{
    ip daddr @cluster-ips reject comment \"a port that the Service does not have\"
  }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{
    type nat hook postrouting priority srcnat;
    meta mark & {mark:#x} == 0 return
    meta mark set meta mark xor {mark:#x}
    masquerade fully-random
  }}
  chain filter-input {{ type filter hook input priority -110; ct state new jump endpoints-check; }}
  chain filter-forward {{ type filter hook forward priority -110; ct state new jump endpoints-check; }}
  chain filter-output {{ type filter hook output priority -110; ct state new jump endpoints-check; }}
  chain late-forward {{ type filter hook forward priority filter; ct state new jump cluster-ips-check; }}
  chain late-output {{ type filter hook output priority filter; ct state new jump cluster-ips-check; }}
}}
"
    )
}
