//! Connects to the hosts of a list one by one. tokio-postgres limits only the time for the socket; a host that accepts
//! the connection and then sends nothing would keep it from trying the next one.

use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, Error, Socket};

use super::driver::{self, Driven};

/// Why no host accepted the connection: the error of the last one, or `None` if it did not respond in time.
pub(super) type NoHost = Option<Error>;

/// Connects to the first host of `config` that accepts within `limit`.
pub(super) async fn connect<T>(config: &Config, tls: T, limit: Duration) -> Result<Driven, NoHost>
where
    T: MakeTlsConnect<Socket> + Clone,
    T::Stream: Send + 'static,
{
    let mut reason = None;
    for host in each(config) {
        match tokio::time::timeout(limit, host.connect(tls.clone())).await {
            Ok(Ok((client, connection))) => return Ok(driver::drive(client, connection)),
            Ok(Err(error)) => reason = Some(error),
            Err(_) => {}
        }
    }
    Err(reason)
}

/// Returns a configuration for each host.
fn each(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    if count < 2 {
        return vec![config.clone()];
    }
    let one = |place: usize| {
        let mut single = without_hosts(config);
        match hosts.get(place) {
            Some(Host::Tcp(name)) => drop(single.host(name)),
            Some(Host::Unix(path)) => drop(single.host_path(path)),
            None => {}
        }
        if let Some(address) = addresses.get(place) {
            single.hostaddr(*address);
        }
        if let Some(port) = ports.get(place).or(ports.first()) {
            single.port(*port);
        }
        single
    };
    (0..count).map(one).collect()
}

fn without_hosts(config: &Config) -> Config {
    let mut copy = Config::new();
    copy.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    if let Some(user) = config.get_user() {
        copy.user(user);
    }
    if let Some(password) = config.get_password() {
        copy.password(password);
    }
    if let Some(database) = config.get_dbname() {
        copy.dbname(database);
    }
    if let Some(options) = config.get_options() {
        copy.options(options);
    }
    if let Some(name) = config.get_application_name() {
        copy.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        copy.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        copy.tcp_user_timeout(*limit);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        copy.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        copy.keepalives_retries(retries);
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_keeps_its_port_and_everything_else() {
        let url = "postgresql://u:p@a:1,b:2/db?application_name=x&options=-c%20jit=off&target_session_attrs=read-write\
                   &connect_timeout=3&keepalives_idle=7&keepalives_interval=8&keepalives_retries=2&tcp_user_timeout=9";
        let each = each(&url.parse().expect("a URL"));
        for (place, host, port) in [(0, "a", 1), (1, "b", 2)] {
            let expected: Config = url.replace("a:1,b:2", &format!("{host}:{port}")).parse().expect("a URL");
            assert_eq!(each[place], expected);
        }
        let shared_port = super::each(&"postgresql://a,b:7/db".parse().expect("a URL"));
        assert!(shared_port.iter().all(|config| config.get_hosts().len() == 1));
    }
}
