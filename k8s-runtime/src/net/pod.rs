//! [`PodNetwork`]: the pods of one node on a bridge.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
    process::{Command, Stdio},
};

use futures::TryStreamExt;
use parking_lot::Mutex;
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
    packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage},
};

use super::{AddressPool, IpCidr, netns, routes::Routes};
use crate::{Error, error::IoContext};

/// The name of a pod's interface inside its namespace.
const POD_INTERFACE: &str = "eth0";

/// How a node's pods are connected.
#[derive(Clone, Debug)]
pub struct PodNetworkOptions {
    bridge: String,
    pod_cidr: IpCidr,
    cluster_cidr: Option<IpCidr>,
    node_netns: Option<PathBuf>,
    mtu: u32,
}

impl PodNetworkOptions {
    /// Pods get addresses from this prefix, and are connected by the bridge `kube0`.
    pub fn new(pod_cidr: IpCidr) -> Self {
        Self {
            bridge: "kube0".to_owned(),
            pod_cidr,
            cluster_cidr: None,
            node_netns: None,
            mtu: 1500,
        }
    }

    /// Names the bridge. At most 15 characters.
    #[must_use]
    pub fn bridge(mut self, name: impl Into<String>) -> Self {
        self.bridge = name.into();
        self
    }

    /// Traffic to this prefix keeps its source address; traffic to elsewhere leaves with the
    /// node's. The pod CIDR itself when not set.
    #[must_use]
    pub fn cluster_cidr(mut self, cidr: IpCidr) -> Self {
        self.cluster_cidr = Some(cidr);
        self
    }

    /// The node's network namespace, if it is not the one this program runs in.
    #[must_use]
    pub fn node_netns(mut self, path: impl Into<PathBuf>) -> Self {
        self.node_netns = Some(path.into());
        self
    }

    /// The largest packet; 1500 when not set.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    fn table(&self) -> String {
        format!("k8s-runtime-{}", self.bridge)
    }
}

/// The network of a node's pods: a bridge with the gateway's address, a veth pair for each pod,
/// and one nftables table, `k8s-runtime-<bridge>`, that masquerades what leaves the cluster.
///
/// Everything is made by netlink in the node's network namespace, and removed by
/// [`remove`](Self::remove).
pub struct PodNetwork {
    options: PodNetworkOptions,
    handle: Handle,
    gateway: Ipv4Addr,
    pool: Mutex<AddressPool>,
    routes: Routes,
}

impl fmt::Debug for PodNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodNetwork")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

fn failed(what: &str) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |e| Error::Network(format!("{what}: {}", netlink_error(&e)))
}

pub(super) fn netlink_error(e: &rtnetlink::Error) -> String {
    match e {
        rtnetlink::Error::NetlinkError(m) => m.to_io().to_string(),
        other => other.to_string(),
    }
}

pub(super) fn code(e: &rtnetlink::Error) -> Option<i32> {
    match e {
        rtnetlink::Error::NetlinkError(m) => m.to_io().raw_os_error(),
        _ => None,
    }
}

/// A hardware address that follows from the address, so that a neighbour's cache can't be wrong.
fn mac(ip: Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d] = ip.octets();
    vec![0x0a, 0x58, a, b, c, d]
}

/// The node's end of a pod's veth pair.
fn host_interface(owner: &str) -> String {
    format!("veth{}", owner.get(..10).unwrap_or(owner))
}

impl PodNetwork {
    /// Makes the bridge and its rules, or takes over those that a former run left.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a bad bridge name or pod CIDR; [`Error::Network`] where the
    /// kernel or `nft` refuses.
    pub async fn set_up(options: PodNetworkOptions) -> Result<Self, Error> {
        let name_fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if options.bridge.is_empty()
            || options.bridge.len() > 15
            || !options.bridge.bytes().all(name_fits)
        {
            return Err(Error::InvalidConfig(format!(
                "invalid bridge name {:?}",
                options.bridge
            )));
        }
        let pool = AddressPool::new(options.pod_cidr)?;
        let IpAddr::V4(gateway) = pool.gateway() else {
            return Err(Error::InvalidConfig(format!(
                "pod CIDR {} is not IPv4",
                options.pod_cidr
            )));
        };
        let script = ruleset(&options);
        let handle = netns::inside(options.node_netns.clone(), move || {
            let handle = netns::netlink()?;
            write_sysctl("net/ipv4/ip_forward", "1")
                .context(|| "enable IPv4 forwarding".to_owned())?;
            // Without it, answers between pods of one node by-pass address translation. Where the
            // module is missing, the bridge hands nothing to the rules anyway.
            if let Err(error) = write_sysctl("net/bridge/bridge-nf-call-iptables", "1") {
                tracing::debug!(%error, "bridged packets are not filtered");
            }
            nft(&script)?;
            Ok(handle)
        })
        .await?;
        make_bridge(&handle, &options, gateway).await?;
        Ok(Self {
            options,
            handle,
            gateway,
            pool: Mutex::new(pool),
            routes: Routes::default(),
        })
    }

