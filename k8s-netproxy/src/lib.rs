//! Services to dataplane rules, and cluster DNS.
