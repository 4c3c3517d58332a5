//! The real `settled-loadtest`, run as a whole. One program, so that its tests share servers.

mod chaos;
mod defects;
mod given_servers;
mod references;
mod runs;
mod support;
