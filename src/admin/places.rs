//! Which connections are served. A new one always gets a place: if there is none, an older one is closed for it.

use std::net::IpAddr;

use tokio::task::{AbortHandle, JoinSet};

use super::limits::Limits;

/// The connections that are served, each in a task. Dropping it closes all of them.
pub(super) struct Places {
    limits: Limits,
    /// The oldest first.
    held: Vec<Place>,
    tasks: JoinSet<()>,
}

struct Place {
    client: IpAddr,
    task: AbortHandle,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, held: Vec::new(), tasks: JoinSet::new() }
    }

    /// Serves a connection of this client. If it has too many, closes its oldest one; if there are too many, closes the
    /// oldest one of the client that has the most.
    pub(super) fn serve(&mut self, address: IpAddr, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.held.retain(|place| !place.task.is_finished());
        let client = client(address);
        if let Some(oldest) = self.in_the_way_of(client) {
            self.held.remove(oldest).task.abort();
        }
        self.held.push(Place { client, task: self.tasks.spawn(connection) });
    }

    /// Waits until no connection is left.
    pub(super) async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    fn in_the_way_of(&self, client: IpAddr) -> Option<usize> {
        let count = |client| self.held.iter().filter(|place| place.client == client).count();
        let client = if count(client) >= self.limits.per_address {
            client
        } else if self.held.len() >= self.limits.connections {
            // Of several that have the most, the last in this order: the one that has been there longest.
            self.held.iter().rev().max_by_key(|place| count(place.client))?.client
        } else {
            return None;
        };
        self.held.iter().position(|place| place.client == client)
    }
}

/// Who has this address. In IPv6 a host has as many addresses as it likes, all with one prefix of 64 bits.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMITS: Limits = {
        let second = std::time::Duration::from_secs(1);
        Limits { connections: 4, per_address: 3, request: second, response: second }
    };

    /// Serves endless connections of these hosts, one after another. Returns the numbers of those that are left.
    async fn left(hosts: &[&str]) -> Vec<usize> {
        let mut places = Places::new(LIMITS);
        let mut tasks = Vec::new();
        for host in hosts {
            places.serve(host.parse().expect("an address"), pending());
            tasks.push(places.held.last().expect("just added").task.clone());
            tokio::task::yield_now().await;
        }
        assert!(places.held.len() <= LIMITS.connections);
        let numbered = tasks.iter().enumerate();
        numbered.filter(|(_, task)| !task.is_finished()).map(|(number, _)| number).collect()
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_the_oldest_of_whoever_has_the_most() {
        let (a, b, c) = ("192.0.2.1", "192.0.2.2", "192.0.2.3");
        assert_eq!(left(&[a, b, c]).await, [0, 1, 2]);
        assert_eq!(left(&[a, a, a, a, a]).await, [2, 3, 4], "too many of one");
        assert_eq!(left(&[b, a, a, a, c]).await, [0, 2, 3, 4], "too many in all: the one with most of them gives way");
        assert_eq!(left(&[a, b, c, "192.0.2.4", "192.0.2.5"]).await, [1, 2, 3, 4], "the oldest of equals");
    }

    #[tokio::test]
    async fn a_host_is_one_client_whatever_addresses_it_has() {
        let two_prefixes =
            ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1", "2001:db8:0:1:ffff::", "2001:db8:0:1::3"];
        assert_eq!(left(&two_prefixes).await, [1, 2, 3, 4]);
        let mapped = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"];
        assert_eq!(left(&mapped).await, [1, 2, 3]);
    }
}
