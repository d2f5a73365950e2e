//! A certificate, as far as we must look into it ourselves.
//!
//! `rustls` reads certificates of X.509 version 3 only, and only for a subject's alternative names. PostgreSQL's own
//! documentation makes server certificates with `openssl x509 -req`, which gives version 1 and nothing but a common name, and
//! libpq takes them.
//!
//! <https://www.rfc-editor.org/rfc/rfc5280#section-4.1>

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetStringRef, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use rustls::pki_types::UnixTime;

/// The version a certificate without a version has.
pub(super) const VERSION_1: u8 = 1;

/// The parts of a certificate, in place.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// 1, 2 or 3.
    pub(super) version: u8,
    /// What is signed.
    pub(super) signed: &'a [u8],
    /// How it is signed: the inside of an `AlgorithmIdentifier`.
    pub(super) signature_algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    /// The name of who signed it, as DER.
    pub(super) issuer: &'a [u8],
    /// The name of whose it is, as DER.
    pub(super) subject: &'a [u8],
    /// When it begins and ceases to be valid, in seconds since 1970.
    validity: (u64, u64),
    pub(super) public_key: PublicKey<'a>,
    extensions: Vec<(ObjectIdentifier, &'a [u8])>,
}

/// A public key.
#[derive(Debug)]
pub(super) struct PublicKey<'a> {
    /// The whole `SubjectPublicKeyInfo`.
    pub(super) der: &'a [u8],
    /// Its kind: the inside of an `AlgorithmIdentifier`.
    pub(super) algorithm: &'a [u8],
    pub(super) bits: &'a [u8],
}

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const ALTERNATIVE_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const DNS_NAME: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(2) };
const IP_ADDRESS: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(7) };

/// A subject's name beside its common name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AlternativeName<'a> {
    Dns(&'a [u8]),
    /// Four or sixteen bytes.
    Ip(&'a [u8]),
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(der: &'a [u8]) -> der::Result<Certificate<'a>> {
        let mut reader = SliceReader::new(der)?;
        let certificate = reader.sequence(|reader| {
            let signed = reader.tlv_bytes()?;
            let signature_algorithm = inside_sequence(reader)?;
            let signature = BitStringRef::decode(reader)?.raw_bytes();
            let mut certificate = parse_signed(signed)?;
            certificate.signature_algorithm = signature_algorithm;
            certificate.signature = signature;
            Ok::<_, der::Error>(certificate)
        })?;
        reader.finish()?;
        Ok(certificate)
    }

    pub(super) fn is_valid_at(&self, now: UnixTime) -> bool {
        (self.validity.0..=self.validity.1).contains(&now.as_secs())
    }

    /// Whether it may sign others: it says so, or is too old to be able to say.
    pub(super) fn is_authority(&self) -> bool {
        match self.extension(BASIC_CONSTRAINTS) {
            Some(constraints) => is_authority(constraints).unwrap_or(false),
            None => self.version == VERSION_1,
        }
    }

    /// The subject's alternative names, of the kinds that hosts have.
    pub(super) fn alternative_names(&self) -> der::Result<Vec<AlternativeName<'a>>> {
        let Some(extension) = self.extension(ALTERNATIVE_NAMES) else { return Ok(Vec::new()) };
        SliceReader::new(extension)?.sequence(|reader| {
            let mut names = Vec::new();
            while !reader.is_finished() {
                let name = AnyRef::decode(reader)?;
                match name.tag() {
                    DNS_NAME => names.push(AlternativeName::Dns(name.value())),
                    IP_ADDRESS => names.push(AlternativeName::Ip(name.value())),
                    _ => {}
                }
            }
            Ok(names)
        })
    }

    /// The first common name of the subject, as bytes.
    pub(super) fn common_name(&self) -> der::Result<Option<&'a [u8]>> {
        SliceReader::new(self.subject)?.sequence(|reader| {
            let mut first = None;
            while !reader.is_finished() {
                let set = AnyRef::decode(reader)?;
                set.tag().assert_eq(Tag::Set)?;
                let mut set = SliceReader::new(set.value())?;
                while !set.is_finished() {
                    let (kind, value) = set.sequence(name)?;
                    if kind == COMMON_NAME && first.is_none() {
                        first = Some(value);
                    }
                }
            }
            Ok(first)
        })
    }

    fn extension(&self, kind: ObjectIdentifier) -> Option<&'a [u8]> {
        self.extensions.iter().find(|(known, _)| *known == kind).map(|(_, value)| *value)
    }
}

