//! The program from outside, without servers: its command line, its admin server, and its life under a service manager.

mod admin;
mod command_line;
mod lifecycle;
mod reload;
