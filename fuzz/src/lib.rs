//! The very files of the house that read what others wrote, compiled without the rest of it: with all that a fuzzer
//! needs in every dependency, the whole house would take minutes to build, and this takes seconds.

#![allow(dead_code, unreachable_pub, reason = "the targets use a part of what the files offer")]

#[path = "../../src/model/mod.rs"]
pub mod model;

#[path = "../../src/io"]
pub mod io {
    pub mod spool {
        pub mod file;
        pub mod holder;
        pub mod name;
        pub mod receipt;
    }
}
