#![no_main]

settled_fuzz::target!(settled_fuzz::checks::stream::check);
