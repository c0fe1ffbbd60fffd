//! The answers that routes refuse with. Their body is OAR's.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{RefOr, Response, ResponseBuilder};

/// A refusal: its name here, its status, and when it comes.
macro_rules! refusals {
    ($($name:ident, $status:literal, $when:literal;)*) => {$(
        #[doc = $when]
        pub(in crate::http) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                let refusal = ResponseBuilder::new().description($when).build();
                BTreeMap::from([($status.to_owned(), refusal.into())])
            }
        }
    )*};
}

refusals! {
    Refused, "400", "The request is not understood, or cannot be done";
    Unknown, "401", "Nobody is named, or nobody who may do this";
    Denied, "403", "It is another's, or nobody may do this";
    Absent, "404", "There is no such thing";
    Disabled, "405", "This server does not do this";
    Conflict, "409", "Something else is true already";
    TooLarge, "413", "The body is too long";
    WrongHash, "422", "The archive does not have the hash that it was announced with";
    Full, "507", "There is no space left";
}