fn parse_signed(der: &[u8]) -> der::Result<Certificate<'_>> {
    SliceReader::new(der)?.sequence(|reader| {
        let version = match explicit(reader, 0)? {
            Some(version) => u8::from_der(version)?.saturating_add(1),
            None => VERSION_1,
        };
        let _serial_number = reader.tlv_bytes()?;
        let _signature_algorithm = reader.tlv_bytes()?;
        let issuer = reader.tlv_bytes()?;
        let validity = reader.sequence(|reader| Ok::<_, der::Error>((seconds(reader)?, seconds(reader)?)))?;
        let subject = reader.tlv_bytes()?;
        let public_key = public_key(reader.tlv_bytes()?)?;
        let mut extensions = Vec::new();
        while !reader.is_finished() {
            if let Some(list) = explicit(reader, 3)? {
                extensions = parse_extensions(list)?;
            } else {
                let _unique_identifier = reader.tlv_bytes()?;
            }
        }
        let (signature_algorithm, signature) = (&[][..], &[][..]);
        let signed = der;
        Ok(Certificate {
            version,
            signed,
            signature_algorithm,
            signature,
            issuer,
            subject,
            validity,
            public_key,
            extensions,
        })
    })
}

fn public_key(der: &[u8]) -> der::Result<PublicKey<'_>> {
    SliceReader::new(der)?.sequence(|reader| {
        let algorithm = inside_sequence(reader)?;
        Ok(PublicKey { der, algorithm, bits: BitStringRef::decode(reader)?.raw_bytes() })
    })
}

fn parse_extensions(der: &[u8]) -> der::Result<Vec<(ObjectIdentifier, &[u8])>> {
    SliceReader::new(der)?.sequence(|reader| {
        let mut extensions = Vec::new();
        while !reader.is_finished() {
            extensions.push(reader.sequence(|reader| {
                let kind = ObjectIdentifier::decode(reader)?;
                if Tag::peek(reader)? == Tag::Boolean {
                    let _is_critical = bool::decode(reader)?;
                }
                Ok::<_, der::Error>((kind, <&OctetStringRef>::decode(reader)?.as_bytes()))
            })?);
        }
        Ok(extensions)
    })
}

fn is_authority(constraints: &[u8]) -> der::Result<bool> {
    SliceReader::new(constraints)?.sequence(|reader| {
        let authority = !reader.is_finished() && Tag::peek(reader)? == Tag::Boolean && bool::decode(reader)?;
        while !reader.is_finished() {
            let _path_length = reader.tlv_bytes()?;
        }
        Ok(authority)
    })
}

/// A point in time, in either of the forms it may have, in seconds since 1970.
fn seconds<'a>(reader: &mut SliceReader<'a>) -> der::Result<u64> {
    Ok(match Tag::peek(reader)? {
        Tag::UtcTime => UtcTime::decode(reader)?.to_unix_duration().as_secs(),
        _ => GeneralizedTime::decode(reader)?.to_unix_duration().as_secs(),
    })
}

/// The inside of a sequence, unread.
fn inside_sequence<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    let sequence = AnyRef::decode(reader)?;
    sequence.tag().assert_eq(Tag::Sequence)?;
    Ok(sequence.value())
}

/// The inside of an explicit field with this number, if it comes next.
fn explicit<'a>(reader: &mut SliceReader<'a>, number: u32) -> der::Result<Option<&'a [u8]>> {
    let field = Tag::ContextSpecific { constructed: true, number: TagNumber(number) };
    match Tag::peek(reader)? == field {
        true => Ok(Some(AnyRef::decode(reader)?.value())),
        false => Ok(None),
    }
}

/// A kind of name and its text.
fn name<'a>(reader: &mut SliceReader<'a>) -> der::Result<(ObjectIdentifier, &'a [u8])> {
    Ok((ObjectIdentifier::decode(reader)?, AnyRef::decode(reader)?.value()))
}

/// Hash algorithm of an RSA-PSS signature, from its parameters.
pub(super) fn pss_hash(parameters: AnyRef<'_>) -> der::Result<Option<ObjectIdentifier>> {
    parameters.sequence(|reader| {
        let mut hash = None;
        while !reader.is_finished() {
            match explicit(reader, 0)? {
                Some(algorithm) => {
                    let mut algorithm = SliceReader::new(algorithm)?;
                    hash = Some(ObjectIdentifier::decode(&mut SliceReader::new(inside_sequence(
                        &mut algorithm,
                    )?)?)?);
                }
                None => drop(reader.tlv_bytes()?),
            }
        }
        Ok(hash)
    })
}
