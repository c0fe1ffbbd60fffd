//! On whose order something is done.

/// Who orders something of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The user's name.
    pub name: String,
    /// An operator: other users' jobs are theirs to order about, too.
    pub is_operator: bool,
}

impl Actor {
    /// A user with no rights but those over their own jobs.
    pub fn user(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_operator: false }
    }

    /// An operator.
    pub fn operator(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_operator: true }
    }

    /// May order about what belongs to `owner`.
    pub fn may(&self, owner: &str) -> bool {
        self.is_operator || self.name == owner
    }
}
