//! What is served over SPDY/3.1: to older clients and the API server as it is, to `kubectl port-forward` inside of
//! WebSocket messages (KEP-4006).

pub(super) mod port_forward;
pub(super) mod remote_command;
