//! The daemon as a whole, each test on the real binary and real servers, which all of them share:
//! a program more would be a RabbitMQ more to wait for.

mod audit;
mod behaviour;
mod clients;
mod collations;
mod crowd;
mod dev_servers;
mod incarnation;
mod instances;
mod later_schema;
mod life;
mod listing;
mod long_work;
mod looking_up;
mod memory;
mod migrations;
mod operators;
mod poolers;
mod preconditions;
mod privileges;
mod restore;
mod store;
mod stream;
mod terminal;
mod tls;
mod traces;
