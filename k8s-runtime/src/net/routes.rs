//! Routes to the pods of other nodes.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use rtnetlink::RouteMessageBuilder;

use super::{
    IpCidr, PodNetwork,
    pod::{code, netlink_error},
};
use crate::Error;

/// The routes that were made: range of pods to address of node.
pub(super) type Routes = tokio::sync::Mutex<HashMap<IpCidr, Ipv4Addr>>;

fn message(pods: IpCidr, node: Ipv4Addr) -> Option<rtnetlink::packet_route::route::RouteMessage> {
    let IpAddr::V4(network) = pods.network() else {
        return None;
    };
    let builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(network, pods.prefix())
        .gateway(node);
    Some(builder.build())
}

impl PodNetwork {
    /// Leads to the pods of other nodes: each range by the address of its node, which must be on a network
    /// that this node is on as well. Routes of earlier calls that are not among these are removed;
    /// [`remove`](Self::remove) removes them all. IPv6 is passed over.
    ///
    /// # Errors
    /// [`Error::Network`] with the first route that the kernel refused; the others are set all the same.
    pub async fn set_routes(
        &self,
        routes: impl IntoIterator<Item = (IpCidr, IpAddr)> + Send,
    ) -> Result<(), Error> {
        let wanted: HashMap<IpCidr, Ipv4Addr> = routes
            .into_iter()
            .filter_map(|(pods, node)| match (pods.network(), node) {
                (IpAddr::V4(_), IpAddr::V4(node)) => Some((pods, node)),
                _ => None,
            })
            .collect();
        let mut made = self.routes().lock().await;
        let mut result = Ok(());
        let gone: Vec<_> = made
            .iter()
            .filter(|(pods, node)| wanted.get(pods) != Some(node))
            .map(|(pods, node)| (*pods, *node))
            .collect();
        for (pods, node) in gone {
            made.remove(&pods);
            let Some(message) = message(pods, node) else {
                continue;
            };
            match self.handle().route().del(message).execute().await {
                // The interface that it led through may be gone, and the route with it.
                Err(e) if code(&e) != Some(nix::libc::ESRCH) => {
                    result = result.and(Err(refused("remove", pods, node, &e)));
                }
                _ => {}
            }
        }
        for (pods, node) in wanted {
            if made.contains_key(&pods) {
                continue;
            }
            let Some(message) = message(pods, node) else {
                continue;
            };
            // One that is left from a former run is put right.
            match self.handle().route().add(message).replace().execute().await {
                Ok(()) => {
                    made.insert(pods, node);
                }
                Err(e) => result = result.and(Err(refused("make", pods, node, &e))),
            }
        }
        result
    }
}

fn refused(what: &str, pods: IpCidr, node: Ipv4Addr, error: &rtnetlink::Error) -> Error {
    let error = netlink_error(error);
    Error::Network(format!("{what} the route to {pods} by {node}: {error}"))
}