    /// The node's network namespace, if it is not this program's.
    pub fn node_netns(&self) -> Option<&std::path::Path> {
        self.options.node_netns.as_deref()
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The gateway's address, which is the node's on the bridge.
    pub fn gateway(&self) -> IpAddr {
        IpAddr::V4(self.gateway)
    }

    /// Connects a namespace. `inner` is a netlink connection inside it.
    pub(crate) async fn attach(
        &self,
        owner: &str,
        netns: &OwnedFd,
        inner: &Handle,
    ) -> Result<IpAddr, Error> {
        let addr = self.pool.lock().allocate(owner)?;
        match self.connect(owner, addr, netns, inner).await {
            Ok(()) => Ok(addr),
            Err(e) => {
                self.detach(owner).await;
                Err(e)
            }
        }
    }

    async fn connect(
        &self,
        owner: &str,
        addr: IpAddr,
        netns: &OwnedFd,
        inner: &Handle,
    ) -> Result<(), Error> {
        let IpAddr::V4(v4) = addr else {
            return Err(Error::Network(format!("{addr} is not IPv4")));
        };
        let bridge = self.bridge().await?;
        let name = host_interface(owner);
        let peer = LinkUnspec::new_with_name(POD_INTERFACE)
            .address(mac(v4))
            .mtu(self.options.mtu)
            .setns_by_fd(netns.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name.clone())
            .mtu(self.options.mtu)
            .controller(bridge)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle
            .link()
            .add(pair)
            .execute()
            .await
            .map_err(failed("make a veth pair"))?;
        let port = find(&self.handle, &name).await?;
        let port = port
            .ok_or_else(|| Error::Network(format!("{name} disappeared")))?
            .header
            .index;
        self.set_hairpin(port).await?;

        let eth0 = find(inner, POD_INTERFACE).await?;
        let eth0 = eth0
            .ok_or_else(|| Error::Network(format!("{POD_INTERFACE} disappeared")))?
            .header
            .index;
        let up = LinkUnspec::new_with_index(eth0).up().build();
        inner
            .link()
            .change(up)
            .execute()
            .await
            .map_err(failed("bring the pod's interface up"))?;
        let address = inner
            .address()
            .add(eth0, addr, self.options.pod_cidr.prefix());
        address
            .execute()
            .await
            .map_err(failed("give the pod its address"))?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(self.gateway)
            .build();
        inner
            .route()
            .add(route)
            .execute()
            .await
            .map_err(failed("set the pod's default route"))
    }

    /// The bridge's index. One that somebody removed is made again, with the ports that it had.
    async fn bridge(&self) -> Result<u32, Error> {
        let Self {
            handle, options, ..
        } = self;
        if let Some(link) = find(handle, &options.bridge).await? {
            return Ok(link.header.index);
        }
        tracing::warn!(
            bridge = options.bridge,
            "the pods' bridge is gone, it is made again"
        );
        let bridge = make_bridge(handle, options, self.gateway).await?;
        let owners: Vec<String> = self.pool.lock().owners().map(str::to_owned).collect();
        for owner in owners {
            let Some(port) = find(handle, &host_interface(&owner)).await? else {
                continue;
            };
            let port = port.header.index;
            let plug = LinkUnspec::new_with_index(port).controller(bridge).build();
            let plug = handle.link().change(plug).execute().await;
            plug.map_err(failed("connect a pod again"))?;
            self.set_hairpin(port).await?;
        }
        Ok(bridge)
    }

    /// Lets a pod reach itself by way of a Service.
    async fn set_hairpin(&self, port: u32) -> Result<(), Error> {
        let hairpin = LinkBridgePort::new(port).hairpin(true).build();
        let set = self.handle.link().change(hairpin).execute().await;
        set.map_err(failed("set up the bridge port"))
    }

    /// Notes an address that a sandbox of a former run has.
    pub(crate) fn adopt(&self, owner: &str, addr: IpAddr) -> Result<(), Error> {
        self.pool.lock().reserve(owner, addr)
    }

    /// Disconnects a namespace and takes its address back.
    pub(crate) async fn detach(&self, owner: &str) {
        match find(&self.handle, &host_interface(owner)).await {
            Ok(Some(link)) => self.delete(link.header.index).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(owner, %error, "a pod's link stays"),
        }
        self.pool.lock().release(owner);
    }

    async fn delete(&self, index: u32) {
        match self.handle.link().del(index).execute().await {
            Err(e) if code(&e) != Some(nix::libc::ENODEV) => {
                tracing::warn!(error = netlink_error(&e), "a link stays");
            }
            _ => {}
        }
    }

    /// Removes links on the bridge that belong to none of these owners.
    pub(crate) async fn sweep(&self, owners: &[String]) -> Result<(), Error> {
        let bridge = self.bridge().await?;
        let known: BTreeSet<String> = owners.iter().map(|o| host_interface(o)).collect();
        let mut links = self.handle.link().get().execute();
        let mut gone = Vec::new();
        while let Some(link) = links.try_next().await.map_err(failed("list links"))? {
            let on_bridge = link.attributes.contains(&LinkAttribute::Controller(bridge));
            if let (true, Some(name)) = (on_bridge, name_of(&link))
                && name.starts_with("veth")
                && !known.contains(name)
            {
                gone.push(link.header.index);
            }
        }
        for index in gone {
            self.delete(index).await;
        }
        Ok(())
    }

    /// Removes the bridge, the routes and the rules. Pods that are still connected lose their network.
    ///
    /// # Errors
    /// If one of them could not be removed.
    pub async fn remove(&self) -> Result<(), Error> {
        self.set_routes([]).await?;
        if let Some(bridge) = find(&self.handle, &self.options.bridge).await? {
            self.handle
                .link()
                .del(bridge.header.index)
                .execute()
                .await
                .map_err(failed("remove the bridge"))?;
        }
        let table = self.options.table();
        let script = format!("add table ip {table}\ndelete table ip {table}\n");
        netns::inside(self.options.node_netns.clone(), move || nft(&script)).await
    }
}

/// Brings the loop-back interface up.
pub(crate) async fn loopback_up(inner: &Handle) -> Result<(), Error> {
    // It is the first interface of every namespace.
    let lo = LinkUnspec::new_with_index(1).up().build();
    inner
        .link()
        .change(lo)
        .execute()
        .await
        .map_err(failed("bring lo up"))
}

/// Makes the bridge if it is not there, and sees to it that it is up and has its address. Its index.
async fn make_bridge(
    handle: &Handle,
    options: &PodNetworkOptions,
    gateway: Ipv4Addr,
) -> Result<u32, Error> {
    let bridge = match find(handle, &options.bridge).await? {
        Some(link) if is_bridge(&link) => link.header.index,
        Some(_) => {
            return Err(Error::Network(format!(
                "there is a link {} that is no bridge",
                options.bridge
            )));
        }
        None => {
            let message = LinkBridge::new(&options.bridge)
                .address(mac(gateway))
                .mtu(options.mtu)
                .up()
                .build();
            match handle.link().add(message).execute().await {
                Err(e) if code(&e) == Some(nix::libc::EEXIST) => {}
                r => r.map_err(failed("make the bridge"))?,
            }
            let link = find(handle, &options.bridge).await?;
            link.ok_or_else(|| Error::Network("the bridge disappeared".to_owned()))?
                .header
                .index
        }
    };
    let up = LinkUnspec::new_with_index(bridge).up().build();
    let up = handle.link().change(up).execute().await;
    up.map_err(failed("bring the bridge up"))?;
    let address = handle
        .address()
        .add(bridge, IpAddr::V4(gateway), options.pod_cidr.prefix());
    match address.execute().await {
        Err(e) if code(&e) == Some(nix::libc::EEXIST) => {}
        r => r.map_err(failed("give the bridge its address"))?,
    }
    Ok(bridge)
}

async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, Error> {
    match handle
        .link()
        .get()
        .match_name(name)
        .execute()
        .try_next()
        .await
    {
        Ok(link) => Ok(link),
        Err(e) if code(&e) == Some(nix::libc::ENODEV) => Ok(None),
        Err(e) => Err(failed("look for a link")(e)),
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn is_bridge(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|a| match a {
        LinkAttribute::LinkInfo(info) => info.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    })
}

pub(crate) fn write_sysctl(name: &str, value: &str) -> std::io::Result<()> {
    let path = format!("/proc/sys/{name}");
    // Writing needs a privilege that may be missing where the value is right already.
    if fs::read_to_string(&path).is_ok_and(|v| v.trim() == value) {
        return Ok(());
    }
    fs::write(path, value)
}

/// One transaction that replaces the table of a former run.
fn ruleset(options: &PodNetworkOptions) -> String {
    let table = options.table();
    let (pods, cluster) = (
        options.pod_cidr,
        options.cluster_cidr.unwrap_or(options.pod_cidr),
    );
    format!(
        "add table ip {table}\n\
         delete table ip {table}\n\
         table ip {table} {{\n\
           chain postrouting {{\n\
             type nat hook postrouting priority srcnat; policy accept;\n\
             ip saddr {pods} ip daddr != {cluster} ip daddr != 224.0.0.0/4 counter masquerade\n\
           }}\n\
         }}\n"
    )
}

/// Runs `nft` in the calling thread's network namespace.
fn nft(script: &str) -> Result<(), Error> {
    let fail = |message: String| Error::Network(format!("nft: {message}"));
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| fail(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(script.as_bytes())
            .map_err(|e| fail(e.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|e| fail(e.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(fail(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}
