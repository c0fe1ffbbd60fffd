//! Numbers as clients of OAR send them: forms have nothing but text.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// The most digits of a number that is sent as text: more are no number of jobs.
const MAX_DIGITS: usize = 9;

/// A number, or its digits; an empty text is none.
pub(crate) fn number<'de, D: Deserializer<'de>, T: TryFrom<i64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(Digits(PhantomData))
}

/// The same, where none is 0.
pub(crate) fn number_or_0<'de, D: Deserializer<'de>, T: TryFrom<i64> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    number(deserializer).map(Option::unwrap_or_default)
}

struct Digits<T>(PhantomData<T>);

impl<T: TryFrom<i64>> Visitor<'_> for Digits<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of 32 bits")
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, set: bool) -> Result<Option<T>, E> {
        self.visit_i64(i64::from(set))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Option<T>, E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Option<T>, E> {
        let bad = |_| E::invalid_value(Unexpected::Signed(number), &self);
        T::try_from(number).map(Some).map_err(bad)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<T>, E> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_number = digits.len() <= MAX_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_number);
        match number.and_then(|number: i64| T::try_from(number).ok()) {
            None if !text.is_empty() => Err(E::invalid_value(Unexpected::Str(text), &self)),
            number => Ok(number),
        }
    }
}

#[cfg(feature = "openapi")]
mod schema {
    use utoipa::Number;
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};

    /// What [`number`](super::number) takes for one without a sign.
    pub(crate) fn unsigned() -> RefOr<Schema> {
        any(0_u32.into(), u32::MAX.into(), "^[0-9]{0,9}$")
    }

    /// What it takes for one with a sign.
    pub(crate) fn signed() -> RefOr<Schema> {
        any(i32::MIN.into(), i32::MAX.into(), "^(-?[0-9]{1,9})?$")
    }

    fn any(minimum: Number, maximum: Number, pattern: &str) -> RefOr<Schema> {
        let of = |kind: Type| ObjectBuilder::new().schema_type(kind);
        let integer = of(Type::Integer).minimum(Some(minimum)).maximum(Some(maximum));
        let number = AnyOfBuilder::new()
            .item(integer)
            .item(of(Type::String).pattern(Some(pattern)))
            .item(of(Type::Boolean))
            .item(of(Type::Null));
        Schema::from(number.build()).into()
    }
}

#[cfg(feature = "openapi")]
pub(crate) use schema::{signed, unsigned};

#[cfg(test)]
mod tests {
    use crate::agent::SetState;
    use crate::job::SubmitJob;

    #[test]
    fn numbers_may_be_texts_of_digits() {
        let job = |array: &str| {
            let text = format!(r#"{{"command":"x","array":{array}}}"#);
            serde_json::from_str::<SubmitJob>(&text).map(|job| job.array)
        };
        assert_eq!(job("7").unwrap(), Some(7));
        assert_eq!(job(r#""7""#).unwrap(), Some(7));
        assert_eq!(job("true").unwrap(), Some(1));
        assert_eq!(job(r#""""#).unwrap(), None);
        assert_eq!(job("null").unwrap(), None);
        for bad in ["-1", r#""-1""#, "4294967296", r#""1234567890""#, "1.5", r#""+1""#, r#"" 1""#] {
            assert!(job(bad).is_err(), "{bad}");
        }
        let report = r#"{"state":"terminated","generation":"2","exit_code":"-1"}"#;
        let report: SetState = serde_json::from_str(report).unwrap();
        assert_eq!((report.generation, report.exit_code), (2, Some(-1)));
    }
}
