//! Who a user is to the server.

use std::fmt;

use coordinator_core::Actor;

/// The name of OAR's administrator: it orders, it submits nothing.
pub const ADMINISTRATOR: &str = "oar";

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Submits jobs, and orders about their own.
    User,
    /// Orders about all jobs and nodes, too.
    Operator,
    /// Sees and changes the server's settings, too.
    Admin,
}

impl Role {
    /// As it is stored and written.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Of a stored name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::User, Self::Operator, Self::Admin].into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A user who has proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

impl User {
    /// On whose order something is done of a job.
    pub fn actor(&self) -> Actor {
        Actor { name: self.name.clone(), is_operator: self.role >= Role::Operator }
    }
}
