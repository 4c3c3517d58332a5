//! What the roles of `settled migrate --grant` and the documented permissions of the broker allow, and what they don't.

mod broker;
mod roles;
