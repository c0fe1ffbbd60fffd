//! OAR's paged list.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A page of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct List<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Number of items in the whole list.
    pub total: usize,
    /// Index of the first item of this page.
    pub offset: usize,
    /// `self`, and `next` and `previous` where there are such pages. Empty for an empty list.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Seconds since the Unix epoch. Absent from an empty list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_timestamp: Option<u64>,
}

/// A link of an OAR object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Link {
    /// `self`, `collection`, `member`, `next`, `previous` or `parent`.
    pub rel: Cow<'static, str>,
    /// The path, with the prefix that the client called.
    pub href: String,
    /// What a collection or member holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Cow<'static, str>>,
}
