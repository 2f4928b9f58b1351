//! Writing on GitHub, once: the real client and the real core against a small GitHub in this process, which can be told to
//! break at every request, and a supervisor that can be killed before and after every step.

pub(crate) mod app;
mod claims;
mod hints;
mod kills;
mod octo;
mod pace;
mod quota;
mod rounds;
mod webhooks;
mod world;
mod writes;
