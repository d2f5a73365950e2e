//! Values of settings, from a file or a variable, handed to `serde`.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Value<'a> {
    /// File and line, or variable.
    pub(super) place: String,
    pub(super) content: Content<'a>,
}

#[derive(Debug)]
pub(super) enum Content<'a> {
    File(Spanned<DeValue<'a>>),
    Variable(String),
}

/// Why a value was refused, and where it stands.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) place: Option<String>,
    pub(super) message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: std::fmt::Display>(message: T) -> Fault {
        Fault { place: None, message: message.to_string() }
    }

    fn missing_field(field: &'static str) -> Fault {
        de::Error::custom(format!("the setting {field} is missing"))
    }
}

impl<'a> Value<'a> {
    /// Reads it as what `seed` wants. `name` is the setting's.
    pub(super) fn read<T: DeserializeSeed<'a>>(self, name: &str, seed: T) -> Result<T::Value, Fault> {
        let value = match self.content {
            Content::File(value) => seed
                .deserialize(ValueDeserializer::from(value))
                .map_err(|error| de::Error::custom(error.message())),
            Content::Variable(text) => seed.deserialize(VariableText(&text)),
        };
        value.map_err(|fault: Fault| {
            // A message about a value may repeat it (R21).
            let message = if is_secret(name) { "it must be a text".to_owned() } else { fault.message };
            Fault { place: Some(self.place), message: format!("{name}: {message}") }
        })
    }
}

/// Whether a setting's value must not be printed.
fn is_secret(name: &str) -> bool {
    ["secret", "pass", "token", "connection"].iter().any(|part| name.contains(part))
        && !name.ends_with("-file")
}

/// The text of a variable: a number, a truth value, a list or a text, as the setting wants.
struct VariableText<'t>(&'t str);

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty, $what:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let value = self.0.trim().parse::<$type>();
            visitor.$visit(value.map_err(|_| de::Error::custom(format!(concat!("\"{}\" is not ", $what), self.0)))?)
        })*
    };
}

impl<'de> Deserializer<'de> for VariableText<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(self.0)
    }

    parsed! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_i8 visit_i64 i64, "a whole number";
        deserialize_i16 visit_i64 i64, "a whole number";
        deserialize_i32 visit_i64 i64, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u64 u64, "a whole number";
        deserialize_u16 visit_u64 u64, "a whole number";
        deserialize_u32 visit_u64 u64, "a whole number";
        deserialize_u64 visit_u64 u64, "a whole number";
        deserialize_f32 visit_f64 f64, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let parts = self.0.split(',').map(str::trim).filter(|part| !part.is_empty());
        visitor.visit_seq(de::value::SeqDeserializer::new(parts.map(VariableText)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let text: StrDeserializer<'_, Fault> = self.0.trim().into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Fault> for VariableText<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
